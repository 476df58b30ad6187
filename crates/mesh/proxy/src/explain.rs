//! What the proxy would do with a request, without one: the same resources, compiled and matched by the same code.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::google::protobuf::Any;
use periplus_identity::agent::{OWN, ROOTS};
use periplus_xds::client::Rejection;
use rustls::pki_types::CertificateDer;

use crate::config::{Extent, Store};
use crate::filter::{Active, Maker};
use crate::http1::head::Limits;
use crate::http1::request::RequestHead;
use crate::policy::{Metadata, NO_POLICY, Rules, Subject, client_address};
use crate::route::{Asking, Router};
use crate::snapshot::{
    Cluster, ConnectionManager, Ends, FilterChain, Listener, Route, Service, Sniffed, TcpProxy,
    select,
};
use crate::stats::Registry;
use crate::tls::{Certificate, Secured};

/// What istiod's sidecars offer in mutual TLS.
const MESH_PROTOCOLS: [&[u8]; 2] = [b"istio-http/1.1", b"istio"];

/// What Istio calls the rules that say which requests a service is asked about: theirs is no dry run.
const ASKS: &str = "istio_ext_authz_";

/// A proxy's configuration, as if all of it had arrived.
#[derive(Debug)]
pub struct Explainer {
    listeners: Vec<Arc<Listener>>,
    clusters: HashMap<String, Arc<Cluster>>,
}

/// A request, and the connection that it comes on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its head, as HTTP/1.1 writes it.
    pub head: &'a [u8],
    /// Where the connection comes from.
    pub from: SocketAddr,
    /// Where it goes to.
    pub to: SocketAddr,
    /// Who has shown a certificate of the mesh: `spiffe://…`. None is plaintext.
    pub principal: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Explained {
    /// It is HTTP.
    Request(Box<Routed>),
    /// The connection is passed on to one of these clusters.
    Passed {
        /// Their names and weights.
        clusters: Vec<(String, u32)>,
        /// What the rules for connections say.
        decisions: Vec<Decision>,
    },
    /// No filter chain takes the connection.
    NoChain,
    /// The request is refused before it is routed.
    Refused {
        /// The answer.
        status: u16,
        /// Why.
        reason: &'static str,
    },
}

/// Where a request is routed to.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The route configuration.
    pub configuration: String,
    /// The virtual host, and the route; none matches if there is none.
    pub route: Option<(String, Arc<Route>)>,
    /// What rules say about it, in the order in which they are asked.
    pub decisions: Vec<Decision>,
    /// What else is done before it goes on.
    pub others: Vec<&'static str>,
}

/// What one list of policies says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `ALLOW`, `DENY` or `LOG`: what the policies do that match.
    pub action: &'static str,
    /// Whether it may go on.
    pub allowed: bool,
    /// The policy that matched, `none` if none did.
    pub policy: String,
    /// It is told, and nothing comes of it.
    pub is_dry_run: bool,
}

impl Explainer {
    /// Takes resources by type: clusters, endpoints, listeners and routes.
    ///
    /// # Errors
    ///
    /// What the proxy would refuse.
    pub fn new<'a>(
        resources: impl IntoIterator<Item = (&'a str, Vec<Any>)>,
    ) -> Result<Self, Vec<Rejection>> {
        let now = Instant::now();
        let mut store = Store::default();
        // As if the proxy had a certificate of the mesh: nothing is encrypted with it here.
        store.reserve_secrets(&[OWN, ROOTS]);
        let mut rejections = Vec::new();
        for (type_url, resources) in resources {
            let taken = store.apply(type_url, "", (&resources, Extent::Whole), now);
            rejections.extend(taken.err().into_iter().flatten());
        }
        if !rejections.is_empty() {
            return Err(rejections);
        }
        let (listeners, clusters) = store.as_told(now);
        Ok(Self {
            listeners,
            clusters,
        })
    }

    /// The listeners.
    pub fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// The cluster of a name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(name).map(Arc::as_ref)
    }

    /// What a listener makes of a request.
    pub fn explain(&self, listener: &Listener, asked: &Asked<'_>) -> Explained {
        let sniffed = Sniffed {
            is_tls: asked.principal.is_some(),
            server_name: None,
            protocols: match asked.principal {
                Some(_) => MESH_PROTOCOLS.map(<[u8]>::to_vec).into(),
                None => vec![b"http/1.1".to_vec()],
            },
        };
        let ends = Ends {
            client: asked.from,
            destination: asked.to,
            sniffed: &sniffed,
        };
        match chain(listener, &ends).map(|chain| &chain.service) {
            None => Explained::NoChain,
            Some(Service::Tcp(proxy)) => passed(proxy, asked),
            Some(Service::Http(manager)) => routed(manager, asked),
        }
    }
}

fn chain<'l>(listener: &'l Listener, ends: &Ends<'_>) -> Option<&'l FilterChain> {
    let conditions = listener.chains.iter().map(|chain| &chain.conditions);
    let chosen = select(conditions, ends).and_then(|at| listener.chains.get(at));
    chosen.or(listener.default_chain.as_ref())
}

