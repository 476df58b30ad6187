//! What metrics call the service that a request is for.

use super::id_of;
use super::series::cut;
use crate::snapshot::{Cluster, ServiceName};
use crate::upstream::ClusterState;

/// Clusters that are for no service in particular: the name is theirs, and the host is the client's word.
const OF_NO_SERVICE: [&str; 5] = [
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

/// Routes of Istio's for what is not known, and what goes before the cluster's name for them.
const BLOCK_ALL: (&str, &str) = ("block_all", "BlackHoleCluster");
const ALLOW_ANY: (&str, &str) = ("allow_any", "PassthroughCluster");

/// What a cluster says of its service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    names: ServiceName,
    /// What stands for it.
    id: u64,
}

/// The service that a request or a connection is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service<'a> {
    named: Option<&'a Named>,
    /// What the client has called it; empty if that says nothing. Few are asked for it.
    host: &'a [u8],
    /// What its route says the name is.
    by_route: &'static str,
}

impl Named {
    /// By what the cluster's metadata say, else by its name if that is one of Istio's, such as
    /// `outbound|9080|v1|reviews.default.svc.cluster.local`.
    pub(crate) fn of(cluster: &Cluster) -> Option<Self> {
        let of_name = || {
            let name = match OF_NO_SERVICE.contains(&&*cluster.name) {
                true => return Some(ServiceName::new("", &cluster.name, "")),
                false => cluster.name.split('|').nth(3)?,
            };
            let mut words = name.split('.');
            let (first, second) = (words.next()?, words.next().unwrap_or_default());
            (!name.is_empty()).then(|| ServiceName::new(name, first, second))
        };
        let names = match OF_NO_SERVICE.contains(&&*cluster.name) {
            true => of_name(),
            false => cluster.service.clone().or_else(of_name),
        }?;
        let all = [&*names.host, &*names.name, &*names.namespace].join("|");
        let id = id_of(all.as_bytes());
        Some(Self { names, id })
    }
}

impl<'a> Service<'a> {
    /// By the cluster and the name of the route, and by what the client has called it.
    #[inline]
    pub(crate) fn of(cluster: Option<&'a ClusterState>, route: &str, host: &'a [u8]) -> Self {
        let by_route = match route {
            _ if route.len() != BLOCK_ALL.0.len() => "",
            _ if route == BLOCK_ALL.0 => BLOCK_ALL.1,
            _ if route == ALLOW_ANY.0 => ALLOW_ANY.1,
            _ => "",
        };
        Self {
            named: cluster.and_then(|cluster| cluster.named.as_ref()),
            host,
            by_route,
        }
    }

    /// What stands for it; 0 if nothing is known of it.
    #[inline]
    pub(super) fn id(&self) -> u64 {
        let named = self.named.filter(|_| self.by_route.is_empty());
        let of_host = || match self.host() {
            "" => 0,
            host => id_of(cut(host).as_bytes()),
        };
        match named {
            Some(named) if !named.names.host.is_empty() => named.id,
            Some(named) => named.id ^ of_host(),
            None => self.by_route.len() as u64 ^ of_host(),
        }
    }

    fn host(&self) -> &'a str {
        std::str::from_utf8(self.host).unwrap_or_default()
    }

    /// Its host, name and namespace, as far as they are known; they are empty otherwise.
    pub(super) fn names(&self) -> (&str, &str, &str) {
        match self.named {
            _ if !self.by_route.is_empty() => (self.host(), self.by_route, ""),
            Some(Named { names, .. }) if names.host.is_empty() => (self.host(), &names.name, ""),
            Some(Named { names, .. }) => (&names.host, &names.name, &names.namespace),
            None => (self.host(), self.host(), ""),
        }
    }

    /// One of which the client's word is all that is known.
    #[cfg(test)]
    pub(super) fn called(host: &'a str) -> Self {
        Self {
            host: host.as_bytes(),
            ..Self::default()
        }
    }

    /// The same, of which its client tells too.
    #[cfg(test)]
    pub(super) fn of_both(self, host: &'a str) -> Self {
        Self {
            host: host.as_bytes(),
            ..self
        }
    }

    /// One of which its cluster tells.
    #[cfg(test)]
    pub(super) fn named(named: &'a Named) -> Self {
        Self {
            named: Some(named),
            ..Self::default()
        }
    }
}
