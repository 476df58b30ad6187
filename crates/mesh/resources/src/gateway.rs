use std::net::IpAddr;

use crate::host::Host;
use crate::meta::Labels;
use crate::port::{Port, Protocol};
use crate::server_tls::ServerTls;
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
    /// What is done with TLS; where it ends, the port's protocol is what is spoken within it.
    pub tls: Option<ServerTls>,
    /// `tls.httpsRedirect`: its requests are sent to HTTPS.
    pub redirects_to_https: bool,
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
        let is_https = port.is_some_and(is_https);
        let port = port.and_then(|view| Port::read(view, &Protocol::OF_SERVERS));
        let tls = object.optional("tls", ServerTls::read)?;
        let (tls, redirects_to_https) = tls.unwrap_or((None, false));
        let mut port = port?;
        match (port.protocol == Protocol::Tls, &tls) {
            (false, Some(_)) => {
                object.fail("`tls` goes with the protocols `TLS` and `HTTPS`");
                return None;
            }
            (true, None) => {
                object.fail(
                    "a port of TLS needs a `tls.mode`: `SIMPLE` or `MUTUAL` with a certificate, or `PASSTHROUGH`",
                );
                return None;
            }
            (true, Some(ServerTls::Terminate(_))) => {
                port.protocol = match is_https {
                    true => Protocol::Http,
                    false => Protocol::Tcp,
                };
            }
            _ => {}
        }
        if redirects_to_https && (tls.is_some() || !port.protocol.is_http()) {
            object.fail("`tls.httpsRedirect` goes with plain HTTP: what comes to other ports has no other place to go");
            return None;
        }
        let bind = object.optional("bind", View::ip)?;
        let items = object.require("hosts").map(View::items).unwrap_or_default();
        if object.get("hosts").is_some() && items.is_empty() {
            object.fail("`hosts` must name at least one host, `*` is all");
        }
        Some(Self {
            port,
            bind,
            tls,
            redirects_to_https,
            hosts: items
                .iter()
                .filter_map(|view| ServerHost::read(view, namespace))
                .collect(),
        })
    }
}

/// Whether HTTP is spoken within TLS: the protocol says so, else the port's name.
fn is_https(port: &View<'_>) -> bool {
    let protocol = port.loose("protocol");
    let named = protocol.or_else(|| port.loose("name"));
    let text = named.filter(View::is_text).and_then(|view| view.text());
    let text = text.unwrap_or_default().to_ascii_lowercase();
    text == "https" || text.starts_with("https-")
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
