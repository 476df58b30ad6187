//! Endpoints ⇄ attributes.

use std::net::IpAddr;

use periplus_model::{Attribute, Span, SpanKind, Value};

use super::error::{SpanProblem, canonical};
use super::raw::{Number, RawEndpoint};

/// The attributes that stand for one endpoint of a span.
pub(super) struct EndpointKeys {
    /// The service's name; the local one is the resource's.
    pub(super) name: Option<&'static str>,
    pub(super) address: &'static str,
    pub(super) port: &'static str,
}

pub(super) const LOCAL: EndpointKeys = EndpointKeys {
    name: None,
    address: "network.local.address",
    port: "net.host.port",
};

pub(super) const REMOTE: EndpointKeys = EndpointKeys {
    name: Some("service.peer.name"),
    address: "network.peer.address",
    port: "net.peer.port",
};

/// What names the peer of spans that were not born as Zipkin's, best first (OpenTelemetry's
/// mapping to Zipkin, but for `peer.address`: Envoy's client spans hold their own client there).
const PEER_NAMES: [&str; 9] = [
    "peer.service",
    "server.address",
    "net.peer.name",
    "network.peer.address",
    "server.socket.domain",
    "server.socket.address",
    "net.sock.peer.name",
    "net.sock.peer.addr",
    "peer.hostname",
];

/// Appends the attributes of an endpoint, but for a local service's name. Texts that are no
/// addresses are kept as they are.
pub(super) fn append_attributes(
    to: &mut Vec<Attribute>,
    endpoint: &RawEndpoint,
    keys: &EndpointKeys,
) -> Result<(), SpanProblem> {
    if let (Some(key), Some(name)) = (keys.name, non_empty(endpoint.service_name.as_deref())) {
        to.push(Attribute::new(key, name));
    }
    for address in [&endpoint.ipv4, &endpoint.ipv6] {
        if let Some(address) = non_empty(address.as_deref()) {
            let text = match canonical(address) {
                Some(address) => address.to_string(),
                None => address.to_owned(),
            };
            to.push(Attribute::new(keys.address, text));
        }
    }
    match endpoint.port {
        Some(Number(port)) if port > 0xffff => return Err(SpanProblem::InvalidPort(port)),
        Some(Number(port)) if port > 0 => to.push(Attribute::new(keys.port, port.to_string())),
        _ => {}
    }
    Ok(())
}

pub(super) fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// An endpoint that is gathered from a span's attributes.
#[derive(Default)]
pub(super) struct Endpoint<'a> {
    pub(super) service_name: Option<&'a str>,
    pub(super) ipv4: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

impl<'a> Endpoint<'a> {
    /// Takes what an attribute says about the endpoint. False if it says nothing, or what was said
    /// already: it is then a tag.
    pub(super) fn take(&mut self, attribute: &'a Attribute, keys: &EndpointKeys) -> bool {
        let Value::String(text) = &attribute.value else {
            return false;
        };
        let key = attribute.key.as_str();
        if keys.name == Some(key) {
            return put(&mut self.service_name, non_empty(Some(text)));
        }
        if key == keys.address {
            return match text.parse() {
                Ok(address @ IpAddr::V4(_)) => put(&mut self.ipv4, Some(address)),
                Ok(address @ IpAddr::V6(_)) => put(&mut self.ipv6, Some(address)),
                Err(_) => false,
            };
        }
        if key == keys.port {
            return put(&mut self.port, text.parse().ok().filter(|&port| port != 0));
        }
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.service_name.is_none()
            && self.ipv4.is_none()
            && self.ipv6.is_none()
            && self.port.is_none()
    }

    /// The peer that a client's or a producer's span names, if nothing of Zipkin's own does.
    pub(super) fn of_peer(span: &'a Span) -> Self {
        if !matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
            return Self::default();
        }
        let text = |key: &&str| span.attribute(key).and_then(Value::as_str);
        let Some(name) = PEER_NAMES.iter().find_map(text) else {
            return Self::default();
        };
        Self {
            service_name: non_empty(Some(name)),
            ..Self::default()
        }
    }
}

/// Fills a slot once.
fn put<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let fits = slot.is_none() && value.is_some();
    if fits {
        *slot = value;
    }
    fits
}
