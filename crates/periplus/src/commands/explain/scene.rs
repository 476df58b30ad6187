//! The mesh, prepared so that each route and connection tells the rule that it comes from.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use periplus_control::{Described, Entry, Index, Proxy, Role, RuleAt, Service, Workload, generate};
use periplus_proxy::explain::{self, Besides, Explainer};
use periplus_resources::{At, Gateway, Host, Kind, Meta, Server, ServerTls, Strictness};

use super::report::{Decision, Origin, Report, Step};

/// What the services of destinations say.
pub(super) const SESSION: &str = "a client's session stays with its endpoint";

/// The mesh, and where its rules are written.
pub(super) struct Scene {
    pub(super) index: Index,
    rules: Vec<RuleAt>,
    /// The file of the mesh configuration, if somebody has named it.
    mesh_config: Option<PathBuf>,
    /// By the ids of the proxies.
    explainers: RefCell<HashMap<String, Rc<Explainer>>>,
}

impl Scene {
    pub(super) fn new(described: &Described, mesh_config: Option<PathBuf>) -> Self {
        let mut index = described.index();
        let rules = index.name_rules();
        Self {
            index,
            rules,
            mesh_config,
            explainers: RefCell::default(),
        }
    }

    /// What a proxy runs on.
    pub(super) fn explainer(&self, proxy: &Proxy) -> anyhow::Result<Rc<Explainer>> {
        if let Some(known) = self.explainers.borrow().get(&proxy.id) {
            return Ok(Rc::clone(known));
        }
        let generated = generate(&self.index, proxy);
        let made = Explainer::new(generated.packed()).map_err(|rejections| {
            let reasons: Vec<String> = rejections.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(
                "the proxy of {} would refuse its resources: {}",
                proxy.id,
                reasons.join("; ")
            )
        })?;
        let made = Rc::new(made);
        let mut explainers = self.explainers.borrow_mut();
        explainers.insert(proxy.id.clone(), Rc::clone(&made));
        Ok(made)
    }

    /// Tells the rule of a route's name, or why there is none.
    pub(super) fn tell_rule(&self, name: &str, from: &Workload, report: &mut Report) {
        let number = name.strip_prefix('@');
        let number = number.and_then(|number| number.parse::<usize>().ok());
        if let Some(rule) = number.and_then(|number| self.rules.get(number)) {
            report.rule = Some(Origin {
                resource: rule.meta.to_string(),
                source: format!("{}:{}", rule.meta.source.file, rule.line),
            });
            report.is_lowered = rule.meta.kind != Kind::VirtualService;
            return;
        }
        report.why_no_rule = match name {
            // The listener names the Gateway whose servers do so.
            "https-redirect" => "`httpsRedirect` of the Gateway".to_owned(),
            "allow_any" | "PassthroughCluster" => self.outbound_policy(from, "ALLOW_ANY"),
            "allow_any_dynamic_dns" | "AllowAnyDynamicDNSCluster" => {
                self.outbound_policy(from, "ALLOW_ANY_DYNAMIC_DNS")
            }
            "block_all" | "BlackHoleCluster" => self.outbound_policy(from, "REGISTRY_ONLY"),
            _ => "the service's own route".to_owned(),
        };
    }

    /// Who says what becomes of what the mesh does not know.
    fn outbound_policy(&self, from: &Workload, mode: &str) -> String {
        let sidecar = self.index.sidecar_for(&from.proxy);
        let sidecar = sidecar.filter(|entry| entry.spec.outbound.is_some());
        match sidecar {
            Some(entry) => format!(
                "{mode} in `outboundTrafficPolicy` of {} ({})",
                entry.meta, entry.meta.source
            ),
            None => format!(
                "{mode} in `outboundTrafficPolicy` of the mesh configuration ({})",
                self.mesh_config()
            ),
        }
    }

    fn mesh_config(&self) -> String {
        match &self.mesh_config {
            Some(path) => path.display().to_string(),
            None => "its defaults, unless the control plane has a file".to_owned(),
        }
    }

    /// The service of a name, or of the beginning of one: `reviews`, `reviews.default`, ….
    pub(super) fn service_called(&self, host: &Host) -> Option<&Service> {
        let exact = self.index.service(host);
        exact.or_else(|| {
            let prefix = format!("{host}.");
            let mut services = self.index.services();
            services.find(|service| {
                let rest = service.host.as_str().strip_prefix(&prefix);
                rest.is_some_and(|rest| rest.ends_with("svc.cluster.local"))
            })
        })
    }

    /// Why a proxy has a listener on a port for requests to a host.
    pub(super) fn listener_sources(&self, proxy: &Proxy, port: u16, host: &str) -> Vec<Origin> {
        let named = Host::parse(host).ok();
        if proxy.role == Role::Sidecar {
            let sidecar = self.index.sidecar_for(proxy).map(|entry| &entry.meta);
            let service = || Some(&self.service_called(named.as_ref()?)?.meta);
            return sidecar.or_else(service).map(origin).into_iter().collect();
        }
        let at_port = self.index.servers_of(proxy);
        let at_port: Vec<_> = at_port.filter(|(own, _)| *own == port).collect();
        let covers = |server: &Server| {
            let mut hosts = server.hosts.iter();
            named
                .as_ref()
                .is_some_and(|named| hosts.any(|one| one.host.covers(named)))
        };
        let is_known = at_port.iter().any(|(_, (_, server))| covers(server));
        let mut origins: Vec<Origin> = Vec::new();
        for (_, (entry, server)) in at_port {
            let origin = origin(&entry.meta);
            let is_listed = origins.iter().any(|one| one.source == origin.source);
            if !is_listed && (!is_known || covers(server)) {
                origins.push(origin);
            }
        }
        origins
    }

