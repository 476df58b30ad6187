use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use periplus_collect::jaeger;
use tokio::net::{TcpListener, UdpSocket};

/// A port to listen on, and the flag that moves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) name: &'static str,
    number: u16,
    flag: &'static str,
}

impl Port {
    pub(super) const fn new(name: &'static str, number: u16, flag: &'static str) -> Self {
        Self { name, number, flag }
    }

    /// Listens; an error names the port, the flag and what to do.
    pub(super) async fn bind(&self, bind: IpAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let wanted = SocketAddr::new(bind, self.number);
        let listener = TcpListener::bind(wanted)
            .await
            .map_err(|error| self.unusable(wanted, error, "ss -ltnp"))?;
        let address = listener.local_addr();
        Ok((listener, self.known(wanted, address)?))
    }

    /// Opens a socket for datagrams; an error says as much.
    pub(super) fn bind_datagrams(&self, bind: IpAddr) -> anyhow::Result<(UdpSocket, SocketAddr)> {
        let wanted = SocketAddr::new(bind, self.number);
        let socket =
            jaeger::udp::bind(wanted).map_err(|error| self.unusable(wanted, error, "ss -lunp"))?;
        let address = socket.local_addr();
        Ok((socket, self.known(wanted, address)?))
    }

    fn known(
        &self,
        wanted: SocketAddr,
        address: io::Result<SocketAddr>,
    ) -> anyhow::Result<SocketAddr> {
        let name = self.name;
        address.with_context(|| format!("cannot tell the address of {wanted} ({name})"))
    }

    fn unusable(&self, wanted: SocketAddr, error: io::Error, lister: &str) -> anyhow::Error {
        let Self { name, number, flag } = self;
        let bind = wanted.ip();
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {number} ({name}) is taken: stop what listens there \
                 (`{lister} 'sport = :{number}'` names it), or choose another with {flag}"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {number} ({name}) needs privileges: choose one above 1023 with {flag}"
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("{bind} is no address of this machine: choose another with --bind")
            }
            _ => format!("port {number} ({name}) cannot be used: choose another with {flag}"),
        };
        anyhow::Error::new(error)
            .context(format!("cannot listen on {wanted} ({name})"))
            .context(advice)
    }
}

/// Prints one line for each port, and what to do next.
pub(super) fn announce(addresses: &[(&'static str, SocketAddr)], place: &str) {
    let mut out = String::new();
    for (name, address) in addresses {
        let what = match *name {
            "ui" => format!("UI and query APIs    http://{address}/"),
            "query/grpc" => format!("Jaeger query, gRPC   {address}"),
            "otlp/grpc" => format!("OTLP over gRPC       {address}"),
            "otlp/http" => format!("OTLP over HTTP       http://{address}/v1/traces"),
            "zipkin" => format!("Zipkin               http://{address}/"),
            "jaeger/grpc" => format!("Jaeger over gRPC     {address}"),
            "jaeger/http" => format!("Jaeger over HTTP     http://{address}/api/traces"),
            "jaeger/compact" => format!("Jaeger UDP, compact  {address}"),
            "jaeger/binary" => format!("Jaeger UDP, binary   {address}"),
            "health" => format!("health               http://{address}/"),
            "metrics" => format!("own metrics          http://{address}/metrics"),
            "sampling" => format!("sampling over HTTP   http://{address}/sampling"),
            "sampling/grpc" => format!("sampling over gRPC   {address}"),
            other => format!("{other:<20} {address}"),
        };
        out.push_str(&what);
        out.push('\n');
    }
    out.push_str(&format!(
        "\nready: spans are kept {place}; send some, then open the UI. Ctrl-C stops.\n"
    ));
    // Nobody reads standard output if it is closed; the server serves all the same.
    let _ = io::stdout().write_all(out.as_bytes());
}
