//! Gateways and their listeners.

use std::collections::BTreeMap;

use periplus_resources::gateway_api::{Address, Gateway as ApiGateway, GatewayClass, Listener};
use periplus_resources::{
    Endpoints, GATEWAY_NAME_LABEL, Gateway, Host, Labels, Meta, Port, Server, ServerHost,
    did_you_mean,
};

use super::age;
use super::backends::Lookup;
use super::listeners::{StandingListener, clash};
use super::status::{CONTROLLER, Condition, Flaw, ResourceStatus};
use super::termination::Authorities;
use crate::index::{Entry, Index, Problem, Service};

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
    pub(super) proxies: (Labels, String),
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
    (lookup, authorities): (Lookup<'_>, Authorities<'_>),
    problems: &mut Vec<Problem>,
) -> Vec<Standing<'a>> {
    let mut standing = Vec::new();
    for entry in entries {
        let class = entry.spec.class.as_str();
        if classes.contains(&class) {
            standing.push(Standing::new(entry, lookup, authorities));
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
    conflict(&mut standing);
    standing
}

/// Of several Gateways with the same proxies, the oldest one that claims something has it.
fn conflict(standing: &mut [Standing<'_>]) {
    let mut order: Vec<usize> = (0..standing.len()).collect();
    order.sort_by_key(|at| age(&standing[*at].entry.meta));
    for (at, younger) in order.iter().enumerate() {
        for older in &order[..at] {
            let Ok([older, younger]) = standing.get_disjoint_mut([*older, *younger]) else {
                continue;
            };
            if older.proxies == younger.proxies && older.is_programmed() {
                let name = older.entry.meta.to_string();
                for one in &mut younger.listeners {
                    clash(one, &older.listeners, &format!(" of {name}"));
                }
            }
        }
    }
    for one in standing {
        one.find_invalid();
    }
}

impl<'a> Standing<'a> {
    fn new(entry: &'a Entry<ApiGateway>, lookup: Lookup<'_>, authorities: Authorities<'_>) -> Self {
        let mut listeners: Vec<StandingListener<'_>> = Vec::new();
        for listener in &entry.spec.listeners {
            let mut one = StandingListener::new(listener, entry, lookup, authorities);
            clash(&mut one, &listeners, "");
            listeners.push(one);
        }
        let mut this = Self {
            entry,
            listeners,
            flaw: None,
            unusable_address: None,
            proxies: (
                Labels::from([(GATEWAY_NAME_LABEL.to_owned(), entry.meta.name.clone())]),
                entry.meta.namespace.clone(),
            ),
        };
        this.find_proxies(lookup.index);
        this
    }

    /// A Gateway of which no listener is left is not valid itself.
    fn find_invalid(&mut self) {
        if self.flaw.is_none() && self.listeners.iter().all(|one| one.flaw().is_some()) {
            self.flaw = Some(Flaw::new(
                "ListenersNotValid",
                self.entry.meta.source.position,
                "none of its listeners is valid".to_owned(),
            ));
        }
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
        let usable = self.listeners.iter().filter(|one| one.is_served());
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
                        tls: one.tls.clone(),
                        redirects_to_https: false,
                    }],
                },
            })
        };
        usable.filter_map(lower).collect()
    }

    /// Clients without good certificates are let in somewhere.
    fn insecure_mode(&self) -> Option<Condition> {
        let frontend = &self.entry.spec.frontend;
        let mut ports = self.listeners.iter().map(|one| one.listener.port);
        let is_insecure = |port| frontend.of_port(port).is_some_and(|one| one.is_insecure);
        let port = ports.find(|port| is_insecure(*port))?;
        Some(Condition {
            kind: "InsecureFrontendValidationMode",
            holds: true,
            reason: "ConfigurationChanged",
            message: format!("port {port} lets in clients whose certificates are not good"),
        })
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
            problems.extend(one.flaws().map(|flaw| flaw.error(meta)));
        }
        let mut conditions = vec![accepted, programmed];
        conditions.extend(self.insecure_mode());
        let listeners = self.listeners.iter();
        ResourceStatus {
            meta: meta.clone(),
            conditions,
            listeners: listeners
                .map(|one| one.status(self.is_programmed()))
                .collect(),
            parents: Vec::new(),
        }
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
