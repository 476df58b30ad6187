//! The listeners that a request may come to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use periplus_control::{Role, Workload};
use periplus_proxy::explain::Explainer;
use periplus_proxy::snapshot::{Direction, Listener};
use periplus_resources::Host;

use super::request::Request;
use super::scene::Scene;

/// The listeners that may get a request, and where its connection seems to go.
pub(super) fn candidates(
    scene: &Scene,
    from: &Workload,
    (explainer, request): (&Explainer, &Request),
) -> Vec<(Arc<Listener>, SocketAddr)> {
    let outbound = explainer.listeners().iter();
    let outbound = outbound.filter(|listener| listener.direction == Direction::Outbound);
    let at_own = |listener: &Arc<Listener>| (listener.clone(), listener.address);
    if from.proxy.role == Role::Router {
        let all: Vec<_> = outbound.map(at_own).collect();
        let at_port = all.iter().filter(|(_, to)| to.port() == request.port);
        let at_port: Vec<_> = at_port.cloned().collect();
        // A port that nobody has written is that of the only listener.
        return match (at_port.is_empty(), request.has_port) {
            (false, _) => at_port,
            (true, false) => all,
            (true, true) => Vec::new(),
        };
    }
    if from.proxy.interception.is_none() {
        return outbound.map(at_own).collect();
    }
    let to = destination(scene, request);
    let order = |listener: &Arc<Listener>| match listener.address {
        address if address == to => 0,
        address if address.port() == to.port() && address.ip().is_unspecified() => 1,
        _ => 2,
    };
    let mut fitting: Vec<_> = outbound
        .filter(|listener| order(listener) < 2 || listener.hands_over)
        .cloned()
        .collect();
    fitting.sort_by_key(order);
    fitting.truncate(1);
    fitting.into_iter().map(|listener| (listener, to)).collect()
}

/// Where an application connects to that has looked the host up.
fn destination(scene: &Scene, request: &Request) -> SocketAddr {
    // Of the blocks for documentation (RFC 5737): nobody of the mesh lives there.
    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    if let Ok(ip) = request.host.parse() {
        return SocketAddr::new(ip, request.port);
    }
    let named = Host::parse(&request.host).ok();
    let service = named.and_then(|host| scene.service_called(&host));
    let address = service.and_then(|service| {
        let own = service.spec.addresses.first().copied();
        own.or_else(|| service.endpoints.first()?.address.ip())
    });
    SocketAddr::new(address.unwrap_or(NOBODY), request.port)
}
