//! What holds of a file: its documents that are right, and of those that are wrong the last good form.
//!
//! A document that is gone takes its resource with it, unless another one has become wrong since: that may be it under a
//! name that nobody can read, or the file may be half-written. Then nothing goes until that one is right, or gone too.
//! What was wrong already when the file was read for the first time holds up nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use periplus_resources::{Diagnostic, Kind, Parsed, Refused, Resource};

use super::at_start;
use crate::index::{About, Problem};

/// What a document says that it is; of one that is wrong, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    kind: Option<Kind>,
    namespace: String,
    name: Option<String>,
}

/// What holds of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    resources: Vec<Resource>,
    /// The documents that are wrong.
    refused: Vec<Refused>,
    /// Those of them that have become wrong after something of the file was right.
    recent: BTreeSet<Name>,
    /// Of the resources those that the file no longer has.
    missing: BTreeSet<Name>,
    /// The file cannot be told apart into documents now.
    is_unread: bool,
}

impl Content {
    /// What holds.
    pub(super) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Takes what the file says now. Gives what held before.
    pub(super) fn take(&mut self, parsed: Parsed) -> Vec<Resource> {
        let known: BTreeSet<Name> = self.refused.iter().map(Name::from).collect();
        let refused: BTreeSet<Name> = parsed.refused.iter().map(Name::from).collect();
        let good: BTreeSet<Name> = parsed.resources.iter().map(Name::from).collect();
        let before = std::mem::replace(&mut self.resources, parsed.resources);
        self.recent.retain(|one| refused.contains(one));
        if !before.is_empty() {
            self.recent.extend(refused.difference(&known).cloned());
        }
        self.missing.clear();
        for old in &before {
            let name = Name::from(old);
            // Of those without effect nothing has to stay.
            if good.contains(&name) || old.meta.kind == Kind::Other {
                continue;
            }
            if !refused.contains(&name) {
                if self.recent.is_empty() {
                    continue;
                }
                self.missing.insert(name);
            }
            self.resources.push(old.clone());
        }
        self.refused = parsed.refused;
        self.is_unread = false;
        before
    }

    /// The file cannot be read: all stays.
    pub(super) fn leave(&mut self) {
        self.is_unread = true;
    }

    /// Whether there are documents that may be policies.
    pub(super) fn hides_policies(&self) -> bool {
        self.refused.iter().any(|one| one.may_be_policy)
    }

    /// Whether there are such of which nobody has read any form.
    pub(super) fn lacks_policies(&self) -> bool {
        let held = self.held();
        let mut policies = self.refused.iter().filter(|one| one.may_be_policy);
        policies.any(|one| !held.contains(&Name::from(one)))
    }

    /// The resources that hold in another form than the file has, or although it has none.
    pub(super) fn last_good(&self) -> Vec<About> {
        let held = self.held();
        if self.is_unread {
            return held.iter().filter_map(Name::about).collect();
        }
        let wrong: BTreeSet<Name> = self.refused.iter().map(Name::from).collect();
        let wrong = wrong.iter().filter(|name| held.contains(name));
        let all = wrong.chain(&self.missing);
        all.filter_map(Name::about).collect()
    }

    /// What is wrong with the file, each with the resource that it is about, and what holds though it is gone.
    pub(super) fn problems<'a>(
        &'a self,
        file: &'a Arc<str>,
        errors: &'a [Diagnostic],
    ) -> impl Iterator<Item = Problem> + 'a {
        let about = |error: &Diagnostic| {
            let mut documents = self.refused.iter().rev();
            let document = documents.find(|one| one.at <= error.position && !self.is_unread)?;
            Name::from(document).about()
        };
        let errors = errors
            .iter()
            .map(move |error| Problem::of_document(error.clone(), about(error)));
        let holds = self.missing.iter().filter_map(move |name| {
            let about = name.about()?;
            let message = format!(
                "{about} is no longer in the file and holds all the same, until what is wrong with the file is right or \
                 removed, which may be meant to be in its place"
            );
            let error = at_start(file, message);
            Some(Problem::of_document(error, Some(about)))
        });
        errors.chain(holds)
    }

    fn held(&self) -> BTreeSet<Name> {
        self.resources.iter().map(Name::from).collect()
    }
}

impl Name {
    fn about(&self) -> Option<About> {
        Some(About {
            kind: self.kind?,
            namespace: self.namespace.clone(),
            name: self.name.clone()?,
        })
    }
}

impl From<&Resource> for Name {
    fn from(Resource { meta, .. }: &Resource) -> Self {
        Self {
            kind: Some(meta.kind),
            namespace: meta.namespace.clone(),
            name: Some(meta.name.clone()),
        }
    }
}

impl From<&Refused> for Name {
    fn from(refused: &Refused) -> Self {
        Self {
            kind: refused.kind,
            namespace: refused.namespace.clone(),
            name: refused.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use periplus_resources::parse_resources;

    use super::*;

    /// What `b!` and its like stand for: a workload `b` that is wrong, wrong in another way, without a name or kind.
    fn document(said: &str) -> String {
        let name = said.trim_end_matches(|c: char| !c.is_alphanumeric());
        let right = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\n\
             spec: {{address: 10.0.0.1}}\n---\n"
        );
        match &said[name.len()..] {
            "" => right,
            "!" => right.replace("10.0.0.1", "no:where"),
            "!!" => right.replace("address", "adress"),
            "?" => right.replace("name", "nam"),
            "??" => right.replace("WorkloadEntry", "WorkloadEntri"),
            other => panic!("{other}"),
        }
    }

    /// Each edit of one file, with what holds then: what holds in its last good form in brackets, what is no longer in
    /// the file with a `-`.
    #[test]
    fn a_wrong_document_refuses_itself_alone() {
        let mut content = Content::default();
        for (what, documents, expected) in [
            ("wrong from the first", "z! a b", "a b"),
            ("that holds up nothing", "z! a", "a"),
            ("one more", "z! a b c", "a b c"),
            ("one wrong", "a b! c", "a (b) c"),
            ("and one gone, maybe half-written", "a b!", "a (b) -c"),
            ("wrong in another way", "a b!!", "a (b) -c"),
            ("right again: it is gone indeed", "a b", "a b"),
            ("renamed and wrong", "d! b", "b -a"),
            ("back under its name", "d! a b", "a b"),
            ("the wrong one removed", "b a", "a b"),
            ("renamed and right", "c b", "b c"),
            ("its name unreadable", "c? b", "b -c"),
            ("its kind unreadable", "c?? b", "b -c"),
            ("all removed but one", "b", "b"),
        ] {
            let text: String = documents.split(' ').map(document).collect();
            content.take(parse_resources("a.yaml", &text));
            let last_good = content.last_good();
            let shown = |one: &Resource| {
                let name = Name::from(one);
                let is_missing = content.missing.contains(&name);
                let is_old = last_good
                    .iter()
                    .any(|about| name.about().as_ref() == Some(about));
                match (is_missing, is_old) {
                    (true, _) => format!("-{}", one.meta.name),
                    (false, true) => format!("({})", one.meta.name),
                    (false, false) => one.meta.name.clone(),
                }
            };
            let mut holds: Vec<String> = content.resources().iter().map(shown).collect();
            holds.sort_by_key(|one| (one.starts_with('-'), one.replace(['(', ')'], "")));
            assert_eq!(holds.join(" "), expected, "{what}");
        }
        let before = content.resources().to_vec();
        content.leave();
        assert_eq!(content.resources(), before, "no YAML at all");
        assert_eq!(content.last_good().len(), 1);
    }
}
