//! Who may have secrets.

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_identity::PeerId;
use periplus_xds::server::Peer;

use crate::proxy::Proxy;

/// Whether a peer may have the secrets of the node that it says it is: one that has shown a certificate, if that is of
/// the node's namespace; otherwise one on this machine, where whoever can connect can read the files too.
pub(crate) fn may_have_secrets(node: &Node, peer: &Peer) -> bool {
    let Some(known) = peer.fact::<PeerId>() else {
        return peer.is_local();
    };
    match &known.id {
        Some(id) => {
            Proxy::from_node(node).is_ok_and(|proxy| proxy.namespace == id.account().namespace())
        }
        None => known.address.ip().to_canonical().is_loopback(),
    }
}
