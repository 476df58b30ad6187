use crate::view::{Shape, View};

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge, gRPC among it.
    Http2,
    /// HTTP/1.1 with absolute request targets, as to a forward proxy.
    HttpProxy,
    /// TLS whose server is not the mesh's: HTTPS among it. Its SNI says where to.
    Tls,
    /// Bytes: MySQL, MongoDB and Redis among it.
    Tcp,
    /// Nobody says: HTTP if the first bytes look like it, else bytes.
    Detected,
}

impl Protocol {
    /// Whether requests are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::HttpProxy)
    }
}

/// A port of a service or listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// The workloads' port, when it differs and the workload does not say.
    pub target_port: Option<u16>,
}

impl Protocol {
    /// Ports whose servers speak first: looking for HTTP there would only cost time.
    pub const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];
    /// What a port of a gateway may speak.
    pub(crate) const OF_SERVERS: [Self; 4] = [Self::Http, Self::Http2, Self::Tls, Self::Tcp];
    /// What a port of a service may speak.
    pub(crate) const OF_SERVICES: [Self; 5] = [
        Self::Http,
        Self::Http2,
        Self::Tls,
        Self::Tcp,
        Self::Detected,
    ];

    /// The protocol of Istio's name for it.
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "http" => Some(Self::Http),
            "http2" | "grpc" | "grpc-web" => Some(Self::Http2),
            "http-proxy" => Some(Self::HttpProxy),
            "https" | "tls" => Some(Self::Tls),
            "tcp" | "mongo" | "mysql" | "redis" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// What a port of a Kubernetes Service speaks: `appProtocol`, else its name, else its number tells.
    pub(crate) fn of_service(application: Option<&str>, name: Option<&str>, number: u16) -> Self {
        let application = application.and_then(|name| match name.to_ascii_lowercase().as_str() {
            "kubernetes.io/h2c" => Some(Self::Http2),
            "kubernetes.io/ws" => Some(Self::Http),
            "kubernetes.io/wss" => Some(Self::Tls),
            name => Self::named(name),
        });
        let named = application.or_else(|| name.and_then(Self::of_port_name));
        let named = named.filter(|protocol| Self::OF_SERVICES.contains(protocol));
        named.unwrap_or(match Self::SERVER_FIRST.contains(&number) {
            true => Self::Tcp,
            false => Self::Detected,
        })
    }

    /// The protocol that the name of a port begins with, as in Kubernetes: `grpc-web-api` is gRPC-Web.
    fn of_port_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.starts_with("grpc-web") {
            true => Some(Self::Http2),
            false => Self::named(name.split('-').next()?),
        }
    }
}

impl Port {
    /// Reads a port whose protocol may be one of `protocols`.
    pub(crate) fn read(view: &View<'_>, protocols: &[Protocol]) -> Option<Self> {
        const PORT: Shape = Shape {
            known: &["number", "name", "protocol", "targetPort"],
            refused: &[],
        };
        let port = view.object(&PORT)?;
        let number = port.require("number").and_then(View::port);
        let name = port.require("name").and_then(View::some_text);
        let protocol = match port.get("protocol") {
            Some(protocol) => read_protocol(protocol, protocols),
            None => {
                let protocol = name.as_deref().and_then(Protocol::of_port_name);
                let is_server_first = number.is_some_and(|n| Protocol::SERVER_FIRST.contains(&n));
                let protocol = match protocol {
                    None if is_server_first => Some(Protocol::Tcp),
                    None => Some(Protocol::Detected),
                    named => named,
                };
                let protocol = protocol.filter(|protocol| protocols.contains(protocol));
                if protocol.is_none() {
                    port.fail(
                        "missing field `protocol`, and the name does not begin with `http`, \
                         `http2` or `grpc`",
                    );
                }
                protocol
            }
        };
        let target_port = port.optional("targetPort", View::port)?;
        Some(Self {
            number: number?,
            name: name?,
            protocol: protocol?,
            target_port,
        })
    }
}

fn read_protocol(view: &View<'_>, accepted: &[Protocol]) -> Option<Protocol> {
    let written = view.text()?;
    let protocol = Protocol::named(&written);
    let valid = match accepted {
        [Protocol::HttpProxy] => "`HTTP_PROXY`",
        _ if accepted.contains(&Protocol::Tcp) => {
            "`HTTP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `HTTPS`, `TLS`, `TCP`, `MONGO`, `MYSQL` or `REDIS`"
        }
        _ => "`HTTP`, `HTTP2` or `GRPC`",
    };
    match protocol {
        Some(protocol) if accepted.contains(&protocol) => Some(protocol),
        None => {
            view.fail(format!("unknown protocol `{written}`, expected {valid}"));
            None
        }
        _ => {
            view.fail(format!(
                "protocol `{written}` is not supported here, expected {valid}"
            ));
            None
        }
    }
}