    /// The Gateways whose servers on a port want a good certificate of who asks by TLS for a host.
    pub(super) fn client_checks(&self, proxy: &Proxy, port: u16, host: &str) -> Vec<Step> {
        let named = Host::parse(host).ok();
        let wants = |server: &Server| {
            let covers = named
                .as_ref()
                .is_some_and(|named| server.hosts.iter().any(|one| one.host.covers(named)));
            match &server.tls {
                Some(ServerTls::Terminate(how)) if covers => (how.clients.as_ref())
                    .is_some_and(|clients| clients.strictness == Strictness::Required),
                _ => false,
            }
        };
        let servers = self.index.servers_of(proxy);
        let wanting = servers.filter(|(own, (_, server))| *own == port && wants(server));
        let step = |entry: &Entry<Gateway>| {
            Step::new(
                "its client must show a good certificate",
                vec![origin(&entry.meta)],
            )
        };
        wanting.map(|(_, (entry, _))| step(entry)).collect()
    }

    /// A decision, and where its policy is written.
    pub(super) fn decision(&self, decision: &explain::Decision) -> Decision {
        Decision {
            action: decision.action,
            allowed: decision.allowed,
            is_dry_run: decision.is_dry_run,
            policy: self.policy(&decision.policy),
        }
    }

    /// The policy of `…ns[NAMESPACE]-policy[NAME]-rule[N]`.
    fn policy(&self, name: &str) -> Option<Origin> {
        let between = |begin: &str| -> Option<&str> {
            let (_, rest) = name.split_once(begin)?;
            rest.split_once(']').map(|(text, _)| text)
        };
        let (namespace, name) = between("ns[").zip(between("policy["))?;
        let policy = self.index.authorization_policy(namespace, name)?;
        Some(origin(&policy.meta))
    }

    /// What else a proxy does, and who says so.
    pub(super) fn steps(
        &self,
        proxy: &Proxy,
        others: &[Besides],
        rule: Option<&Origin>,
    ) -> Vec<Step> {
        let of_rule = || rule.cloned().into_iter().collect();
        let of_tokens = || {
            let all = self.index.request_authentications_of(proxy);
            all.map(|entry| origin(&entry.meta)).collect()
        };
        let step = |other: &Besides| match other {
            Besides::Faults => Step::new("faults are injected", of_rule()),
            Besides::Cors => Step::new("pages of other origins are answered", of_rule()),
            Besides::Limit(name) => Step::new("its rate is limited", self.limit(name)),
            Besides::Quota(domain) => Step::new("a service counts it", self.quota(domain)),
            Besides::Session => Step::new(SESSION, Vec::new()),
            Besides::Health => Step::new(
                "questions after the proxy's health are answered",
                Vec::new(),
            ),
            Besides::Body => Step::new("its body is waited for", Vec::new()),
            Besides::Tokens => Step::new("its tokens are checked", of_tokens()),
            Besides::Keys(issuer) => Step::new(
                &format!(
                    "the keys of {issuer} are not here: say with --jwt-claims what its token says"
                ),
                of_tokens(),
            ),
            Besides::Authorizer { policy, may_move } => {
                let policy = policy.as_deref().and_then(|policy| self.policy(policy));
                let what = match may_move {
                    true => "a service is asked whether it may go on, and may lead it elsewhere",
                    false => "a service is asked whether it may go on",
                };
                Step::new(what, policy.into_iter().collect())
            }
        };
        others.iter().map(step).collect()
    }

    fn quota(&self, domain: &str) -> Vec<Origin> {
        let providers = self.index.mesh().quotas.iter();
        let own = providers.filter(|provider| provider.domain == domain);
        own.map(|provider| self.provider(&provider.name, provider.at))
            .collect()
    }

    /// The limit of `PROVIDER.N`.
    fn limit(&self, name: &str) -> Vec<Origin> {
        let found = name.rsplit_once('.').and_then(|(provider, at)| {
            let mut providers = self.index.mesh().limits.iter();
            let provider = providers.find(|one| one.name == provider)?;
            let limit = provider.limits.get(at.parse::<usize>().ok()?)?;
            Some(self.provider(&provider.name, limit.at))
        });
        found.into_iter().collect()
    }

    fn provider(&self, name: &str, at: At) -> Origin {
        Origin {
            resource: format!("extension provider {name}"),
            source: format!("{}:{}", self.index.mesh().file, at.0.line),
        }
    }
}

/// Where a resource is written. What stands for a part of one, as for a listener of a Gateway, has a name behind `~`.
pub(super) fn origin(meta: &Meta) -> Origin {
    let resource = match (meta.kind, meta.name.split_once('~')) {
        (_, None) => meta.to_string(),
        (Kind::Ingress, Some(_)) => "the class istio of Ingress".to_owned(),
        (kind, Some((name, part))) => {
            format!("{kind} {}/{name}, listener {part}", meta.namespace)
        }
    };
    Origin {
        resource,
        source: meta.source.to_string(),
    }
}
