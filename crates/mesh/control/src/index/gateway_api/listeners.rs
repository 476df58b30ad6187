//! Listeners of Gateways.

use std::collections::BTreeSet;

use periplus_resources::gateway_api::{
    GROUP, Gateway as ApiGateway, Listener, ListenerProtocol, ListenerTls,
};
use periplus_resources::{Kind, Protocol, ServerTls};

use super::backends::Lookup;
use super::status::{Condition, Flaw, ListenerStatus};
use super::termination::{Authorities, terminate};
use crate::index::Entry;

/// A listener with what is known about it.
pub(super) struct StandingListener<'a> {
    pub(super) listener: &'a Listener,
    /// The kinds of routes that it takes.
    pub(super) kinds: Vec<Kind>,
    /// The routes that are attached, however many parents of each mean this listener.
    pub(super) attached: BTreeSet<String>,
    /// What is spoken, within TLS if that ends here.
    pub(super) protocol: Option<Protocol>,
    pub(super) tls: Option<ServerTls>,
    unaccepted: Option<Flaw>,
    conflict: Option<Flaw>,
    unresolved: Option<Flaw>,
}

/// What is in the way of a listener on the port of others: they speak something else, or have its name.
pub(super) fn clash(one: &mut StandingListener<'_>, others: &[StandingListener<'_>], whose: &str) {
    if one.flaw().is_some() {
        return;
    }
    let mut others = others
        .iter()
        .filter(|other| other.flaw().is_none() && other.listener.port == one.listener.port);
    let (port, at) = (one.listener.port, one.listener.at.0);
    let found = others.find_map(|other| {
        let name = &other.listener.name;
        let (reason, message) = match other.group() == one.group() {
            false => (
                "ProtocolConflict",
                format!("listener {name}{whose} has port {port} too, with another protocol"),
            ),
            true if other.listener.hostname == one.listener.hostname => (
                "HostnameConflict",
                format!("listener {name}{whose} has port {port} and the same hostname"),
            ),
            true => return None,
        };
        Some(Flaw::new(reason, at, message))
    });
    one.conflict = found;
}

impl<'a> StandingListener<'a> {
    pub(super) fn new(
        listener: &'a Listener,
        gateway: &Entry<ApiGateway>,
        lookup: Lookup<'_>,
        authorities: Authorities<'_>,
    ) -> Self {
        let at = listener.at.0;
        let secure: &[Kind] = &[Kind::TlsRoute, Kind::TcpRoute];
        let requests: &[Kind] = &[Kind::HttpRoute, Kind::GrpcRoute];
        let (protocol, kinds) = match (&listener.protocol, &listener.tls) {
            (ListenerProtocol::Http | ListenerProtocol::Https, _) => {
                (Some(Protocol::Http), requests)
            }
            (ListenerProtocol::Tls, Some(ListenerTls::Passthrough)) => {
                (Some(Protocol::Tls), &secure[..1])
            }
            (ListenerProtocol::Tls, _) => (Some(Protocol::Tcp), secure),
            (ListenerProtocol::Tcp, _) => (Some(Protocol::Tcp), &secure[1..]),
            (ListenerProtocol::Other(_), _) => (None, &secure[..0]),
        };
        let unaccepted = match &listener.protocol {
            ListenerProtocol::Other(name) => Some(Flaw::new(
                "UnsupportedProtocol",
                at,
                format!(
                    "protocol `{name}` of listener {} is not supported, expected `HTTP`, `HTTPS`, `TLS` or `TCP`",
                    listener.name
                ),
            )),
            _ => None,
        };
        let mut this = Self {
            listener,
            kinds: kinds.to_vec(),
            attached: BTreeSet::new(),
            protocol,
            tls: None,
            unaccepted,
            conflict: None,
            unresolved: None,
        };
        this.restrict_kinds();
        match &listener.tls {
            Some(ListenerTls::Terminate(certificates)) => {
                let frontend = gateway.spec.frontend.of_port(listener.port);
                let frontend = frontend.filter(|_| listener.protocol == ListenerProtocol::Https);
                let ends = terminate(certificates, frontend, &gateway.meta, (lookup, authorities));
                this.unresolved = this.unresolved.take().or(ends.unresolved);
                this.unaccepted = this.unaccepted.take().or(ends.unaccepted);
                this.tls = Some(ServerTls::Terminate(Box::new(ends.termination)));
            }
            Some(ListenerTls::Passthrough) => this.tls = Some(ServerTls::Passthrough),
            None => {}
        }
        this
    }

    /// Leaves the kinds of routes that it says.
    fn restrict_kinds(&mut self) {
        let listener = self.listener;
        if listener.kinds.is_empty() {
            return;
        }
        let strange = listener.kinds.iter().find(|one| {
            let mut kinds = self.kinds.iter();
            one.group != GROUP || !kinds.any(|kind| kind.name() == one.kind)
        });
        self.unresolved = strange.map(|one| {
            let message = format!(
                "listener {} cannot take routes of kind `{}`",
                listener.name, one.kind
            );
            Flaw::new("InvalidRouteKinds", listener.at.0, message)
        });
        self.kinds.retain(|kind| {
            let mut named = listener.kinds.iter();
            named.any(|one| one.group == GROUP && one.kind == kind.name())
        });
    }

    /// Listeners of the same group can share a port: requests by their hosts, TLS by the names that it asks for.
    fn group(&self) -> Option<u8> {
        Some(match (self.protocol?, &self.tls) {
            (_, Some(_)) => 1,
            (protocol, None) if protocol.is_http() => 0,
            (_, None) => 2,
        })
    }

    /// Why routes have nothing of it.
    pub(super) fn flaw(&self) -> Option<&Flaw> {
        self.unaccepted.as_ref().or(self.conflict.as_ref())
    }

    /// Whether there is something at its port: if it lets nobody in, so that nobody gets to others by its name.
    pub(super) fn is_served(&self) -> bool {
        self.protocol.is_some() && self.conflict.is_none()
    }

    /// All that is wrong with it.
    pub(super) fn flaws(&self) -> impl Iterator<Item = &Flaw> {
        let flaws = self.unaccepted.iter().chain(&self.conflict);
        flaws.chain(&self.unresolved)
    }

    pub(super) fn status(&self, is_programmed: bool) -> ListenerStatus {
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
