use super::ObjectRef;
use super::items_up_to;
use crate::view::{Shape, View};

/// ReferenceGrant: who may refer to objects of its namespace from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Who may.
    pub from: Vec<Grantee>,
    /// To what.
    pub to: Vec<Granted>,
}

/// Objects of a kind in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grantee {
    /// The group of their API.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects of a kind in the grant's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The group of their API.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their name; none is all.
    pub name: Option<String>,
}

impl ReferenceGrant {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        const GRANT: Shape = Shape {
            known: &["from", "to"],
            refused: &[],
        };
        const FROM: Shape = Shape {
            known: &["group", "kind", "namespace"],
            refused: &[],
        };
        const TO: Shape = Shape {
            known: &["group", "kind", "name"],
            refused: &[],
        };
        let object = view.object(&GRANT)?;
        object.require("from").zip(object.require("to"))?;
        let from = |view: &View<'_>| {
            let object = view.object(&FROM)?;
            Some(Grantee {
                group: object.require("group")?.text()?,
                kind: object.require("kind")?.some_text()?,
                namespace: object.require("namespace")?.some_text()?,
            })
        };
        let to = |view: &View<'_>| {
            let object = view.object(&TO)?;
            Some(Granted {
                group: object.require("group")?.text()?,
                kind: object.require("kind")?.some_text()?,
                name: object.optional("name", View::some_text)?,
            })
        };
        Some(Self {
            from: items_up_to(&object, "from", 16)
                .iter()
                .filter_map(from)
                .collect(),
            to: items_up_to(&object, "to", 16)
                .iter()
                .filter_map(to)
                .collect(),
        })
    }

    /// Whether it lets objects of a group, a kind and a namespace refer to this one, which is in its own namespace.
    pub fn lets(&self, (group, kind, namespace): (&str, &str, &str), to: &ObjectRef) -> bool {
        let mut from = self.from.iter();
        let mut granted = self.to.iter();
        from.any(|one| one.group == group && one.kind == kind && one.namespace == namespace)
            && granted.any(|one| {
                let is_named = one.name.as_ref().is_none_or(|name| *name == to.name);
                one.group == to.group && one.kind == to.kind && is_named
            })
    }
}
