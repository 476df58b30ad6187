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
    /// Where the proxy listens.
    pub port: Port,
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
        if let Some(policy) = object.get("outboundTrafficPolicy") {
            read_outbound_traffic_policy(policy);
        }
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
        if let Some(listener) = first_duplicate(&egress, |listener| listener.port.number) {
            object.fail(format!(
                "egress port {} is listed twice",
                listener.port.number
            ));
        }
        let both = egress.iter().map(|listener| listener.port.number);
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
        read_capture_mode(&object);
        let Some(port) = object.get("port") else {
            object.fail(
                "a listener without `port` needs traffic interception, which is not supported yet: \
                 give it `port: {number: …, protocol: HTTP_PROXY, name: http-proxy}`",
            );
            return None;
        };
        let port = Port::read(port, &[Protocol::HttpProxy]);
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
    const MESSAGE: &str = "traffic is not intercepted yet, write `captureMode: NONE`";
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
pub(crate) fn read_outbound_traffic_policy(view: &View<'_>) {
    const POLICY: Shape = Shape {
        known: &["mode"],
        refused: &[("egressProxy", "unknown hosts are refused, not forwarded")],
    };
    const REASON: &str = "is not supported: without interception the proxy cannot know where an \
                          unknown host lives; use REGISTRY_ONLY and describe the host by a ServiceEntry";
    let Some(policy) = view.object(&POLICY) else {
        return;
    };
    if let Some(mode) = policy.require("mode") {
        let supported = mode.choice(&[
            ("REGISTRY_ONLY", true),
            ("ALLOW_ANY", false),
            ("ALLOW_ANY_DYNAMIC_DNS", false),
        ]);
        if supported == Some(false) {
            let name = mode.text().unwrap_or_default();
            mode.fail(format!("`{name}` {REASON}"));
        }
    }
}
