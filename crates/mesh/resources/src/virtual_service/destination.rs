use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Headers;
use crate::diagnostic::At;
use crate::host::Host;
use crate::view::{Shape, View};

/// A destination and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedDestination {
    /// The destination.
    pub destination: Destination,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// What is changed about headers, before what the rule changes.
    pub headers: Headers,
    /// The host that its requests get.
    pub authority: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The service; a short name is resolved already.
    pub host: Host,
    /// The subset of its workloads; empty is all.
    pub subset: String,
    /// The service's port; may be left out when it has only one.
    pub port: Option<u16>,
    /// Where it is written.
    pub at: At,
}

/// An answer that no workload gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// The status code.
    pub status: u16,
    /// The body; may be empty.
    pub body: String,
}

const WEIGHTED: Shape = Shape {
    known: &["destination", "weight", "headers"],
    refused: &[],
};

const DESTINATION: Shape = Shape {
    known: &["host", "subset", "port"],
    refused: &[],
};

impl Destination {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const PORT: Shape = Shape {
            known: &["number"],
            refused: &[],
        };
        let object = view.object(&DESTINATION)?;
        let host = object.require("host")?;
        let name = host.host()?;
        if name.as_str() == "*" {
            host.fail("a destination is one service, and none is called `*`");
            return None;
        }
        let subset = object
            .optional("subset", View::some_text)?
            .unwrap_or_default();
        let port = match object.get("port") {
            Some(port) => Some(port.object(&PORT)?.require("number")?.port()?),
            None => None,
        };
        Some(Self {
            host: name.resolve(namespace),
            subset,
            port,
            at: At(view.at()),
        })
    }
}

impl DirectResponse {
    /// Istio's limit, in bytes.
    pub const MAX_BODY: usize = 1 << 20;

    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const RESPONSE: Shape = Shape {
            known: &["status", "body"],
            refused: &[],
        };
        let object = view.object(&RESPONSE)?;
        let status = object.require("status")?.number(200, 599)?;
        Some(Self {
            status: u16::try_from(status).ok()?,
            body: object.optional("body", read_body)?.unwrap_or_default(),
        })
    }
}

fn read_body(view: &View<'_>) -> Option<String> {
    const BODY: Shape = Shape {
        known: &["string", "bytes"],
        refused: &[],
    };
    let object = view.object(&BODY)?;
    let text = match object.present(BODY.known).as_slice() {
        ["bytes"] => {
            let bytes = object.get("bytes")?;
            let encoded = bytes.text()?;
            let decoded = BASE64_STANDARD.decode(encoded.trim()).ok();
            let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
                bytes.fail("expected a text in UTF-8 that is encoded in Base64: proxies answer with no other bytes");
                return None;
            };
            text
        }
        ["string"] => object.get("string")?.text()?,
        _ => {
            object.fail("expected one of `string` and `bytes`");
            return None;
        }
    };
    if text.len() > DirectResponse::MAX_BODY {
        view.fail(format!(
            "the body is longer than {} bytes",
            DirectResponse::MAX_BODY
        ));
        return None;
    }
    Some(text)
}

pub(super) fn read_destinations(
    view: &View<'_>,
    namespace: &str,
) -> Option<Vec<WeightedDestination>> {
    let items = view.items();
    let mut destinations = Vec::with_capacity(items.len());
    for item in &items {
        let object = item.object(&WEIGHTED)?;
        let destination = Destination::read(object.require("destination")?, namespace)?;
        let weight = object.optional("weight", View::u32)?.unwrap_or(0);
        let mut headers = object
            .optional("headers", Headers::read)?
            .unwrap_or_default();
        destinations.push(WeightedDestination {
            destination,
            weight,
            authority: headers.take_host(),
            headers,
        });
    }
    match destinations.as_mut_slice() {
        [] => {
            view.fail("`route` must hold at least one destination");
            return None;
        }
        // A single destination gets everything, whatever its weight.
        [only] => only.weight = only.weight.max(1),
        _ => {
            let total: u64 = destinations.iter().map(|d| u64::from(d.weight)).sum();
            if total == 0 {
                view.fail("the weights add up to 0: give each destination its `weight`");
                return None;
            }
            if total > u64::from(u32::MAX) {
                view.fail(format!(
                    "the weights add up to {total}, the limit is {}",
                    u32::MAX
                ));
                return None;
            }
            destinations.retain(|destination| destination.weight > 0);
        }
    }
    Some(destinations)
}
