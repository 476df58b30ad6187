use std::net::{IpAddr, SocketAddr};

use crate::host::Host;
use crate::meta::{Labels, read_selector};
use crate::port::{Port, Protocol};
use crate::view::{Object, Shape, View, first_duplicate};

/// How the proxies of some workloads listen, and what they may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Whose proxies; `None` is all of its namespace.
    pub selector: Option<Labels>,
    /// The listeners for requests to the workload.
    pub ingress: Vec<Ingress>,
    /// The listeners for requests from the workload.
    pub egress: Vec<Egress>,
    /// What becomes of intercepted connections to unknown hosts; the mesh's policy when it does not say.
    pub outbound: Option<OutboundPolicy>,
}

/// `outboundTrafficPolicy.mode`. Where an unknown host lives, a forward proxy knows only if it may look it up: else it
/// refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// They go where the client wanted to go.
    AllowAny,
    /// `ALLOW_ANY_DYNAMIC_DNS`, of the mesh alone: requests go where DNS says that their host is, and other connections
    /// where the client wanted to go.
    AllowAnyDynamicDns,
    /// They are refused.
    RegistryOnly,
}

/// A listener for requests to the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Where the proxy listens.
    pub port: Port,
    /// On which address; the proxy's own when it does not say.
    pub bind: Option<IpAddr>,
    /// Where the application listens.
    pub default_endpoint: SocketAddr,
}

/// A listener for requests from the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Where the proxy listens; without one, which intercepted services are known.
    pub port: Option<Port>,
    /// On which address; 127.0.0.1 when it does not say.
    pub bind: Option<IpAddr>,
    /// What can be reached through it.
    pub hosts: Vec<EgressHost>,
}

/// `namespace/host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressHost {
    /// `~/*`: nothing.
    Nothing,
    /// Hosts of a namespace.
    Of {
        /// The services' namespace; `None` is any, and `.` has become the Sidecar's own.
        namespace: Option<String>,
        /// The services' names.
        host: Host,
    },
}

impl EgressHost {
    /// Whether a service is meant.
    pub fn covers(&self, service_namespace: &str, service_host: &Host) -> bool {
        match self {
            Self::Nothing => false,
            Self::Of { namespace, host } => {
                let namespace = namespace.as_deref();
                namespace.is_none_or(|own| own == service_namespace) && host.covers(service_host)
            }
        }
    }
}

const SIDECAR: Shape = Shape {
    known: &[
        "workloadSelector",
        "ingress",
        "egress",
        "outboundTrafficPolicy",
    ],
    refused: &[(
        "inboundConnectionPool",
        "there are no limits on inbound connections yet",
    )],
};

const INGRESS: Shape = Shape {
    known: &["port", "bind", "captureMode", "defaultEndpoint"],
    refused: &[
        ("tls", "listeners do not terminate TLS yet"),
        (
            "connectionPool",
            "there are no limits on inbound connections yet",
        ),
    ],
};

const EGRESS: Shape = Shape {
    known: &["port", "bind", "captureMode", "hosts"],
    refused: &[],
};

impl Sidecar {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&SIDECAR)?;
        let outbound = match object.get("outboundTrafficPolicy") {
            Some(policy) => Some(read_outbound_traffic_policy(policy, false)?),
            None => None,
        };
        let ingress = object.items("ingress");
        let ingress: Vec<_> = ingress.iter().filter_map(Ingress::read).collect();
        if let Some(listener) = first_duplicate(&ingress, |listener| listener.port.number) {
            object.fail(format!(
                "ingress port {} is listed twice",
                listener.port.number
            ));
        }
        let egress = object.items("egress");
        let egress: Vec<_> = egress
            .iter()
            .filter_map(|view| Egress::read(view, namespace))
            .collect();
        let egress_ports: Vec<_> = egress.iter().flat_map(|listener| &listener.port).collect();
        if let Some(port) = first_duplicate(&egress_ports, |port| port.number) {
            object.fail(format!("egress port {} is listed twice", port.number));
        }
        if egress
            .iter()
            .filter(|listener| listener.port.is_none())
            .count()
            > 1
        {
            object.fail("only one egress listener may go without `port`, put its `hosts` together");
        }
        let both = egress_ports.iter().map(|port| port.number);
        let both = both.filter(|port| ingress.iter().any(|own| own.port.number == *port));
        for port in both {
            object.fail(format!(
                "port {port} is that of an ingress and of an egress listener"
            ));
        }
        let selector = match object.get("workloadSelector") {
            Some(selector) => Some(read_selector(selector)?).filter(|labels| !labels.is_empty()),
            None => None,
        };
        Some(Self {
            selector,
            ingress,
            egress,
            outbound,
        })
    }
}

