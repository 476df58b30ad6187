use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use periplus_resources::{Diagnostic, Kind, Resource};

/// What is different about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub file: Arc<str>,
    /// What is wrong now, if it was not so before; the last good content stays.
    pub errors: Vec<Diagnostic>,
    /// It was wrong and is right again.
    pub fixed: bool,
    counts: BTreeMap<Kind, Counts>,
    mesh_config: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    added: usize,
    changed: usize,
    removed: usize,
}

impl Change {
    pub(super) fn broken(file: Arc<str>, errors: Vec<Diagnostic>) -> Self {
        Self {
            file,
            errors,
            ..Self::default()
        }
    }

    pub(super) fn mesh_config(file: Arc<str>, changed: bool, fixed: bool) -> Self {
        Self {
            file,
            fixed,
            mesh_config: changed,
            ..Self::default()
        }
    }

    /// Compares by kind, namespace and name; a resource that only moved has not changed.
    pub fn between(file: Arc<str>, before: &[Resource], after: &[Resource]) -> Self {
        let mut counts: BTreeMap<Kind, Counts> = BTreeMap::new();
        let named = |resource: &Resource| {
            let meta = &resource.meta;
            (meta.kind, meta.namespace.clone(), meta.name.clone())
        };
        let mut old = HashMap::new();
        for resource in before {
            old.entry(named(resource)).or_insert(resource);
        }
        let new: HashSet<_> = after.iter().map(named).collect();
        for resource in after {
            match old.get(&named(resource)) {
                None => counts.entry(resource.meta.kind).or_default().added += 1,
                Some(old) if is_other(old, resource) => {
                    counts.entry(resource.meta.kind).or_default().changed += 1;
                }
                Some(_) => {}
            }
        }
        for resource in before {
            if !new.contains(&named(resource)) {
                counts.entry(resource.meta.kind).or_default().removed += 1;
            }
        }
        Self {
            file,
            counts,
            ..Self::default()
        }
    }

    /// How many resources of each kind are new, gone, or others than before.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Kind, usize)> {
        let counts = self.counts.iter();
        counts.map(|(kind, counts)| (*kind, counts.added + counts.changed + counts.removed))
    }

    pub(crate) fn is_of_mesh_config(&self) -> bool {
        self.mesh_config
    }

    /// Whether anything else holds now.
    pub fn took_effect(&self) -> bool {
        !self.counts.is_empty() || self.mesh_config
    }

    /// Whether only the text is different, not what it says.
    pub fn is_nothing(&self) -> bool {
        !self.took_effect() && self.errors.is_empty() && !self.fixed
    }
}

/// Whether a resource says something else, wherever it is written.
fn is_other(old: &Resource, new: &Resource) -> bool {
    old.spec != new.spec
        || old.meta.labels != new.meta.labels
        || old.meta.annotations != new.meta.annotations
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.fixed {
            parts.push("right again".to_owned());
        }
        if self.mesh_config {
            parts.push("mesh configuration changed".to_owned());
        }
        for (kind, counts) in &self.counts {
            let count = |n: usize, what: &str| match n {
                0 => None,
                1 => Some(format!("1 {kind} {what}")),
                n => Some(format!("{n} {} {what}", plural(*kind))),
            };
            parts.extend(count(counts.added, "added"));
            parts.extend(count(counts.changed, "changed"));
            parts.extend(count(counts.removed, "removed"));
        }
        match self.errors.len() {
            0 => {}
            1 => parts.push("1 error, the last good content stays".to_owned()),
            n => parts.push(format!("{n} errors, the last good content stays")),
        }
        write!(f, "{}: {}", self.file, parts.join(", "))
    }
}

/// `2 WorkloadEntries`
pub(crate) fn plural(kind: Kind) -> String {
    let name = kind.name();
    match name.strip_suffix('y').filter(|stem| !stem.ends_with('a')) {
        Some(stem) => format!("{stem}ies"),
        None if name.ends_with('s') => format!("{name}es"),
        None => format!("{name}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use periplus_resources::parse_resources;

    fn workload(name: &str, address: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\n\
             spec: {{address: {address}}}\n---\n"
        )
    }

    fn parse(text: &str) -> Vec<Resource> {
        parse_resources("a.yaml", text).resources
    }

    #[test]
    fn says_what_is_different() {
        let before = parse(&[workload("a", "10.0.0.1"), workload("b", "10.0.0.1")].concat());
        let after = parse(
            &[
                "# moved by a line\n".to_owned(),
                workload("b", "10.0.0.2"),
                workload("c", "10.0.0.1"),
                workload("d", "10.0.0.1"),
            ]
            .concat(),
        );
        let change = Change::between(Arc::from("a.yaml"), &before, &after);
        assert_eq!(
            change.to_string(),
            "a.yaml: 2 WorkloadEntries added, 1 WorkloadEntry changed, 1 WorkloadEntry removed"
        );
        let moved = parse(&["\n\n".to_owned(), workload("a", "10.0.0.1")].concat());
        let there = parse(&workload("a", "10.0.0.1"));
        assert!(Change::between(Arc::from("a.yaml"), &there, &moved).is_nothing());
    }
}
