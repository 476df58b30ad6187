//! Gateways and their listeners.

use std::collections::{BTreeMap, BTreeSet};

use periplus_resources::gateway_api::{
    Address, GROUP, Gateway as ApiGateway, GatewayClass, Listener, ListenerProtocol, ListenerTls,
};
use periplus_resources::{
    Endpoints, Gateway, Host, Kind, Labels, Meta, Port, Protocol, Server, ServerHost, did_you_mean,
};

use super::status::{CONTROLLER, Condition, Flaw, ListenerStatus, ResourceStatus};
use crate::index::{Entry, Index, Problem, Service};

/// The label of the proxies of a Gateway.
const NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// The class that is there without a resource, as in Istio.
const OWN_CLASS: &str = "istio";
/// Istio's other classes.
const OTHER_CLASSES: [&str; 3] = ["istio-waypoint", "istio-remote", "istio-east-west"];

/// A Gateway with what is known about it.
pub(super) struct Standing<'a> {
    pub(super) entry: &'a Entry<ApiGateway>,
    pub(super) listeners: Vec<StandingListener<'a>>,
    flaw: Option<Flaw>,
    unusable_address: Option<Flaw>,
    /// The labels and the namespace of its proxies.
    proxies: (Labels, String),
}

/// A listener with what is known about it.
pub(super) struct StandingListener<'a> {
    pub(super) listener: &'a Listener,
    /// The kinds of routes that it takes.
    pub(super) kinds: Vec<Kind>,
    /// The routes that are attached, however many parents of each mean this listener.
    pub(super) attached: BTreeSet<String>,
    protocol: Option<Protocol>,
    unaccepted: Option<Flaw>,
    conflict: Option<Flaw>,
    unresolved: Option<Flaw>,
}

impl StandingListener<'_> {
    /// Why routes have nothing of it.
    pub(super) fn flaw(&self) -> Option<&Flaw> {
        self.unaccepted.as_ref().or(self.conflict.as_ref())
    }
}

/// The classes whose Gateways are taken, and what is said about them.
pub(super) fn classes<'a>(
    entries: &'a [Entry<GatewayClass>],
    statuses: &mut Vec<ResourceStatus>,
) -> Vec<&'a str> {
    let own = entries
        .iter()
        .filter(|entry| entry.spec.controller == CONTROLLER);
    let mut names = vec![OWN_CLASS];
    for entry in own {
        names.push(&entry.meta.name);
        statuses.push(ResourceStatus {
            meta: entry.meta.clone(),
            conditions: vec![Condition::holds("Accepted")],
            listeners: Vec::new(),
            parents: Vec::new(),
        });
    }
    // One of that name that is somebody else's.
    let is_foreign = |name: &&str| {
        let mut named = entries.iter().filter(|entry| entry.meta.name == *name);
        named.any(|entry| entry.spec.controller != CONTROLLER)
    };
    names.retain(|name| !is_foreign(name));
    names
}

/// The Gateways of these classes.
pub(super) fn stand<'a>(
    entries: &'a [Entry<ApiGateway>],
    (known, classes): (&'a [Entry<GatewayClass>], &[&str]),
    index: &Index,
    problems: &mut Vec<Problem>,
) -> Vec<Standing<'a>> {
    let mut standing = Vec::new();
    for entry in entries {
        let class = entry.spec.class.as_str();
        if classes.contains(&class) {
            standing.push(Standing::new(entry, index));
        } else if !known.iter().any(|one| one.meta.name == class) {
            let message = match OTHER_CLASSES.contains(&class) {
                true => format!(
                    "{}: class `{class}` is not supported: there are neither waypoints nor gateways of other \
                     clusters, use `{OWN_CLASS}`",
                    entry.meta
                ),
                false => format!(
                    "{} has no effect: there is no GatewayClass `{class}`{}; use `{OWN_CLASS}`, or add a GatewayClass \
                     with `controllerName: {CONTROLLER}`",
                    entry.meta,
                    did_you_mean(class, classes.iter().copied())
                ),
            };
            let source = &entry.meta.source;
            problems.push(Problem::error(source, source.position, message));
        }
    }
    standing
}

