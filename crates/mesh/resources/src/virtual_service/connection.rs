use std::net::IpAddr;

use super::destination::read_destinations;
use super::{GatewayRef, WeightedDestination, read_gateways};
use crate::authorization::parse_block;
use crate::diagnostic::At;
use crate::host::Host;
use crate::meta::Labels;
use crate::view::{Object, Shape, View};

/// A rule for connections: of TCP (`tcp`), or of TLS that is passed through (`tls`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRoute {
    /// What its connections are counted as; empty is Istio's own name, as in every file.
    pub name: String,
    /// The conditions: one must hold, none is always true.
    pub matches: Vec<ConnectionMatch>,
    /// Where connections go, chosen by weight; those of weight zero are left out already.
    pub destinations: Vec<WeightedDestination>,
    /// Where it is written.
    pub at: At,
}

/// A condition on a connection: all its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionMatch {
    /// The names that the client may ask for; only, and always, for TLS.
    pub sni_hosts: Vec<Host>,
    /// Where the client wants to go: an address and the length of its prefix. None is anywhere.
    pub destination_subnets: Vec<(IpAddr, u8)>,
    /// The port that is asked for.
    pub port: Option<u16>,
    /// The caller's labels.
    pub source_labels: Labels,
    /// The caller's namespace.
    pub source_namespace: Option<String>,
    /// Where the condition can hold; empty is wherever the resource says.
    pub gateways: Vec<GatewayRef>,
}

/// What a rule is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Tcp,
    Tls,
}

const ROUTE: Shape = Shape {
    known: &["match", "route"],
    refused: &[],
};

const TCP_MATCH: Shape = Shape {
    known: &[
        "destinationSubnets",
        "port",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
    ],
    refused: &[("sourceSubnet", "Istio does not look at it either")],
};

const TLS_MATCH: Shape = Shape {
    known: &[
        "sniHosts",
        "destinationSubnets",
        "port",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
    ],
    refused: &[("sourceSubnet", "Istio does not look at it either")],
};

impl ConnectionRoute {
    pub(super) fn read(view: &View<'_>, of: Of, namespace: &str, hosts: &[Host]) -> Option<Self> {
        let object = view.object(&ROUTE)?;
        let items = object.items("match");
        if of == Of::Tls && items.is_empty() {
            object.fail("`match` must name the `sniHosts` that the rule is for");
            return None;
        }
        let read = |view| ConnectionMatch::read(view, of, namespace, hosts);
        let matches = items.iter().map(read).collect::<Option<_>>()?;
        let destinations = read_destinations(object.require("route")?, namespace)?;
        for weighted in &destinations {
            if weighted.authority.is_some() || weighted.headers != super::Headers::default() {
                object.fail("connections have no `headers`");
                return None;
            }
        }
        Some(Self {
            name: String::new(),
            matches,
            destinations,
            at: At(view.at()),
        })
    }
}

impl ConnectionMatch {
    fn read(view: &View<'_>, of: Of, namespace: &str, hosts: &[Host]) -> Option<Self> {
        let object = view.object(match of {
            Of::Tcp => &TCP_MATCH,
            Of::Tls => &TLS_MATCH,
        })?;
        let sni_hosts = match of {
            Of::Tcp => Vec::new(),
            Of::Tls => read_sni_hosts(&object, hosts)?,
        };
        let mut destination_subnets = Vec::new();
        for item in object.items("destinationSubnets") {
            let text = item.text()?;
            let Some(block) = parse_block(&text) else {
                item.fail(format!("`{text}` is no address, nor ADDRESS/LENGTH"));
                return None;
            };
            destination_subnets.push(block);
        }
        Some(Self {
            sni_hosts,
            destination_subnets,
            port: object.optional("port", View::port)?,
            source_labels: object
                .get("sourceLabels")
                .map(View::text_map)
                .unwrap_or_default(),
            source_namespace: object.optional("sourceNamespace", View::some_text)?,
            gateways: read_gateways(&object, namespace),
        })
    }
}

/// Each of them must be one of the resource's own hosts, or among them, as those are written or in full. A short one stays
/// short: it is what the client asks for.
fn read_sni_hosts(object: &Object<'_>, hosts: &[Host]) -> Option<Vec<Host>> {
    let items = object.require("sniHosts")?.items();
    if items.is_empty() {
        object.fail("`sniHosts` must name at least one host");
        return None;
    }
    let mut names = Vec::with_capacity(items.len());
    for item in &items {
        let name = item.host()?;
        if !hosts.iter().any(|host| host.covers(&name)) {
            item.fail(format!("`{name}` is not among the `hosts` of the resource"));
            return None;
        }
        names.push(name);
    }
    Some(names)
}
