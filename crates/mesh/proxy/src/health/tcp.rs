//! Checks by TCP: a connection, and what is said on it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::health::check::{Found, Probe};
use crate::health::http::contains;
use crate::health::watched::Subject;
use crate::net::Stream;
use crate::snapshot::TcpCheck;

/// How much is read in search of what is to come.
const MOST_BYTES: usize = 64 * 1024;

pub(super) async fn check(probe: Probe<'_>, rules: &TcpCheck) -> io::Result<Found> {
    let source = probe.subject.source(probe.address);
    let mut stream = Stream::connect(probe.address, source).await?;
    if !rules.send.is_empty() {
        stream.write_all(&rules.send).await?;
    }
    let mut received = Vec::new();
    while !contains(&received, &rules.receive) {
        if received.len() >= MOST_BYTES || stream.read_buf(&mut received).await? == 0 {
            return Err(io::Error::other("something else came than was to come"));
        }
    }
    Ok(Found::Healthy)
}

impl Subject {
    /// The address that connections to the endpoint are made from, if that is said.
    pub(super) fn source(&self, to: SocketAddr) -> Option<IpAddr> {
        let mut sources = self.cluster.sources.iter().copied();
        sources.find(|source| source.is_ipv4() == to.is_ipv4())
    }
}

impl Probe<'_> {
    /// The host that is asked for.
    pub(super) fn host(&self, configured: &str) -> String {
        let of_endpoint = &self.subject.endpoint.check_hostname;
        let names = [configured, of_endpoint, &self.subject.cluster.name];
        let named = names.into_iter().find(|name| !name.is_empty());
        named.unwrap_or_default().to_owned()
    }
}
