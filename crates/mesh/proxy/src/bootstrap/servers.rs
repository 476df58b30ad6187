//! `static_resources.clusters` besides that of the control plane: servers of secrets (SDS), such as SPIRE's agent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file::{Address, Cluster, Problem, problem};

/// Where a server of secrets is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretServerAddress {
    /// As `http://HOST:PORT`.
    Tcp(String),
    /// A socket of Unix.
    Pipe(PathBuf),
}

/// The clusters, by their names. For traffic clusters come from the control plane.
pub(super) fn check<'a>(
    clusters: impl Iterator<Item = (usize, &'a Cluster)>,
) -> Result<BTreeMap<String, SecretServerAddress>, Problem> {
    let mut servers = BTreeMap::new();
    for (index, cluster) in clusters {
        let at = format!("static_resources.clusters[{index}]");
        let speaks_http2 =
            cluster.http2_protocol_options.is_some() || !cluster.protocol_options.is_empty();
        if !speaks_http2 {
            let message = format!(
                "only the cluster of the control plane, and servers of secrets with http2_protocol_options, are \
                 supported, not {:?}",
                cluster.name
            );
            return Err((at, message));
        }
        if cluster.transport_socket.is_some() {
            let message = "is not supported for a server of secrets, only plaintext or a pipe is";
            return Err(problem(&format!("{at}.transport_socket"), message));
        }
        let address = cluster
            .address()
            .map_err(|message| problem(&format!("{at}.load_assignment.endpoints"), message))?;
        let address = match address {
            Address::Socket(socket) => SecretServerAddress::Tcp(socket.uri("http")),
            Address::Pipe(pipe) => SecretServerAddress::Pipe(pipe.path.clone()),
        };
        if servers.insert(cluster.name.clone(), address).is_some() {
            return Err((at, format!("there is another cluster {:?}", cluster.name)));
        }
    }
    Ok(servers)
}
