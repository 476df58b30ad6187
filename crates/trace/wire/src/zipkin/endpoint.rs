//! Endpoints ⇄ attributes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use periplus_model::{Attribute, Resource, Span, SpanKind, Value};

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

/// The attribute that holds the name of the remote endpoint's service.
pub const PEER_SERVICE: &str = "service.peer.name";

pub(super) const REMOTE: EndpointKeys = EndpointKeys {
    name: Some(PEER_SERVICE),
    address: "network.peer.address",
    port: "net.peer.port",
};

/// What names the peer of spans that were not born as Zipkin's, best first (OpenTelemetry's
/// mapping to Zipkin, but for `peer.address`: Envoy's client spans hold their own client there).
pub const PEER_NAMES: [&str; 10] = [
    "peer.service",
    "server.address",
    "net.peer.name",
    "network.peer.address",
    "server.socket.domain",
    "server.socket.address",
    "net.sock.peer.name",
    "net.sock.peer.addr",
    "peer.hostname",
    "db.name",
];

/// An endpoint as it arrived; what is empty or zero is absent. Texts that are no addresses are kept as
/// they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) service_name: String,
    pub(super) ipv4: String,
    pub(super) ipv6: String,
    pub(super) port: u16,
}

impl Host {
    /// An endpoint that says nothing is none.
    pub(super) fn or_none(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }

    /// An address in bytes, as Zipkin takes it: by their number, whatever the field; those that are
    /// no address are left out.
    pub(super) fn take_address(&mut self, bytes: &[u8]) {
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            self.ipv4 = Ipv4Addr::from(v4).to_string();
        } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            let address = Ipv6Addr::from(v6);
            match address.segments() {
                [0, 0, 0, 0, 0, 0, 0, 0 | 1] => self.ipv6 = address.to_string(),
                [0, 0, 0, 0, 0, 0, _, _] => {
                    let [.., a, b, c, d] = v6;
                    self.ipv4 = Ipv4Addr::new(a, b, c, d).to_string();
                }
                _ => self.ipv6 = address.to_string(),
            }
        }
    }
}

impl RawEndpoint {
    pub(super) fn into_host(self) -> Result<Host, SpanProblem> {
        let address = |text: Option<String>| match text {
            None => String::new(),
            Some(text) => match canonical(&text) {
                Some(address) => address.to_string(),
                None => text,
            },
        };
        Ok(Host {
            service_name: self.service_name.unwrap_or_default(),
            ipv4: address(self.ipv4),
            ipv6: address(self.ipv6),
            port: port(self.port.map_or(0, |Number(port)| port))?,
        })
    }
}

/// Below zero is absent.
pub(super) fn port(number: i64) -> Result<u16, SpanProblem> {
    u16::try_from(number.max(0)).map_err(|_| SpanProblem::InvalidPort(number))
}

/// Appends the attributes of an endpoint, but for a local service's name.
pub(super) fn append_attributes(to: &mut Vec<Attribute>, host: Host, keys: &EndpointKeys) {
    if let Some(key) = keys.name
        && !host.service_name.is_empty()
    {
        to.push(Attribute::new(key, host.service_name));
    }
    for address in [host.ipv4, host.ipv6] {
        if !address.is_empty() {
            to.push(Attribute::new(keys.address, address));
        }
    }
    if host.port > 0 {
        to.push(Attribute::new(keys.port, host.port.to_string()));
    }
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// An endpoint that is gathered from a span's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Its service, never empty.
    pub service_name: Option<Cow<'a, str>>,
    /// Its IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Its port, never zero.
    pub port: Option<u16>,
}

/// The local and the remote endpoint of a span, as the encoders write them, the names of services in
/// lower case, as Zipkin's server has them.
pub fn endpoints<'a>(resource: &'a Resource, span: &'a Span) -> (Endpoint<'a>, Endpoint<'a>) {
    let mut local = Endpoint::default();
    let mut remote = Endpoint::default();
    if let Some(Value::String(name)) = resource.attribute("service.name") {
        local.service_name = non_empty(name).map(Cow::Borrowed);
    }
    for attribute in &span.attributes {
        if !local.take(attribute, &LOCAL) {
            remote.take(attribute, &REMOTE);
        }
    }
    if remote.is_empty() {
        remote = Endpoint::of_peer(span);
    }
    local.lower_case();
    remote.lower_case();
    (local, remote)
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
            return put(&mut self.service_name, non_empty(text).map(Cow::Borrowed));
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
        *self == Self::default()
    }

    /// The peer that a client's or a producer's span names, if nothing of Zipkin's own does.
    pub(super) fn of_peer(span: &'a Span) -> Self {
        if !matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
            return Self::default();
        }
        let text = |key: &&str| span.attribute(key).and_then(Value::as_str);
        let name = PEER_NAMES.iter().find_map(text).and_then(non_empty);
        Self {
            service_name: name.map(Cow::Borrowed),
            ..Self::default()
        }
    }

    pub(super) fn lower_case(&mut self) {
        if let Some(name) = &mut self.service_name {
            lower_case(name);
        }
    }
}

/// Zipkin's names have no upper case.
pub(super) fn lower_case(name: &mut Cow<'_, str>) {
    if !name
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        *name = Cow::Owned(name.to_lowercase());
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
