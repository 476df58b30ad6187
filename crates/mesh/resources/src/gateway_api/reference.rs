use super::GROUP;
use super::filter::Filters;
use crate::diagnostic::At;
use crate::view::{Object, Shape, View};
use crate::virtual_service::Headers;

/// `parentRefs`: what a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// What it is.
    pub kind: ParentKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The listener of a Gateway; none is all.
    pub section: Option<String>,
    /// The port of its listener, or of a service; none is all.
    pub port: Option<u16>,
    /// Where it is written.
    pub at: At,
}

/// What routes can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParentKind {
    /// A Gateway.
    Gateway,
    /// A service of Kubernetes, whose clients in the mesh are meant.
    Service,
    /// The services of a ServiceEntry, likewise.
    ServiceEntry,
}

/// An object that is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The group of its API; empty is Kubernetes' core.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is referred to.
    pub at: At,
}

/// `backendRefs`: where requests or connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// The object.
    pub object: ObjectRef,
    /// Its port, which services need.
    pub port: Option<u16>,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// What is changed about headers, before what the rule changes.
    pub headers: Headers,
    /// The host that its requests get.
    pub authority: Option<String>,
}

impl ParentKind {
    const ALL: [(&'static str, &'static str, Self); 3] = [
        (GROUP, "Gateway", Self::Gateway),
        ("", "Service", Self::Service),
        ("networking.istio.io", "ServiceEntry", Self::ServiceEntry),
    ];

    /// Its group and its kind, as users write them.
    pub fn names(self) -> (&'static str, &'static str) {
        let mut all = Self::ALL.iter();
        all.find(|(.., kind)| *kind == self)
            .map_or(("", ""), |(group, name, _)| (group, name))
    }
}

impl ParentRef {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const PARENT: Shape = Shape {
            known: &["group", "kind", "namespace", "name", "sectionName", "port"],
            refused: &[],
        };
        let object = view.object(&PARENT)?;
        let group = object.optional("group", View::text)?;
        let kind = object.optional("kind", View::some_text)?;
        let kind = kind.unwrap_or_else(|| "Gateway".to_owned());
        // As in Istio, the kind alone tells where the group is left out, whose default would be Gateway API's.
        let of_group = |of: &str| group.as_deref().is_none_or(|group| group == of);
        let mut known = ParentKind::ALL.iter();
        let known = known.find(|(of, name, _)| of_group(of) && *name == kind);
        let Some((.., known)) = known else {
            object.fail(format!(
                "`{kind}` of group `{}` cannot be a parent here: expected a `Gateway` of `{GROUP}`, a `Service` \
                 of group `\"\"`, or a `ServiceEntry` of `networking.istio.io`",
                group.as_deref().unwrap_or(GROUP)
            ));
            return None;
        };
        let section = object.optional("sectionName", View::some_text)?;
        if section.is_some() && *known != ParentKind::Gateway {
            object.fail("`sectionName` names listeners of a Gateway: give the `port` of a service");
            return None;
        }
        Some(Self {
            kind: *known,
            namespace: object
                .optional("namespace", View::some_text)?
                .unwrap_or_else(|| namespace.to_owned()),
            name: object.require("name")?.some_text()?,
            section,
            port: object.optional("port", View::port)?,
            at: At(view.at()),
        })
    }
}

impl ObjectRef {
    /// Reads the fields of an object that is, unless it says so, a Service of the same namespace.
    pub(super) fn read(object: &Object<'_>, namespace: &str) -> Option<Self> {
        let kind = object.optional("kind", View::some_text)?;
        Some(Self {
            group: object.optional("group", View::text)?.unwrap_or_default(),
            kind: kind.unwrap_or_else(|| "Service".to_owned()),
            namespace: object
                .optional("namespace", View::some_text)?
                .unwrap_or_else(|| namespace.to_owned()),
            name: object.require("name")?.some_text()?,
            at: At(object.view().at()),
        })
    }
}

impl BackendRef {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const BACKEND: Shape = Shape {
            known: &[
                "group",
                "kind",
                "namespace",
                "name",
                "port",
                "weight",
                "filters",
            ],
            refused: &[],
        };
        let object = view.object(&BACKEND)?;
        let weight = object.optional("weight", |view| view.number(0, 1_000_000))?;
        let mut headers = Filters::read_of_backend(&object, namespace)?;
        let authority = headers.take_host();
        let this = Self {
            object: ObjectRef::read(&object, namespace)?,
            port: object.optional("port", View::port)?,
            weight: weight.map_or(1, |weight| weight as u32),
            headers,
            authority,
        };
        this.checked(&object)
    }

    /// A backend without weight and filters, as copies of requests have.
    pub(super) fn read_simple(view: &View<'_>, namespace: &str) -> Option<Self> {
        const BACKEND: Shape = Shape {
            known: &["group", "kind", "namespace", "name", "port"],
            refused: &[],
        };
        let object = view.object(&BACKEND)?;
        let this = Self {
            object: ObjectRef::read(&object, namespace)?,
            port: object.optional("port", View::port)?,
            weight: 1,
            headers: Headers::default(),
            authority: None,
        };
        this.checked(&object)
    }

    fn checked(self, object: &Object<'_>) -> Option<Self> {
        let object_kind = (self.object.group.as_str(), self.object.kind.as_str());
        if object_kind == ("networking.istio.io", "Hostname") && object.get("namespace").is_some() {
            object
                .fail("`namespace` does not go with `kind: Hostname`, whose `name` is a full one");
            return None;
        }
        if self.object.kind == "Service" && self.object.group.is_empty() && self.port.is_none() {
            object.fail("missing field `port`, which a Service needs");
            return None;
        }
        Some(self)
    }
}
