use super::{ObjectRef, items_up_to};
use crate::diagnostic::At;
use crate::view::{Shape, View};

/// BackendTLSPolicy: how a gateway speaks TLS to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// The services that it is for.
    pub targets: Vec<PolicyTarget>,
    /// Whom it believes; none is the system's authorities.
    pub authorities: Vec<ObjectRef>,
    /// The name that backends are asked for, and show unless `names` says others.
    pub hostname: String,
    /// Names, one of which backends must show.
    pub names: Vec<String>,
}

/// One of `targetRefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTarget {
    /// The group of its API.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name; it is in the policy's own namespace.
    pub name: String,
    /// The name of its port; none is all of them.
    pub section: Option<String>,
    /// Where it is written.
    pub at: At,
}

impl BackendTlsPolicy {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const POLICY: Shape = Shape {
            known: &["targetRefs", "validation"],
            refused: &[("options", "there are none")],
        };
        const VALIDATION: Shape = Shape {
            known: &[
                "caCertificateRefs",
                "wellKnownCACertificates",
                "hostname",
                "subjectAltNames",
            ],
            refused: &[],
        };
        const AUTHORITY: Shape = Shape {
            known: &["group", "kind", "name"],
            refused: &[],
        };
        let object = view.object(&POLICY)?;
        object.require("targetRefs")?;
        let targets = items_up_to(&object, "targetRefs", 16);
        let validation = object.require("validation")?.object(&VALIDATION)?;
        let authorities = items_up_to(&validation, "caCertificateRefs", 8);
        let system = validation.optional("wellKnownCACertificates", |view| {
            view.choice(&[("System", ())])
        })?;
        if authorities.is_empty() == system.is_none() {
            validation.fail("expected one of `caCertificateRefs` and `wellKnownCACertificates`");
            return None;
        }
        let host = validation.require("hostname")?;
        let hostname = host.host()?;
        if hostname.is_wildcard() {
            host.fail("backends are asked for one name, not for a wildcard");
            return None;
        }
        let authority = |view: &View<'_>| ObjectRef::read(&view.object(&AUTHORITY)?, namespace);
        let names = items_up_to(&validation, "subjectAltNames", 5);
        Some(Self {
            targets: targets
                .iter()
                .map(PolicyTarget::read)
                .collect::<Option<_>>()?,
            authorities: authorities.iter().map(authority).collect::<Option<_>>()?,
            hostname: hostname.to_string(),
            names: names.iter().map(read_name).collect::<Option<_>>()?,
        })
    }
}

impl PolicyTarget {
    fn read(view: &View<'_>) -> Option<Self> {
        const TARGET: Shape = Shape {
            known: &["group", "kind", "name", "sectionName"],
            refused: &[],
        };
        let object = view.object(&TARGET)?;
        Some(Self {
            group: object.require("group")?.text()?,
            kind: object.require("kind")?.some_text()?,
            name: object.require("name")?.some_text()?,
            section: object.optional("sectionName", View::some_text)?,
            at: At(view.at()),
        })
    }
}

/// A name of DNS, or a URI, as certificates have them.
fn read_name(view: &View<'_>) -> Option<String> {
    const NAME: Shape = Shape {
        known: &["type", "hostname", "uri"],
        refused: &[],
    };
    let object = view.object(&NAME)?;
    let is_uri = object
        .require("type")?
        .choice(&[("Hostname", false), ("URI", true)])?;
    let (field, other) = match is_uri {
        true => ("uri", "hostname"),
        false => ("hostname", "uri"),
    };
    if object.get(other).is_some() {
        object.fail(format!("`{other}` does not go with this `type`"));
        return None;
    }
    let value = object.require(field)?;
    if !is_uri {
        let host = value.host()?;
        if host.is_wildcard() {
            value.fail("wildcards are not supported: write the whole name");
            return None;
        }
        return Some(host.to_string());
    }
    let uri = value.some_ascii()?;
    if !uri.contains("://") {
        value.fail(format!("`{uri}` is no URI: it has no scheme"));
        return None;
    }
    Some(uri)
}
