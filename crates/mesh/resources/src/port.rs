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

/// Istio's names of protocols which the mesh cannot carry yet.
const NOT_YET: [&str; 6] = ["HTTPS", "MONGO", "REDIS", "MYSQL", "TCP", "TLS"];

impl Protocol {
    /// What a port of a workload or a gateway may speak.
    pub(crate) const OF_SERVERS: [Self; 2] = [Self::Http, Self::Http2];
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
            // Without `protocol` the name's first part tells, as in Kubernetes.
            None => {
                let first = name.as_deref().and_then(|name| name.split('-').next());
                let protocol = match first {
                    Some("http") => Some(Protocol::Http),
                    Some("http2" | "grpc") => Some(Protocol::Http2),
                    _ => None,
                };
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
    let name = written.to_ascii_uppercase().replace('_', "-");
    let protocol = match name.as_str() {
        "HTTP" => Some(Protocol::Http),
        "HTTP2" | "GRPC" | "GRPC-WEB" => Some(Protocol::Http2),
        "HTTP-PROXY" => Some(Protocol::HttpProxy),
        _ => None,
    };
    let valid = match accepted {
        [Protocol::HttpProxy] => "`HTTP_PROXY`",
        _ => "`HTTP`, `HTTP2` or `GRPC`",
    };
    match protocol {
        Some(protocol) if accepted.contains(&protocol) => Some(protocol),
        None if !NOT_YET.contains(&name.as_str()) => {
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