impl Ingress {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&INGRESS)?;
        read_capture_mode(&object);
        let port = object.require("port");
        let port = port.and_then(|view| Port::read(view, &Protocol::OF_SERVERS));
        let bind = read_bind(&object);
        let endpoint = object.require("defaultEndpoint").and_then(read_endpoint);
        Some(Self {
            port: port?,
            bind: bind?,
            default_endpoint: endpoint?,
        })
    }
}

impl Egress {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&EGRESS)?;
        let port = match object.get("port") {
            Some(port) => {
                read_capture_mode(&object);
                Port::read(port, &[Protocol::HttpProxy]).map(Some)
            }
            None => {
                refuse_capture_mode_none(&object);
                Some(None)
            }
        };
        let bind = read_bind(&object);
        let items = object.require("hosts").map(View::items).unwrap_or_default();
        let hosts: Vec<_> = items
            .iter()
            .filter_map(|view| EgressHost::read(view, namespace))
            .collect();
        if object.get("hosts").is_some() && items.is_empty() {
            object.fail("`hosts` must name at least one host, `*/*` is all");
        }
        if hosts.len() > 1 && hosts.contains(&EgressHost::Nothing) {
            object.fail("`~/*` excludes other hosts");
        }
        Some(Self {
            port: port?,
            bind: bind?,
            hosts,
        })
    }
}

impl EgressHost {
    fn read(view: &View<'_>, own: &str) -> Option<Self> {
        let text = view.text()?;
        let Some((namespace, host)) = text.split_once('/') else {
            view.fail(format!(
                "`{text}`: expected `NAMESPACE/HOST`, such as `*/*`, `./*` or `default/reviews.default.svc.cluster.local`"
            ));
            return None;
        };
        if namespace == "~" {
            return Some(Self::Nothing);
        }
        let host = match Host::parse(host) {
            Ok(host) => host,
            Err(reason) => {
                view.fail(format!("`{host}` is no host name: {reason}"));
                return None;
            }
        };
        let namespace = match namespace {
            "*" => None,
            "." => Some(own.to_owned()),
            "" => {
                view.fail("the namespace before `/` is empty");
                return None;
            }
            other => Some(other.to_owned()),
        };
        Some(Self::Of { namespace, host })
    }
}

/// `Some(None)` when it is not said, `None` when it is wrong.
fn read_bind(object: &Object<'_>) -> Option<Option<IpAddr>> {
    match object.get("bind") {
        Some(bind) => bind.ip().map(Some),
        None => Some(None),
    }
}

fn read_capture_mode(object: &Object<'_>) {
    const MESSAGE: &str =
        "a listener of its own port is not intercepted, write `captureMode: NONE`";
    match object.get("captureMode") {
        Some(mode) => {
            let mode_is_none =
                mode.choice(&[("NONE", true), ("IPTABLES", false), ("DEFAULT", false)]);
            if mode_is_none == Some(false) {
                mode.fail(MESSAGE);
            }
        }
        None => object.fail(MESSAGE),
    }
}

/// Without a port there is nothing to listen on but for what is intercepted.
fn refuse_capture_mode_none(object: &Object<'_>) {
    if let Some(mode) = object.get("captureMode")
        && mode.choice(&[("NONE", true), ("IPTABLES", false), ("DEFAULT", false)]) == Some(true)
    {
        mode.fail(
            "`NONE` needs `port: {number: …, protocol: HTTP_PROXY, name: http-proxy}`: clients \
             have to find the listener",
        );
    }
}

fn read_endpoint(view: &View<'_>) -> Option<SocketAddr> {
    let text = view.text()?;
    if text.starts_with("unix:") {
        view.fail("unix sockets are not supported yet, write `127.0.0.1:PORT`");
        return None;
    }
    let address: Option<SocketAddr> = text.parse().ok().filter(|a: &SocketAddr| a.port() != 0);
    if address.is_none() {
        view.fail(format!("`{text}` is no address, write `127.0.0.1:PORT`"));
    }
    address
}

/// `outboundTrafficPolicy` of a Sidecar or of the mesh: what happens to unknown hosts.
pub(crate) fn read_outbound_traffic_policy(
    view: &View<'_>,
    is_of_mesh: bool,
) -> Option<OutboundPolicy> {
    const POLICY: Shape = Shape {
        known: &["mode"],
        refused: &[
            ("egressProxy", "unknown hosts are refused, not forwarded"),
            ("tls", "proxies begin no TLS to hosts that they look up"),
        ],
    };
    let policy = view.object(&POLICY)?;
    let mode = policy.require("mode")?;
    let chosen = mode.choice(&[
        ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
        ("ALLOW_ANY", OutboundPolicy::AllowAny),
        ("ALLOW_ANY_DYNAMIC_DNS", OutboundPolicy::AllowAnyDynamicDns),
    ])?;
    if chosen == OutboundPolicy::AllowAnyDynamicDns && !is_of_mesh {
        mode.fail("`ALLOW_ANY_DYNAMIC_DNS` is for the mesh configuration alone, use ALLOW_ANY or REGISTRY_ONLY");
        return None;
    }
    Some(chosen)
}