fn passed(proxy: &TcpProxy, asked: &Asked<'_>) -> Explained {
    use crate::policy::ConnectionRules;
    let secured = asked.principal.map(secured);
    let metadata = Metadata::default();
    let subject = Subject {
        request: None,
        scheme: "",
        peer: asked.from.ip(),
        client: asked.from.ip(),
        destination: Some(asked.to),
        secured: secured.as_ref(),
        server_name: None,
        metadata: &metadata,
    };
    let rules = proxy.rules.iter().filter_map(|rules| match rules {
        ConnectionRules::Rbac(rbac, _) => Some(rbac),
        ConnectionRules::Limit(..) => None,
    });
    let decisions = rules.flat_map(|rbac| {
        let shadow = rbac
            .shadow_rules
            .as_ref()
            .map(|rules| decide(rules, &subject, true));
        let enforced = rbac
            .rules
            .as_ref()
            .map(|rules| decide(rules, &subject, false));
        shadow.into_iter().chain(enforced)
    });
    Explained::Passed {
        decisions: decisions.collect(),
        clusters: (proxy.clusters.iter())
            .map(|choice| (choice.name.clone(), choice.weight))
            .collect(),
    }
}

fn routed(manager: &ConnectionManager, asked: &Asked<'_>) -> Explained {
    let limits = Limits {
        bytes: manager.max_request_head_bytes,
        fields: manager.max_headers,
    };
    let mut bytes = asked.head.to_vec();
    let mut request = RequestHead::default();
    let length = match request.parse(&mut bytes, limits) {
        Ok(Some(length)) => length,
        Ok(None) => {
            return Explained::Refused {
                status: 400,
                reason: "the head has no end",
            };
        }
        Err(refused) => {
            return Explained::Refused {
                status: refused.status,
                reason: refused.reason,
            };
        }
    };
    let head = &bytes[..length];
    let secured = asked.principal.map(secured);
    let scheme = match secured {
        Some(_) => "https",
        None => "http",
    };
    let Some(table) = &manager.routes else {
        return Explained::Refused {
            status: 404,
            reason: "its routes are missing",
        };
    };
    let registry = Registry::default();
    let maker = Maker::new(manager, &registry);
    let router = Router::new(table.clone(), (false, &maker), |_| None);
    let asking = Asking {
        request: &request,
        head,
        scheme,
        is_grpc: false,
        presented: secured.is_some(),
    };
    // Shares of requests are told with the routes: here whoever is first gets it.
    let at = router.find(&asking, || 0);
    let metadata = Metadata::default();
    let subject = Subject {
        request: Some((&request, head)),
        scheme,
        peer: asked.from.ip(),
        client: client_address(manager, &request, head, asked.from.ip()),
        destination: Some(asked.to),
        secured: secured.as_ref(),
        server_name: None,
        metadata: &metadata,
    };
    let mut decisions = Vec::new();
    let mut others = Vec::new();
    let mut is_asked_about = None;
    for filter in router.filters(at) {
        match filter {
            Active::Rbac(view) if view.rbac.shadow_stat_prefix == ASKS => {
                let matching = view.rbac.shadow_rules.as_ref();
                let matching = matching.map(|rules| rules.name(rules.decide(&subject)));
                is_asked_about = Some(matching.is_some_and(|policy| policy != NO_POLICY));
            }
            Active::Rbac(view) => {
                let shadow = view.rbac.shadow_rules.as_ref();
                decisions.extend(shadow.map(|rules| decide(rules, &subject, true)));
                let enforced = view.rbac.rules.as_ref();
                decisions.extend(enforced.map(|rules| decide(rules, &subject, false)));
            }
            Active::Fault(_) => others.push("faults are injected"),
            Active::Cors(_) => others.push("pages of other origins are answered"),
            Active::Limit(_) | Active::Quota(_) => others.push("its rate is limited"),
            Active::Session(_) => others.push("a client's session stays with its endpoint"),
            Active::Buffer(_) => others.push("its body is waited for"),
            Active::Jwt(..) => others.push("its tokens are checked"),
            // Without rules before it, it asks about every request.
            Active::Authz(_) if is_asked_about.take() == Some(false) => {}
            Active::Authz(_) => others.push("a service is asked whether it may go on"),
        }
    }
    Explained::Request(Box::new(Routed {
        configuration: table.name.clone(),
        route: at.map(|at| router.named(at)),
        decisions,
        others,
    }))
}

fn decide(rules: &Rules, subject: &Subject<'_>, is_dry_run: bool) -> Decision {
    use crate::policy::Action;
    let decision = rules.decide(subject);
    Decision {
        action: match rules.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Log => "LOG",
        },
        allowed: decision.allowed,
        policy: rules.name(decision).to_owned(),
        is_dry_run,
    }
}

/// A connection whose client has shown a certificate of this name.
fn secured(principal: &str) -> Secured {
    Secured {
        peer: Some(Certificate {
            der: CertificateDer::from(Vec::new()),
            subject: String::new(),
            serial: String::new(),
            not_before: 0,
            not_after: i64::MAX,
            uris: vec![principal.to_owned()],
            dns_names: Vec::new(),
        }),
        peer_issuers: Vec::new(),
        own: None,
        server_name: None,
    }
}