impl<'a> Standing<'a> {
    fn new(entry: &'a Entry<ApiGateway>, index: &Index) -> Self {
        let mut listeners: Vec<StandingListener<'_>> = Vec::new();
        for listener in &entry.spec.listeners {
            let mut one = StandingListener::new(listener);
            let mut before = listeners.iter().filter(|other| other.flaw().is_none());
            let other = before.find(|other| {
                other.listener.port == listener.port
                    && other.protocol.map(group) != one.protocol.map(group)
            });
            if let Some(other) = other.filter(|_| one.unaccepted.is_none()) {
                one.conflict = Some(Flaw::new(
                    "ProtocolConflict",
                    listener.at.0,
                    format!(
                        "listener {} has port {} too, with another protocol",
                        other.listener.name, listener.port
                    ),
                ));
            }
            listeners.push(one);
        }
        let mut this = Self {
            entry,
            listeners,
            flaw: None,
            unusable_address: None,
            proxies: (
                Labels::from([(NAME_LABEL.to_owned(), entry.meta.name.clone())]),
                entry.meta.namespace.clone(),
            ),
        };
        this.find_proxies(index);
        if this.flaw.is_none() && this.listeners.iter().all(|one| one.flaw().is_some()) {
            this.flaw = Some(Flaw::new(
                "ListenersNotValid",
                entry.meta.source.position,
                "none of its listeners is valid".to_owned(),
            ));
        }
        this
    }

    /// Who serves it: proxies with its name, or those behind the service that its address names.
    fn find_proxies(&mut self, index: &Index) {
        let meta = &self.entry.meta;
        let at = meta.source.position;
        match self.entry.spec.addresses.as_slice() {
            [] => {}
            [Address::Hostname(name)] => {
                let host = name.resolve(&meta.namespace);
                let service = index.service(&host);
                match service.and_then(|service| Some((labels_behind(service)?, service))) {
                    Some((labels, service)) => {
                        self.proxies = (labels, service.meta.namespace.clone());
                    }
                    None => {
                        let message = format!(
                            "address `{host}` is no service whose workloads have labels in common: the gateway's \
                             proxies cannot be told"
                        );
                        self.unusable_address = Some(Flaw::new("AddressNotUsable", at, message));
                    }
                }
            }
            _ => {
                let message = "`addresses` may have one item, of `type: Hostname`, which names the service of the \
                               gateway's proxies";
                self.flaw = Some(Flaw::new("UnsupportedAddress", at, message.to_owned()));
            }
        }
    }

    /// Whether something comes of it.
    fn is_programmed(&self) -> bool {
        self.flaw.is_none() && self.unusable_address.is_none()
    }

    /// The Gateway of Istio's that stands for a listener.
    pub(super) fn name_of(&self, listener: &Listener) -> (String, String) {
        let Meta {
            namespace, name, ..
        } = &self.entry.meta;
        (namespace.clone(), format!("{name}~{}", listener.name))
    }

    /// A Gateway of Istio's for each listener.
    pub(super) fn lower(&self) -> Vec<Entry<Gateway>> {
        if !self.is_programmed() {
            return Vec::new();
        }
        let usable = self.listeners.iter().filter(|one| one.flaw().is_none());
        let lower = |one: &StandingListener<'_>| {
            let listener = one.listener;
            let any = || Host::parse("*").ok();
            let (namespace, name) = self.name_of(listener);
            Some(Entry {
                meta: Meta {
                    namespace,
                    name,
                    ..self.entry.meta.clone()
                },
                spec: Gateway {
                    selector: self.proxies.0.clone(),
                    namespace: Some(self.proxies.1.clone()),
                    isolates_hosts: true,
                    servers: vec![Server {
                        port: Port {
                            number: listener.port,
                            name: listener.name.clone(),
                            protocol: one.protocol?,
                            target_port: None,
                        },
                        bind: None,
                        hosts: vec![ServerHost {
                            namespace: None,
                            host: listener.hostname.clone().or_else(any)?,
                        }],
                        passes_tls_through: one.protocol == Some(Protocol::Tls),
                    }],
                },
            })
        };
        usable.filter_map(lower).collect()
    }

    pub(super) fn status(&self, problems: &mut Vec<Problem>) -> ResourceStatus {
        let meta = &self.entry.meta;
        let not_valid = self.listeners.iter().find_map(StandingListener::flaw);
        let mut accepted = Condition::unless("Accepted", self.flaw.as_ref());
        if let (true, Some(_)) = (accepted.holds, not_valid) {
            accepted.reason = "ListenersNotValid";
        }
        let against = self.flaw.as_ref().map(|flaw| Flaw {
            reason: "Invalid",
            ..flaw.clone()
        });
        let against = against.or_else(|| self.unusable_address.clone());
        let programmed = Condition::unless("Programmed", against.as_ref());
        let own = self.flaw.iter().chain(&self.unusable_address);
        problems.extend(own.map(|flaw| flaw.error(meta)));
        for one in &self.listeners {
            let flaws = one.unaccepted.iter().chain(&one.conflict);
            problems.extend(flaws.chain(&one.unresolved).map(|flaw| flaw.error(meta)));
        }
        let listeners = self.listeners.iter();
        ResourceStatus {
            meta: meta.clone(),
            conditions: vec![accepted, programmed],
            listeners: listeners
                .map(|one| one.status(self.is_programmed()))
                .collect(),
            parents: Vec::new(),
        }
    }
}

