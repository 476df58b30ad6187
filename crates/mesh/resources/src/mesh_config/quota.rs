use std::time::Duration;

use super::provider::read_service;
use crate::diagnostic::At;
use crate::host::Host;
use crate::meta::Labels;
use crate::target::read_match_labels;
use crate::view::{Object, Shape, View};

/// A service that counts the requests of all proxies together: `envoyRateLimitGrpc`. What it is asked about stands
/// here, what the limits are stands in its own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaProvider {
    /// Its name.
    pub name: String,
    /// The service that it is reached by.
    pub service: Host,
    /// The service's port.
    pub port: u16,
    /// Whose limits they are, to the service.
    pub domain: String,
    /// How long it may take.
    pub timeout: Duration,
    /// `failOpen`: what cannot be asked about goes on, as in Envoy.
    pub fails_open: bool,
    /// What it is asked about.
    pub limits: Vec<QuotaLimit>,
    /// Where it is written.
    pub at: At,
}

/// Requests to some workloads, and what tells those apart that are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaLimit {
    /// Those of this namespace; of all without it.
    pub namespace: Option<String>,
    /// Those with these labels.
    pub selector: Labels,
    /// The parts of the descriptor that the service is asked with.
    pub actions: Vec<QuotaAction>,
}

/// A part of a descriptor, under the names of Envoy's actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaAction {
    /// `genericKey`: the same for all requests.
    Generic {
        /// Its key, if it is not `generic_key`.
        key: Option<String>,
        /// Its value.
        value: String,
    },
    /// `requestHeaders`: the value of a header.
    Header {
        /// The header.
        name: String,
        /// The key.
        key: String,
        /// Without the header only this part is missing, otherwise the request is not counted.
        skips: bool,
    },
    /// `remoteAddress`: the client's address.
    RemoteAddress,
    /// `sourceCluster`: the proxy that asks.
    SourceCluster,
    /// `destinationCluster`: where the request goes.
    DestinationCluster,
}

/// Envoy's 20 ms are little where everything shares two cores.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);

const QUOTA: Shape = Shape {
    known: &["service", "port", "domain", "timeout", "failOpen", "limits"],
    refused: &[],
};
const LIMIT: Shape = Shape {
    known: &["namespace", "selector", "actions"],
    refused: &[],
};
const KINDS: &[&str] = &[
    "genericKey",
    "requestHeaders",
    "remoteAddress",
    "sourceCluster",
    "destinationCluster",
];
const ACTION: Shape = Shape {
    known: KINDS,
    refused: &[],
};
const GENERIC: Shape = Shape {
    known: &["descriptorKey", "descriptorValue"],
    refused: &[],
};
const HEADER: Shape = Shape {
    known: &["headerName", "descriptorKey", "skipIfAbsent"],
    refused: &[],
};
const NOTHING: Shape = Shape {
    known: &[],
    refused: &[],
};

impl QuotaProvider {
    pub(super) fn read(name: String, view: &View<'_>) -> Option<Self> {
        let object = view.object(&QUOTA)?;
        let (service, port) = read_service(&object)?;
        let timeout = object.optional("timeout", View::duration)?;
        let fails_open = object.optional("failOpen", View::bool)?;
        let domain = object.require("domain")?.some_text()?;
        let items = object.items("limits");
        if items.is_empty() {
            object.fail("without `limits` the service is asked about nothing");
        }
        Some(Self {
            name,
            service,
            port,
            domain,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            fails_open: fails_open.unwrap_or(true),
            limits: items.iter().filter_map(QuotaLimit::read).collect(),
            at: At(object.view().at()),
        })
    }
}

impl QuotaLimit {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&LIMIT)?;
        let actions = object.items("actions");
        if actions.is_empty() {
            object.fail("`actions` say what is counted together: give at least one");
        }
        Some(Self {
            namespace: object.optional("namespace", View::some_text)?,
            selector: read_match_labels(&object)?,
            actions: actions.iter().filter_map(QuotaAction::read).collect(),
        })
    }
}

impl QuotaAction {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&ACTION)?;
        let kind = match object.present(KINDS).as_slice() {
            [kind] => *kind,
            _ => {
                object.fail(format!("give it one of `{}`", KINDS.join("`, `")));
                return None;
            }
        };
        let nothing = |object: &Object<'_>| object.get(kind)?.object(&NOTHING).map(|_| ());
        Some(match kind {
            "genericKey" => {
                let object = object.get(kind)?.object(&GENERIC)?;
                Self::Generic {
                    key: object.optional("descriptorKey", View::some_text)?,
                    value: object.require("descriptorValue")?.some_text()?,
                }
            }
            "requestHeaders" => {
                let object = object.get(kind)?.object(&HEADER)?;
                let skips = object.optional("skipIfAbsent", View::bool)?;
                Self::Header {
                    name: object.require("headerName")?.some_ascii()?,
                    key: object.require("descriptorKey")?.some_text()?,
                    skips: skips.unwrap_or(false),
                }
            }
            "remoteAddress" => {
                nothing(&object)?;
                Self::RemoteAddress
            }
            "sourceCluster" => {
                nothing(&object)?;
                Self::SourceCluster
            }
            _ => {
                nothing(&object)?;
                Self::DestinationCluster
            }
        })
    }
}
