use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use periplus_collect::jaeger;
use tokio::net::{TcpListener, UdpSocket};

/// Where to listen: `PORT`, `ADDRESS:PORT`, `:PORT` (all addresses) or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    Off,
    /// Without an address it is that of `--bind`.
    On {
        address: Option<IpAddr>,
        port: u16,
    },
}

impl Listen {
    /// A port on the address of `--bind`.
    pub(super) const fn port(port: u16) -> Self {
        Self::On {
            address: None,
            port,
        }
    }
}

/// Parses what a flag takes.
pub(super) fn parse(text: &str) -> Result<Listen, String> {
    let invalid = || {
        format!(
            "'{text}' is no port: use PORT, ADDRESS:PORT such as 127.0.0.1:4317 or [::1]:4317, \
             :PORT for all addresses, or off"
        )
    };
    if text == "off" {
        return Ok(Listen::Off);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::On {
            address: Some(address.ip()),
            port: address.port(),
        });
    }
    let (address, port) = match text.split_once(':') {
        None => (None, text),
        Some(("", port)) => (Some(Ipv4Addr::UNSPECIFIED.into()), port),
        Some(("localhost", port)) => (Some(Ipv4Addr::LOCALHOST.into()), port),
        Some(_) => return Err(invalid()),
    };
    let port = port.parse().map_err(|_| invalid())?;
    Ok(Listen::On { address, port })
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Off => f.write_str("off"),
            Self::On {
                address: None,
                port,
            } => write!(f, "{port}"),
            Self::On {
                address: Some(address),
                port,
            } => write!(f, "{}", SocketAddr::new(address, port)),
        }
    }
}

/// A port to listen on, and the flag that moves it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) name: &'static str,
    listen: Listen,
    flag: &'static str,
}

impl Port {
    pub(super) const fn new(name: &'static str, listen: Listen, flag: &'static str) -> Self {
        Self { name, listen, flag }
    }

    pub(super) fn is_off(&self) -> bool {
        self.listen == Listen::Off
    }

    pub(super) const fn flag(&self) -> &'static str {
        self.flag
    }

    /// Listens, unless it is off; an error names the port, the flag and what to do.
    pub(super) async fn bind(
        &self,
        bind: IpAddr,
    ) -> anyhow::Result<Option<(TcpListener, SocketAddr)>> {
        let Some(wanted) = self.wanted(bind) else {
            return Ok(None);
        };
        let listener = TcpListener::bind(wanted)
            .await
            .map_err(|error| self.unusable(wanted, error, "ss -ltnp"))?;
        let address = listener.local_addr();
        Ok(Some((listener, self.known(wanted, address)?)))
    }

    /// Opens a socket for datagrams, unless it is off; an error says as much.
    pub(super) fn bind_datagrams(
        &self,
        bind: IpAddr,
    ) -> anyhow::Result<Option<(UdpSocket, SocketAddr)>> {
        let Some(wanted) = self.wanted(bind) else {
            return Ok(None);
        };
        let socket =
            jaeger::udp::bind(wanted).map_err(|error| self.unusable(wanted, error, "ss -lunp"))?;
        let address = socket.local_addr();
        Ok(Some((socket, self.known(wanted, address)?)))
    }

    fn wanted(&self, bind: IpAddr) -> Option<SocketAddr> {
        match self.listen {
            Listen::Off => None,
            Listen::On { address, port } => Some(SocketAddr::new(address.unwrap_or(bind), port)),
        }
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
        let Self { name, flag, .. } = self;
        let (address, number) = (wanted.ip(), wanted.port());
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {number} ({name}) is taken: stop what listens there \
                 (`{lister} 'sport = :{number}'` names it), or choose another with {flag}"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {number} ({name}) needs privileges: choose one above 1023 with {flag}"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "{address} is no address of this machine: choose another with --bind or {flag}"
            ),
            _ => format!("port {number} ({name}) cannot be used: choose another with {flag}"),
        };
        anyhow::Error::new(error)
            .context(format!("cannot listen on {wanted} ({name})"))
            .context(advice)
    }
}

/// A port that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// Whether it speaks TLS.
    pub(super) secure: bool,
}

/// Prints one line for each port, and what to do next.
pub(super) fn announce(ports: &[Open], place: &str) {
    let mut out = String::new();
    for port in ports {
        let address = port.address;
        let scheme = if port.secure { "https" } else { "http" };
        let what = match port.name {
            "ui" => format!("UI and query APIs    {scheme}://{address}/"),
            "query/grpc" => format!("Jaeger query, gRPC   {address}"),
            "otlp/grpc" => format!("OTLP over gRPC       {address}"),
            "otlp/http" => format!("OTLP over HTTP       {scheme}://{address}/v1/traces"),
            "zipkin" => format!("Zipkin               {scheme}://{address}/"),
            "jaeger/grpc" => format!("Jaeger over gRPC     {address}"),
            "jaeger/http" => format!("Jaeger over HTTP     {scheme}://{address}/api/traces"),
            "jaeger/compact" => format!("Jaeger UDP, compact  {address}"),
            "jaeger/binary" => format!("Jaeger UDP, binary   {address}"),
            "health" => format!("health               {scheme}://{address}/"),
            "metrics" => format!("own metrics          {scheme}://{address}/metrics"),
            "sampling" => format!("sampling over HTTP   {scheme}://{address}/sampling"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_have_an_address_of_its_own() {
        for (text, shown) in [
            ("4317", "4317"),
            ("0", "0"),
            ("off", "off"),
            (":4317", "0.0.0.0:4317"),
            ("localhost:4317", "127.0.0.1:4317"),
            ("10.0.0.1:4317", "10.0.0.1:4317"),
            ("[::]:4317", "[::]:4317"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "", "-1", "70000", "host:1", ":", "1.2.3.4", "::1:4317", "Off ",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
