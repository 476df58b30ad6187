//! Checks by TCP: a connection, and what is said on it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::health::check::Found;
use crate::health::http::contains;
use crate::health::probe::Probe;
use crate::snapshot::TcpCheck;

/// How much is read in search of what is to come.
const MOST_BYTES: usize = 64 * 1024;

pub(super) async fn check(probe: Probe<'_>, rules: &TcpCheck) -> io::Result<Found> {
    let mut stream = probe.connect(b"").await?;
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
