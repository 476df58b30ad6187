use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::diagnostic::Position;
use crate::kind::Kind;
use crate::view::{Object, Shape, View};

/// Labels of a workload, or a selector over them.
pub type Labels = BTreeMap<String, String>;

/// Where a resource was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The file.
    pub file: Arc<str>,
    /// Where its document begins.
    pub position: Position,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position.line)
    }
}

/// `metadata` and what else all resources have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its kind.
    pub kind: Kind,
    /// Its name, unique in its namespace among those of its kind.
    pub name: String,
    /// Its namespace; `default` when the file does not say.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// `metadata.creationTimestamp`, whose order is that of time; none if nobody has written it.
    pub created: Option<String>,
    /// `metadata.generation`; 0 if nobody has counted.
    pub generation: i64,
    /// Where it was read.
    pub source: Source,
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Names that Kubernetes itself puts into `metadata`; they say nothing to the mesh.
const METADATA: Shape = Shape {
    known: &[
        "name",
        "namespace",
        "labels",
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ],
    refused: &[],
};

/// Reads `metadata`.
pub(crate) fn read_meta(kind: Kind, document: &Object<'_>) -> Option<Meta> {
    let metadata = document.require("metadata")?.object(&METADATA)?;
    // What Kubernetes has made of a template has both.
    if let (Some(template), None) = (metadata.get("generateName"), metadata.get("name")) {
        template.fail("`generateName` is not supported: files need stable names, use `name`");
        return None;
    }
    let name = read_name(metadata.require("name")?)?;
    let namespace = metadata
        .optional("namespace", read_name)?
        .unwrap_or_else(|| "default".to_owned());
    Some(Meta {
        kind,
        name,
        namespace,
        labels: metadata
            .get("labels")
            .map(View::text_map)
            .unwrap_or_default(),
        annotations: metadata
            .get("annotations")
            .map(View::text_map)
            .unwrap_or_default(),
        created: metadata.optional("creationTimestamp", View::text)?,
        generation: metadata
            .optional("generation", |view| view.number(0, i64::MAX))?
            .unwrap_or_default(),
        source: Source {
            file: document.view().log().file(),
            position: document.view().at(),
        },
    })
}

fn read_name(view: &View<'_>) -> Option<String> {
    let name = view.text()?;
    check_name(view, &name).then_some(name)
}

/// Whether a text can be the name of a resource or a namespace; it is said if not.
pub(crate) fn check_name(view: &View<'_>, name: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let mut chars = name.chars();
    if !name.chars().all(valid) || !ends(chars.next()) || !ends(name.chars().last()) {
        view.fail(format!(
            "`{name}` is no valid name: use lower-case letters, digits, `-` and `.`, \
             and begin and end with a letter or digit"
        ));
        return false;
    }
    if name.len() > 253 {
        view.fail("the name is longer than 253 characters");
        return false;
    }
    true
}

/// Reads a `workloadSelector`.
pub(crate) fn read_selector(view: &View<'_>) -> Option<Labels> {
    const SELECTOR: Shape = Shape {
        known: &["labels"],
        refused: &[],
    };
    let selector = view.object(&SELECTOR)?;
    let labels = selector
        .get("labels")
        .map(View::text_map)
        .unwrap_or_default();
    for (key, value) in &labels {
        if key.contains('*') || value.contains('*') {
            view.fail(format!(
                "`{key}: {value}`: wildcards are not allowed in selectors"
            ));
            return None;
        }
    }
    Some(labels)
}

/// `exportTo`: the namespaces whose proxies see a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportTo {
    /// Not said: what the mesh configuration says of its kind, else `*`.
    #[default]
    Unsaid,
    /// `*`.
    All,
    /// These; `.` is the resource's own.
    Namespaces(Vec<String>),
}

impl ExportTo {
    /// Whether proxies in `namespace` see a resource of the namespace `own`.
    pub fn reaches(&self, own: &str, namespace: &str) -> bool {
        match self {
            Self::Unsaid | Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| match name.as_str() {
                "." => own == namespace,
                name => name == namespace,
            }),
        }
    }

    /// What it is where another one holds if nobody says it.
    pub fn or(&mut self, default: &Self) {
        if *self == Self::Unsaid {
            self.clone_from(default);
        }
    }

    /// Whether all namespaces see the resource.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::Unsaid | Self::All)
    }

    pub(crate) fn read(object: &Object<'_>) -> Self {
        Self::read_field(object, "exportTo")
    }

    pub(crate) fn read_field(object: &Object<'_>, field: &str) -> Self {
        let mut names = Vec::new();
        for item in object.items(field) {
            match item.text().as_deref() {
                Some("*") => return Self::All,
                Some("~") => return Self::Namespaces(Vec::new()),
                Some(name) if name == "." || check_name(&item, name) => {
                    names.push(name.to_owned());
                }
                Some(_) | None => {}
            }
        }
        if names.is_empty() {
            Self::Unsaid
        } else {
            Self::Namespaces(names)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_reaches_namespaces() {
        let own = ExportTo::Namespaces(vec![".".into(), "shop".into()]);
        assert!(own.reaches("a", "a"));
        assert!(own.reaches("a", "shop"));
        assert!(!own.reaches("a", "b"));
        assert!(ExportTo::All.reaches("a", "b"));
    }
}
