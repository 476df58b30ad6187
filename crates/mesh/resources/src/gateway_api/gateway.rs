use super::selector::LabelSelector;
use super::tls::{Frontend, ListenerTls};
use super::{GROUP, items_up_to};
use crate::diagnostic::At;
use crate::host::Host;
use crate::view::{Shape, View, first_duplicate};

/// GatewayClass: who makes something of its Gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClass {
    /// `controllerName`.
    pub controller: String,
}

/// Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `gatewayClassName`.
    pub class: String,
    /// What it listens for.
    pub listeners: Vec<Listener>,
    /// `addresses`: where it is, if that is not for its controller to say.
    pub addresses: Vec<Address>,
    /// `tls.frontend`: what HTTPS listeners ask of clients.
    pub frontend: Frontend,
}

/// One of `addresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `IPAddress`.
    Ip(String),
    /// `Hostname`.
    Hostname(Host),
}

/// One of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The host that it serves; none is all.
    pub hostname: Option<Host>,
    /// Its port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: ListenerProtocol,
    /// What it does with TLS.
    pub tls: Option<ListenerTls>,
    /// `allowedRoutes.namespaces`.
    pub namespaces: RouteNamespaces,
    /// `allowedRoutes.kinds`; none are those of the protocol.
    pub kinds: Vec<RouteKind>,
    /// Where it is written.
    pub at: At,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// `HTTP`.
    Http,
    /// `HTTPS`.
    Https,
    /// `TLS`.
    Tls,
    /// `TCP`.
    Tcp,
    /// `UDP`, or a protocol of somebody's own.
    Other(String),
}

/// Whose routes a listener takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteNamespaces {
    /// Those of its own namespace.
    Same,
    /// All.
    All,
    /// Those of namespaces with such labels.
    Selected(LabelSelector),
}

/// A kind of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKind {
    /// The group of its API.
    pub group: String,
    /// Its name.
    pub kind: String,
}

const NOT_DEPLOYED: &str = "nothing is deployed here: start the gateway's proxies with the label \
                            `gateway.networking.k8s.io/gateway-name`";

impl GatewayClass {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        const CLASS: Shape = Shape {
            known: &["controllerName", "description"],
            refused: &[("parametersRef", "classes have no parameters here")],
        };
        let object = view.object(&CLASS)?;
        Some(Self {
            controller: object.require("controllerName")?.some_text()?,
        })
    }
}

impl Gateway {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const GATEWAY: Shape = Shape {
            known: &["gatewayClassName", "listeners", "addresses", "tls"],
            refused: &[
                ("infrastructure", NOT_DEPLOYED),
                (
                    "allowedListeners",
                    "there are no ListenerSets: write all `listeners` here",
                ),
                (
                    "defaultScope",
                    "name the Gateway in the routes' `parentRefs`",
                ),
            ],
        };
        let object = view.object(&GATEWAY)?;
        let class = object.require("gatewayClassName")?.some_text()?;
        object.require("listeners")?;
        let items = items_up_to(&object, "listeners", 64);
        if items.is_empty() {
            object.fail("`listeners` must hold at least one listener");
        }
        let listeners: Vec<_> = items
            .iter()
            .filter_map(|view| Listener::read(view, namespace))
            .collect();
        if let Some(second) = first_duplicate(&listeners, |one| one.name.clone()) {
            object.fail(format!("two listeners have the name `{}`", second.name));
        }
        let place = |one: &Listener| (one.port, one.protocol.clone(), one.hostname.clone());
        if let Some(second) = first_duplicate(&listeners, place) {
            object.fail(format!(
                "listener `{}` has the port, the protocol and the hostname of another one",
                second.name
            ));
        }
        let addresses = object.items("addresses");
        Some(Self {
            class,
            listeners,
            addresses: addresses.iter().map(Address::read).collect::<Option<_>>()?,
            frontend: object
                .optional("tls", |view| Frontend::read(view, namespace))?
                .unwrap_or_default(),
        })
    }
}

impl Address {
    fn read(view: &View<'_>) -> Option<Self> {
        const ADDRESS: Shape = Shape {
            known: &["type", "value"],
            refused: &[],
        };
        let object = view.object(&ADDRESS)?;
        let kinds = [("IPAddress", false), ("Hostname", true)];
        let is_name = object.optional("type", |view| view.choice(&kinds))?;
        let value = object.require("value")?;
        Some(match is_name.unwrap_or(false) {
            true => Self::Hostname(value.host()?),
            false => Self::Ip(value.ip()?.to_string()),
        })
    }
}

