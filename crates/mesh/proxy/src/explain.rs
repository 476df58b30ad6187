//! What the proxy would do with a request, without one: the same resources, compiled and matched by the same code.

mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::google::protobuf::Any;
use periplus_identity::agent::{OWN, ROOTS};
use periplus_xds::client::Rejection;
use rustls::pki_types::CertificateDer;

pub use self::told::{Asked, Besides, Decision, Explained, Routed, Security};
use crate::config::{Extent, Store};
use crate::filter::{Active, Maker};
use crate::http1::head::{Limits, Refused};
use crate::http1::request::RequestHead;
pub use crate::policy::jwt::Tokens;
use crate::policy::jwt::{Demand, Jwt, Looked, Problem};
use crate::policy::{Metadata, NO_POLICY, Rbac, Rules, Subject, client_address, without_nominated};
use crate::route::{Asking, Router};
use crate::snapshot::{
    Cluster, ConnectionManager, Ends, FilterChain, Listener, Service, Sniffed, TcpProxy, select,
};
use crate::stats::Registry;
use crate::tls::{Certificate, Secured};
use crate::upstream::Usages;

/// What istiod's sidecars offer in mutual TLS.
const MESH_PROTOCOLS: [&[u8]; 2] = [b"istio-http/1.1", b"istio"];

