//! That what is measured as on has been on.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::surroundings::http_get_text;
use super::{HOST, Peer, Surroundings};

/// Fails unless this peer has done what it is said to do for so many requests and more: lines in its log, counts in its
/// metrics, and what no rule allows is refused.
pub(crate) fn check(
    peer: Peer,
    at: SocketAddr,
    requests: u64,
    around: &Surroundings,
) -> anyhow::Result<()> {
    let Some(on) = peer.on() else {
        return Ok(());
    };
    if on.log {
        let log = around.log();
        let log = log.as_ref().context("nothing has a log")?;
        // Envoy keeps the last 64 KiB for ten seconds.
        let expected = requests.saturating_sub(200);
        let lines = log.lines(expected);
        ensure!(
            lines >= expected,
            "{requests} requests were answered, and the log has {lines} lines"
        );
        let first = log.first();
        let first: Value = serde_json::from_slice(first)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(first)))?;
        ensure!(first["response_code"] == 200, "the log says {first}");
    }
    if on.metrics {
        let counted = counted(peer, around)?;
        ensure!(
            counted >= requests as f64,
            "{requests} requests were answered, and {counted} are counted"
        );
    }
    let status = status_of_delete(at)?;
    let expected = if on.rbac { "403" } else { "200" };
    ensure!(
        status == expected,
        "a request that no rule allows is answered with {status} instead of {expected}"
    );
    Ok(())
}

/// The sum of `istio_requests_total`.
fn counted(peer: Peer, around: &Surroundings) -> anyhow::Result<f64> {
    let bootstrap: Value = serde_json::from_slice(&fs::read(peer.file(around))?)?;
    let admin = &bootstrap["admin"]["address"]["socket_address"];
    let port = admin["port_value"].as_u64().context("no port")?;
    let admin = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
    let page = http_get_text(admin, "/stats/prometheus")?;
    let series = page
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{"));
    let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum())
}

fn status_of_delete(at: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let path = crate::full::PATH;
    let request = format!("DELETE {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let start = String::from_utf8_lossy(&start);
    Ok(start.rsplit(' ').next().unwrap_or_default().to_owned())
}
