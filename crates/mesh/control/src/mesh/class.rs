//! Proxies that have the same resources.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use periplus_resources::Host;

use crate::index::Index;
use crate::proxy::Proxy;

/// What resources depend on: proxies that agree in it, as the replicas of a workload do, have the same.
#[derive(Clone, Debug)]
pub(super) struct Class {
    traits: Arc<Traits>,
    hash: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Traits {
    /// Without its id. Without its address, too, if that only says what it serves.
    proxy: Proxy,
    /// The services that it is an endpoint of, each with the ports that stand behind the service's.
    serves: Vec<(Host, Vec<u16>)>,
    /// What its pod says of it.
    config: Option<String>,
}

impl Class {
    /// The class of a proxy, which was in another state of this one.
    pub(super) fn of(index: &Index, proxy: &Proxy, before: Option<&Self>) -> Self {
        let sidecar = index.sidecar_for(proxy);
        let listens = sidecar.is_some_and(|sidecar| !sidecar.spec.ingress.is_empty());
        let ip = match proxy.ip {
            ip if proxy.interception.is_none() || listens => ip,
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let serves = index.served_by(proxy);
        let config = index.pod_config(proxy);
        let machine = index.machine_of(proxy);
        if let Some(before) = before
            && (before.traits.proxy.ip, &before.traits.serves) == (ip, &serves)
            && before.traits.config.as_deref() == config
            && before.traits.proxy.machine == machine
        {
            return before.clone();
        }
        let traits = Traits {
            proxy: Proxy {
                id: String::new(),
                ip,
                machine,
                ..proxy.clone()
            },
            serves,
            config: config.map(str::to_owned),
        };
        let mut hasher = DefaultHasher::new();
        traits.hash(&mut hasher);
        Self {
            traits: Arc::new(traits),
            hash: hasher.finish(),
        }
    }
}

impl Hash for Class {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        let is_one = || Arc::ptr_eq(&self.traits, &other.traits);
        self.hash == other.hash && (is_one() || self.traits == other.traits)
    }
}

impl Eq for Class {}
