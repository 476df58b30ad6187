//! HTTP/2 (RFC 9113) on the `h2` crate: connections of clients, and what both sides need.

mod connection;
pub(crate) mod head;
mod keepalive;
mod payload;
mod stream;
mod tasks;

pub(crate) use connection::serve;
pub(crate) use keepalive::Pinger;
pub(crate) use payload::{Payload, Waiting};
pub(crate) use stream::ServerStream;
pub(crate) use tasks::Tasks;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
