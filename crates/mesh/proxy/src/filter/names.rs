//! Looks up the host of a request that goes to a cluster whose endpoints are such hosts.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::acquire::Waits;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::names::{Lost, Names};
use crate::policy::authz::while_there;
use crate::reply::{Failure, Reply};

/// Where requests go that name no port.
const DEFAULT_PORT: u16 = 80;

/// Looks the host up: an answer, if it has no address.
pub(super) async fn run(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    names: &Arc<Names>,
) -> Result<Option<Reply<'static>>, Failure> {
    let cluster = exchange.cluster.as_ref();
    if !cluster.is_some_and(|cluster| cluster.cluster.is_by_name()) {
        return Ok(None);
    }
    let (host, port) = client.call().host_and_port();
    let lost = match while_there(client, names.find(&host)).await? {
        Ok(address) => {
            exchange.rare().looked_up = Some(SocketAddr::new(address, port));
            return Ok(None);
        }
        Err(lost) => lost,
    };
    let (body, details) = match lost {
        Lost::NotFound(why) => {
            exchange.flags.set(Flag::DF);
            let why = why.replace(char::is_whitespace, "_");
            let details = format!("dns_resolution_failure{{{why}}}");
            ("DNS resolution failure", details.into())
        }
        Lost::TooManyNames => ("DNS cache overflow", "dns_cache_overflow".into()),
        Lost::TooManyWaiting => (
            "Dynamic forward proxy pending request overflow",
            "dynamic_forward_proxy_pending_request_overflow".into(),
        ),
    };
    exchange.rare().details = Some(details);
    Ok(Some(Reply::new(503, body)))
}

impl Call {
    /// The host that the client has asked for, in lower case, and its port.
    fn host_and_port(&self) -> (String, u16) {
        let (head, target) = (self.buffer.head(), &self.request.target);
        let (authority, host) = (target.authority.get(head), target.host.get(head));
        let port = authority
            .get(host.len()..)
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .and_then(|rest| rest.strip_prefix(':')?.parse().ok());
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        (host, port.unwrap_or(DEFAULT_PORT))
    }
}