/// A proxy's configuration, as if all of it had arrived.
#[derive(Debug)]
pub struct Explainer {
    listeners: Vec<Arc<Listener>>,
    clusters: HashMap<String, Arc<Cluster>>,
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
        let protocols = |all: &[&[u8]]| all.iter().map(|one| one.to_vec()).collect();
        let sniffed = Sniffed {
            is_tls: asked.security != Security::Plaintext,
            server_name: match asked.security {
                Security::Tls(name) => Some(name.to_ascii_lowercase()),
                Security::Plaintext | Security::Mesh(_) => None,
            },
            protocols: match asked.security {
                Security::Plaintext => protocols(&[b"http/1.1"]),
                Security::Mesh(_) => protocols(&MESH_PROTOCOLS),
                Security::Tls(_) => protocols(&[b"h2", b"http/1.1"]),
            },
        };
        let ends = Ends {
            client: asked.from,
            direct: asked.from,
            destination: asked.to,
            sniffed: &sniffed,
        };
        let Some(chain) = chain(listener, &ends) else {
            return Explained::NoChain;
        };
        match (&chain.service, asked.security) {
            (Service::Tcp(proxy), _) => passed(proxy, asked),
            (Service::Http(_), Security::Tls(_)) if chain.tls.is_none() => Explained::Refused {
                status: 400,
                reason: "it expects requests, and gets TLS",
            },
            (Service::Http(manager), _) => routed(manager, asked),
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
    let secured = secured(asked.security);
    let metadata = Metadata::default();
    let subject = Subject {
        request: None,
        scheme: "",
        peer: asked.from.ip(),
        direct: asked.from.ip(),
        client: asked.from.ip(),
        destination: Some(asked.to),
        secured: secured.as_ref(),
        server_name: server_name(asked.security),
        metadata: &metadata,
    };
    let mut filtered = Filtered::default();
    for rules in &proxy.rules {
        match rules {
            ConnectionRules::Rbac(rbac, _) => filtered.pass_rules(rbac, &subject),
            ConnectionRules::Limit(..) => {}
            ConnectionRules::Ask(_) => filtered.pass_authorizer(false),
        }
    }
    Explained::Passed {
        decisions: filtered.decisions,
        others: filtered.others,
        clusters: (proxy.clusters.iter())
            .map(|choice| (choice.name.clone(), choice.weight))
            .collect(),
        counted_as: proxy.stat_prefix.clone(),
    }
}

fn routed(manager: &ConnectionManager, asked: &Asked<'_>) -> Explained {
    let (mut request, head) = match read(asked.head, manager) {
        Ok(read) => read,
        Err(Refused { status, reason }) => return Explained::Refused { status, reason },
    };
    let head = &*head;
    let secured = secured(asked.security);
    let scheme = match secured {
        Some(_) => "https",
        None => "http",
    };
    request.is_https = secured.is_some();
    request.came_by_https = secured.is_some();
    let Some(table) = &manager.routes else {
        return Explained::Refused {
            status: 404,
            reason: "its routes are missing",
        };
    };
    let (registry, usages) = (Registry::default(), Usages::default());
    let maker = Maker::new(manager, &registry, &usages);
    let router = Router::new(table.clone(), (false, &maker), |_| None);
    let asking = Asking {
        request: &request,
        head,
        scheme,
        is_grpc: false,
        presented: secured.as_ref().is_some_and(|it| it.peer.is_some()),
        metadata: None,
    };
    // Shares of requests are told with the routes: here whoever is first gets it.
    let mut at = router.find(&asking, || 0);
    let mut filtered = Filtered::default();
    let mut next = 0;
    while let Some(filter) = router.filters(at).get(next) {
        next += 1;
        let subject = Subject {
            request: Some((&request, head)),
            scheme,
            peer: asked.from.ip(),
            direct: asked.from.ip(),
            client: client_address(manager, &request, head, asked.from.ip()),
            destination: Some(asked.to),
            secured: secured.as_ref(),
            server_name: server_name(asked.security),
            metadata: &filtered.metadata.clone(),
        };
        match filter {
            Active::Jwt(view, demand) => {
                filtered.look(&view.jwt, demand, &asking, asked.tokens);
                if view.jwt.clears_route() && !filtered.metadata.is_empty() {
                    let place = router.chain(at).place(next - 1);
                    let asking = Asking {
                        metadata: Some(&filtered.metadata),
                        ..asking
                    };
                    at = router.find(&asking, || 0);
                    next = router.chain(at).behind(place);
                }
            }
            other => filtered.pass(other, &subject),
        }
        if filtered.refused.is_some() {
            break;
        }
    }
    Explained::Request(Box::new(Routed {
        configuration: table.name.clone(),
        route: at.map(|at| router.named(at)),
        decisions: filtered.decisions,
        others: filtered.others,
        refused: filtered.refused,
        ends_tokens: filtered.ends_tokens,
    }))
}

/// A head as routes and filters see it.
fn read(text: &[u8], manager: &ConnectionManager) -> Result<(RequestHead, Vec<u8>), Refused> {
    let limits = Limits {
        bytes: manager.max_request_head_bytes,
        fields: manager.max_headers,
    };
    let mut head = text.to_vec();
    let mut request = RequestHead::default();
    let length = request.parse(&mut head, limits)?;
    head.truncate(length.ok_or(Refused::new(400, "the head has no end"))?);
    match request.nominates {
        true => read(&without_nominated(&request, &head), manager),
        false => Ok((request, head)),
    }
}

/// What the filters before the route have made of a request.
#[derive(Default)]
struct Filtered {
    metadata: Metadata,
    /// Its tokens say something, and nobody knows what.
    is_untold: bool,
    ends_tokens: bool,
    /// What the rules before a filter that asks a service say: the policy, if it asks about this request.
    is_asked_about: Option<Option<String>>,
    decisions: Vec<Decision>,
    others: Vec<Besides>,
    refused: Option<(u16, &'static str)>,
}

impl Filtered {
    fn look(&mut self, jwt: &Jwt, demand: &Demand, asking: &Asking<'_>, tokens: Tokens<'_>) {
        self.others.push(Besides::Tokens);
        let requirement = match demand {
            Demand::ByRules => jwt.required_of(asking, || 0),
            Demand::ByRoute(requirement) => Some(&**requirement),
            Demand::Nothing => None,
            Demand::Unknown => {
                self.refuse(Problem::UNKNOWN_REQUIREMENT);
                return;
            }
        };
        let Some(requirement) = requirement else {
            return;
        };
        match jwt.look(requirement, (asking.request, asking.head), tokens) {
            Looked::Told(told) => {
                self.metadata.take_over(told.metadata);
                self.ends_tokens |= told.is_last;
            }
            Looked::Untold => self.is_untold = true,
            Looked::Refused(problem) => self.refuse(problem),
            Looked::NeedsKeys(issuer) => {
                self.is_untold = true;
                self.others.push(Besides::Keys(issuer));
            }
        }
    }

