use std::net::IpAddr;

use crate::host::Host;
use crate::meta::Labels;
use crate::port::{Port, Protocol};
use crate::view::{Shape, View, first_duplicate};

/// What the gateways with some labels listen for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The gateways' labels; none is all gateways.
    pub selector: Labels,
    /// The gateways' namespace; `None` is any.
    pub namespace: Option<String>,
    /// Requests for a host that one server names are not for another that means it too, as in Gateway API.
    pub isolates_hosts: bool,
    /// The listeners.
    pub servers: Vec<Server>,
}

/// A listener of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its port.
    pub port: Port,
    /// Its address; when it does not say, that of the gateway.
    pub bind: Option<IpAddr>,
    /// The hosts that it serves.
    pub hosts: Vec<ServerHost>,
    /// `tls.mode: PASSTHROUGH`: connections are routed by the name that their TLS asks for, which stays theirs.
    pub passes_tls_through: bool,
}

/// `namespace/host`: which VirtualServices may use a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHost {
    /// The VirtualServices' namespace; `None` is any, and `.` has become the Gateway's own.
    pub namespace: Option<String>,
    /// The hosts.
    pub host: Host,
}

const GATEWAY: Shape = Shape {
    known: &["selector", "servers"],
    refused: &[],
};

const SERVER: Shape = Shape {
    known: &["port", "bind", "hosts", "name", "tls"],
    refused: &[("defaultEndpoint", "route by a VirtualService")],
};

const TLS: Shape = Shape {
    known: &["mode"],
    refused: &[
        ("httpsRedirect", ENDS),
        ("credentialName", ENDS),
        ("credentialNames", ENDS),
        ("serverCertificate", ENDS),
        ("privateKey", ENDS),
        ("caCertificates", ENDS),
        ("tlsCertificates", ENDS),
        ("minProtocolVersion", ENDS),
        ("maxProtocolVersion", ENDS),
        ("cipherSuites", ENDS),
        ("subjectAltNames", ENDS),
    ],
};

const ENDS: &str = "gateways do not terminate TLS yet, only `mode: PASSTHROUGH`";

impl Gateway {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&GATEWAY)?;
        let items = object
            .require("servers")
            .map(View::items)
            .unwrap_or_default();
        if object.get("servers").is_some() && items.is_empty() {
            object.fail("`servers` must hold at least one server");
        }
        let servers: Vec<_> = items
            .iter()
            .filter_map(|view| Server::read(view, namespace))
            .collect();
        if let Some(server) = first_duplicate(&servers, |server| server.port.name.clone()) {
            object.fail(format!(
                "two servers have the port name `{}`",
                server.port.name
            ));
        }
        Some(Self {
            selector: object
                .get("selector")
                .map(View::text_map)
                .unwrap_or_default(),
            namespace: None,
            isolates_hosts: false,
            servers,
        })
    }
}

impl Server {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&SERVER)?;
        if let Some(name) = object.get("name") {
            name.text()?;
        }
        let port = object.require("port");
        let port = port.and_then(|view| Port::read(view, &Protocol::OF_SERVERS));
        let passes_tls_through = object.optional("tls", read_tls)?.is_some();
        if let Some(port) = &port
            && passes_tls_through != (port.protocol == Protocol::Tls)
        {
            object.fail(match passes_tls_through {
                true => "`tls` goes with the protocols `TLS` and `HTTPS`",
                false => "a port of TLS needs `tls: {mode: PASSTHROUGH}`",
            });
            return None;
        }
        let bind = object.optional("bind", View::ip)?;
        let items = object.require("hosts").map(View::items).unwrap_or_default();
        if object.get("hosts").is_some() && items.is_empty() {
            object.fail("`hosts` must name at least one host, `*` is all");
        }
        Some(Self {
            port: port?,
            bind,
            passes_tls_through,
            hosts: items
                .iter()
                .filter_map(|view| ServerHost::read(view, namespace))
                .collect(),
        })
    }
}

/// That TLS is passed through: nothing else is supported.
fn read_tls(view: &View<'_>) -> Option<()> {
    let object = view.object(&TLS)?;
    let mode = object.require("mode")?;
    match mode.text()?.as_str() {
        "PASSTHROUGH" => Some(()),
        _ => {
            mode.fail(ENDS);
            None
        }
    }
}

impl ServerHost {
    fn read(view: &View<'_>, own: &str) -> Option<Self> {
        let text = view.text()?;
        let (namespace, host) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.trim_start_matches("*/")),
            Some((".", host)) => (Some(own.to_owned()), host),
            Some((namespace, host)) => (Some(namespace.to_owned()), host),
        };
        match Host::parse(host) {
            Ok(host) => Some(Self { namespace, host }),
            Err(reason) => {
                view.fail(format!("`{host}` is no host name: {reason}"));
                None
            }
        }
    }

    /// Whether a VirtualService of `namespace` for `host` may use it.
    pub fn admits(&self, namespace: &str, host: &Host) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
            && (self.host.covers(host) || host.covers(&self.host))
    }
}