impl Listener {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const LISTENER: Shape = Shape {
            known: &[
                "name",
                "hostname",
                "port",
                "protocol",
                "tls",
                "allowedRoutes",
            ],
            refused: &[],
        };
        let object = view.object(&LISTENER)?;
        let protocol = match object.require("protocol")?.some_text()?.as_str() {
            "HTTP" => ListenerProtocol::Http,
            "HTTPS" => ListenerProtocol::Https,
            "TLS" => ListenerProtocol::Tls,
            "TCP" => ListenerProtocol::Tcp,
            other => ListenerProtocol::Other(other.to_owned()),
        };
        let tls = object.optional("tls", |view| ListenerTls::read(view, namespace))?;
        let is_secure = matches!(protocol, ListenerProtocol::Https | ListenerProtocol::Tls);
        match (&protocol, &tls) {
            (ListenerProtocol::Http | ListenerProtocol::Tcp, Some(_)) => {
                object.fail("`tls` goes with the protocols `HTTPS` and `TLS`");
            }
            (ListenerProtocol::Https, Some(ListenerTls::Passthrough)) => {
                object.fail("`mode: Passthrough` goes with the protocol `TLS`");
            }
            (_, None) if is_secure => object.fail("missing field `tls`, which the protocol needs"),
            _ => {}
        }
        let hostname = object.optional("hostname", |view| read_hostname(view))?;
        let (namespaces, kinds) = match object.get("allowedRoutes") {
            Some(view) => read_allowed(view)?,
            None => (RouteNamespaces::Same, Vec::new()),
        };
        Some(Self {
            name: object.require("name")?.some_text()?,
            hostname,
            port: object.require("port")?.port()?,
            protocol,
            tls,
            namespaces,
            kinds,
            at: At(view.at()),
        })
    }
}

/// A name, or `*.` before a name: no address, no port, no `*` alone.
pub(super) fn read_hostname(view: &View<'_>) -> Option<Host> {
    let host = view.host()?;
    let name = host.as_str();
    if name == "*" || name.parse::<std::net::IpAddr>().is_ok() {
        view.fail(format!(
            "`{name}` is no hostname here: expected a name such as `example.com` or `*.example.com`, or leave the \
             field out for all"
        ));
        return None;
    }
    Some(host)
}

fn read_allowed(view: &View<'_>) -> Option<(RouteNamespaces, Vec<RouteKind>)> {
    const ALLOWED: Shape = Shape {
        known: &["namespaces", "kinds"],
        refused: &[],
    };
    const KIND: Shape = Shape {
        known: &["group", "kind"],
        refused: &[],
    };
    let object = view.object(&ALLOWED)?;
    let namespaces = object.optional("namespaces", read_namespaces)?;
    let kind = |view: &View<'_>| {
        let object = view.object(&KIND)?;
        let group = object.optional("group", View::text)?;
        Some(RouteKind {
            group: group.unwrap_or_else(|| GROUP.to_owned()),
            kind: object.require("kind")?.some_text()?,
        })
    };
    let kinds = items_up_to(&object, "kinds", 8);
    Some((
        namespaces.unwrap_or(RouteNamespaces::Same),
        kinds.iter().map(kind).collect::<Option<_>>()?,
    ))
}

fn read_namespaces(view: &View<'_>) -> Option<RouteNamespaces> {
    const NAMESPACES: Shape = Shape {
        known: &["from", "selector"],
        refused: &[],
    };
    let object = view.object(&NAMESPACES)?;
    let selector = object.optional("selector", LabelSelector::read)?;
    let from = object.optional("from", |view| {
        view.choice(&[("Same", 0), ("All", 1), ("Selector", 2)])
    })?;
    match (from.unwrap_or(0), selector) {
        (0, _) => Some(RouteNamespaces::Same),
        (1, _) => Some(RouteNamespaces::All),
        (_, Some(selector)) => Some(RouteNamespaces::Selected(selector)),
        (_, None) => {
            object.fail("`from: Selector` needs a `selector`");
            None
        }
    }
}