    fn refuse(&mut self, problem: Problem) {
        self.refused = Some((problem.status(), problem.text()));
    }

    fn pass(&mut self, filter: &Active, subject: &Subject<'_>) {
        match filter {
            Active::Rbac(view) => self.pass_rules(&view.rbac, subject),
            Active::Fault(_) => self.others.push(Besides::Faults),
            Active::Cors(_) => self.others.push(Besides::Cors),
            Active::Limit(limit) => {
                self.others.push(Besides::Limit(limit.stat_prefix.clone()));
            }
            Active::Quota(view) => {
                self.others.push(Besides::Quota(view.quota.domain.clone()));
            }
            Active::Session(_) => self.others.push(Besides::Session),
            Active::Buffer(_) => self.others.push(Besides::Body),
            Active::Health(_) => self.others.push(Besides::Health),
            Active::Forget(_) | Active::Strict(_) | Active::Names(_) => {}
            Active::Jwt(..) => self.others.push(Besides::Tokens),
            Active::Authz(view) => self.pass_authorizer(view.authz.clears_route),
        }
    }

    fn pass_rules(&mut self, rbac: &Rbac, subject: &Subject<'_>) {
        let untold = self.is_untold;
        let shadow = rbac.shadow_rules.as_ref();
        let shadow = shadow.map(|rules| decide(rules, subject, (true, untold)));
        if rbac.asks() {
            let policy = shadow.map(|decision| decision.policy);
            self.is_asked_about = Some(policy.filter(|policy| policy != NO_POLICY));
            return;
        }
        let enforced = rbac.rules.as_ref();
        let enforced = enforced.map(|rules| decide(rules, subject, (false, untold)));
        self.decisions.extend(shadow.into_iter().chain(enforced));
    }

    /// Without rules before it, it asks about everything.
    fn pass_authorizer(&mut self, may_move: bool) {
        match self.is_asked_about.take() {
            Some(None) => {}
            policy => self.others.push(Besides::Authorizer {
                policy: policy.flatten(),
                may_move,
            }),
        }
    }
}

fn decide(rules: &Rules, subject: &Subject<'_>, (is_dry_run, untold): (bool, bool)) -> Decision {
    use crate::policy::Action;
    let decision = match untold {
        true => rules.decide_untold(subject),
        false => Ok(rules.decide(subject)),
    };
    Decision {
        action: match rules.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Log => "LOG",
        },
        allowed: decision.ok().map(|decision| decision.allowed),
        policy: decision.map_or_else(str::to_owned, |decision| rules.name(decision).to_owned()),
        is_dry_run,
    }
}

fn server_name(security: Security<'_>) -> Option<&str> {
    match security {
        Security::Tls(name) => Some(name),
        Security::Plaintext | Security::Mesh(_) => None,
    }
}

/// What TLS has shown.
fn secured(security: Security<'_>) -> Option<Secured> {
    let peer = match security {
        Security::Plaintext => return None,
        Security::Tls(_) => None,
        Security::Mesh(principal) => Some(Certificate {
            der: CertificateDer::from(Vec::new()),
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
            not_before: 0,
            not_after: i64::MAX,
            uris: principal.into_iter().map(str::to_owned).collect(),
            dns_names: Vec::new(),
        }),
    };
    Some(Secured {
        peer,
        peer_issuers: Vec::new(),
        own: None,
        server_name: None,
        agreed: None,
    })
}