/// Listeners of the same group can share a port.
fn group(protocol: Protocol) -> u8 {
    match protocol {
        protocol if protocol.is_http() => 0,
        Protocol::Tls => 1,
        _ => 2,
    }
}

/// The labels that tell a service's workloads.
fn labels_behind(service: &Service) -> Option<Labels> {
    let labels = match &service.spec.endpoints {
        Endpoints::Selected(selector) => selector.clone(),
        Endpoints::Listed(endpoints) => {
            let (first, others) = endpoints.split_first()?;
            let mut common: BTreeMap<_, _> = first.labels.clone();
            for other in others {
                common.retain(|key, value| other.labels.get(key) == Some(value));
            }
            common
        }
    };
    (!labels.is_empty()).then_some(labels)
}

impl<'a> StandingListener<'a> {
    fn new(listener: &'a Listener) -> Self {
        let at = listener.at.0;
        let passes = listener.tls == Some(ListenerTls::Passthrough);
        let (protocol, kinds): (_, &[Kind]) = match &listener.protocol {
            ListenerProtocol::Http => (Some(Protocol::Http), &[Kind::HttpRoute, Kind::GrpcRoute]),
            ListenerProtocol::Tls if passes => (Some(Protocol::Tls), &[Kind::TlsRoute]),
            ListenerProtocol::Tcp => (Some(Protocol::Tcp), &[Kind::TcpRoute]),
            _ => (None, &[]),
        };
        let unsupported = match &listener.protocol {
            _ if protocol.is_some() => None,
            ListenerProtocol::Other(name) => Some(format!(
                "protocol `{name}` of listener {} is not supported, expected `HTTP`, `TLS` or `TCP`",
                listener.name
            )),
            _ => Some(format!(
                "listener {} would end TLS, which gateways do not do yet: use `protocol: TLS` with `mode: Passthrough`",
                listener.name
            )),
        };
        let unaccepted = unsupported.map(|message| Flaw::new("UnsupportedProtocol", at, message));
        let mut unresolved = None;
        let mut kinds = kinds.to_vec();
        if !listener.kinds.is_empty() {
            let is_named = |kind: &Kind| {
                let mut named = listener.kinds.iter();
                named.any(|one| one.group == GROUP && one.kind == kind.name())
            };
            let strange = listener.kinds.iter().find(|one| {
                one.group != GROUP || !kinds.iter().any(|kind| kind.name() == one.kind)
            });
            unresolved = strange.map(|one| {
                let message = format!(
                    "listener {} cannot take routes of kind `{}`",
                    listener.name, one.kind
                );
                Flaw::new("InvalidRouteKinds", at, message)
            });
            kinds.retain(is_named);
        }
        Self {
            listener,
            kinds,
            attached: BTreeSet::new(),
            protocol,
            unaccepted,
            conflict: None,
            unresolved,
        }
    }

    fn status(&self, is_programmed: bool) -> ListenerStatus {
        let against = self.flaw().or(self.unresolved.as_ref()).map(|flaw| Flaw {
            reason: "Invalid",
            ..flaw.clone()
        });
        let pending = || {
            let message = "the Gateway is not programmed".to_owned();
            Flaw::new("Pending", self.listener.at.0, message)
        };
        let against = against.or_else(|| (!is_programmed).then(pending));
        let conflicted = Condition {
            kind: "Conflicted",
            holds: self.conflict.is_some(),
            reason: self
                .conflict
                .as_ref()
                .map_or("NoConflicts", |flaw| flaw.reason),
            message: self
                .conflict
                .as_ref()
                .map(|flaw| flaw.message.clone())
                .unwrap_or_default(),
        };
        ListenerStatus {
            name: self.listener.name.clone(),
            attached_routes: self.attached.len(),
            supported_kinds: self.kinds.clone(),
            conditions: vec![
                Condition::unless("Accepted", self.unaccepted.as_ref()),
                conflicted,
                Condition::unless("ResolvedRefs", self.unresolved.as_ref()),
                Condition::unless("Programmed", against.as_ref()),
            ],
        }
    }
}
