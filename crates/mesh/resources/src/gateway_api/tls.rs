use std::collections::BTreeMap;

use super::{ObjectRef, items_up_to};
use crate::diagnostic::At;
use crate::view::{Object, Shape, View};

/// `tls` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// It ends here, with these certificates.
    Terminate(Vec<ObjectRef>),
    /// It goes on to where its name says.
    Passthrough,
}

/// `tls.frontend` of a Gateway: what its HTTPS listeners ask of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// `default`.
    default: Option<FrontendValidation>,
    /// `perPort`, which stands in place of it.
    ports: BTreeMap<u16, Option<FrontendValidation>>,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendValidation {
    /// Whom certificates must come from.
    pub authorities: Vec<ObjectRef>,
    /// `AllowInsecureFallback`: clients without a good certificate are let in too.
    pub is_insecure: bool,
    /// Where it is written.
    pub at: At,
}

const OBJECT: Shape = Shape {
    known: &["group", "kind", "namespace", "name"],
    refused: &[],
};

impl ListenerTls {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const TLS: Shape = Shape {
            known: &["mode", "certificateRefs"],
            refused: &[
                ("options", "there are none"),
                (
                    "frontendValidation",
                    "write it in the Gateway's `tls.frontend`, where Gateway API has it by now",
                ),
            ],
        };
        let object = view.object(&TLS)?;
        let modes = [("Terminate", false), ("Passthrough", true)];
        let passes = object.optional("mode", |view| view.choice(&modes))?;
        let certificate = |view: &View<'_>| {
            let object = view.object(&OBJECT)?;
            let mut found = ObjectRef::read(&object, namespace)?;
            if object.get("kind").is_none() {
                "Secret".clone_into(&mut found.kind);
            }
            Some(found)
        };
        let certificates = items_up_to(&object, "certificateRefs", 64);
        let certificates: Vec<_> = certificates
            .iter()
            .map(certificate)
            .collect::<Option<_>>()?;
        Some(match passes.unwrap_or(false) {
            true => Self::Passthrough,
            false => {
                needs_certificates(&object, &certificates);
                Self::Terminate(certificates)
            }
        })
    }
}

fn needs_certificates(object: &Object<'_>, certificates: &[ObjectRef]) {
    if certificates.is_empty() {
        object.fail("`mode: Terminate` needs `certificateRefs`");
    }
}

impl Frontend {
    /// Reads `tls` of a Gateway.
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const TLS: Shape = Shape {
            known: &["frontend"],
            refused: &[(
                "backend",
                "backends get no certificate of the gateway's own: write `tls.mode: MUTUAL` in a DestinationRule",
            )],
        };
        const FRONTEND: Shape = Shape {
            known: &["default", "perPort"],
            refused: &[],
        };
        const PORT: Shape = Shape {
            known: &["port", "tls"],
            refused: &[],
        };
        let Some(frontend) = view
            .object(&TLS)?
            .optional("frontend", |view| view.object(&FRONTEND))?
        else {
            return Some(Self::default());
        };
        let read = |view: &View<'_>| FrontendValidation::read(view, namespace);
        let mut ports = BTreeMap::new();
        for view in items_up_to(&frontend, "perPort", 64) {
            let object = view.object(&PORT)?;
            let port = object.require("port")?.port()?;
            if ports.insert(port, read(object.require("tls")?)?).is_some() {
                object.fail(format!("port {port} is there twice"));
            }
        }
        Some(Self {
            default: read(frontend.require("default")?)?,
            ports,
        })
    }

    /// What is asked of the clients of a port.
    pub fn of_port(&self, port: u16) -> Option<&FrontendValidation> {
        let own = self.ports.get(&port);
        own.unwrap_or(&self.default).as_ref()
    }
}

impl FrontendValidation {
    fn read(view: &View<'_>, namespace: &str) -> Option<Option<Self>> {
        const TLS: Shape = Shape {
            known: &["validation"],
            refused: &[],
        };
        const VALIDATION: Shape = Shape {
            known: &["caCertificateRefs", "mode"],
            refused: &[],
        };
        let Some(view) = view.object(&TLS)?.get("validation").cloned() else {
            return Some(None);
        };
        let object = view.object(&VALIDATION)?;
        object.require("caCertificateRefs")?;
        let authorities = items_up_to(&object, "caCertificateRefs", 8);
        if authorities.is_empty() {
            object.fail("`caCertificateRefs` must have at least one item");
        }
        let modes = [("AllowValidOnly", false), ("AllowInsecureFallback", true)];
        let mode = object.optional("mode", |view| view.choice(&modes))?;
        let authority = |view: &View<'_>| ObjectRef::read(&view.object(&OBJECT)?, namespace);
        Some(Some(Self {
            authorities: authorities.iter().map(authority).collect::<Option<_>>()?,
            is_insecure: mode.unwrap_or(false),
            at: At(view.at()),
        }))
    }
}
