use std::collections::BTreeMap;

use crate::meta::Labels;
use crate::target::read_match_labels;
use crate::view::{Shape, View};

/// What workloads with some labels ask of those that connect to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// The workloads' labels; none is all of the namespace, and of the mesh in its root namespace.
    pub selector: Labels,
    /// What is asked; `None` is what is asked of the namespace, or of the mesh.
    pub mode: Option<MutualTls>,
    /// The same for ports of the workload, which need not be those of its services.
    pub ports: BTreeMap<u16, Option<MutualTls>>,
}

/// `mtls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutualTls {
    /// `DISABLE`: plaintext.
    Disable,
    /// `PERMISSIVE`: either.
    Permissive,
    /// `STRICT`: mutual TLS.
    Strict,
}

const AUTHENTICATION: Shape = Shape {
    known: &["selector", "mtls", "portLevelMtls"],
    refused: &[],
};

impl PeerAuthentication {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&AUTHENTICATION)?;
        let selector = read_match_labels(&object)?;
        let mut ports = BTreeMap::new();
        if let Some(view) = object.get("portLevelMtls") {
            if selector.is_empty() {
                view.fail("ports are those of workloads: select them with `selector`");
            }
            for (key, mode) in view.entries() {
                let number = key.text.parse::<u16>().ok().filter(|number| *number > 0);
                match number {
                    Some(number) => ports.insert(number, read_mode(&mode)?),
                    None => {
                        mode.fail(format!(
                            "`{}` is no port: use a number up to 65535",
                            key.text
                        ));
                        return None;
                    }
                };
            }
        }
        Some(Self {
            mode: object.optional("mtls", read_mode)?.flatten(),
            selector,
            ports,
        })
    }
}

fn read_mode(view: &View<'_>) -> Option<Option<MutualTls>> {
    const MTLS: Shape = Shape {
        known: &["mode"],
        refused: &[],
    };
    let modes = [
        ("UNSET", None),
        ("DISABLE", Some(MutualTls::Disable)),
        ("PERMISSIVE", Some(MutualTls::Permissive)),
        ("STRICT", Some(MutualTls::Strict)),
    ];
    let object = view.object(&MTLS)?;
    Some(
        object
            .optional("mode", |mode| mode.choice(&modes))?
            .flatten(),
    )
}
