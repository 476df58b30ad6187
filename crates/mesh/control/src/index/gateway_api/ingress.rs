//! Kubernetes' Ingress: one Gateway of Istio's for the plain requests of all of them, one for the TLS of each, and a
//! VirtualService for each host of each.

use std::collections::BTreeMap;

use periplus_resources::{
    Action, At, Credential, Destination, DirectResponse, ExportTo, Gateway, GatewayRef, Headers,
    Host, HttpMatch, HttpRoute, IngressBackend, IngressPath, KubernetesIngress, Labels, Meta,
    PathType, Port, Protocol, SecretRef, Semantics, Server, ServerHost, ServerTls, StringMatch,
    Termination, VirtualService, WeightedDestination,
};

use super::backends::service_host;
use super::status::Flaw;
use crate::index::checks::check_gateway;
use crate::index::{Entry, Index, Problem};

/// The class that is ours, and the proxies that serve it, as in Istio.
const CLASS: &str = "istio";
const PROXIES: (&str, &str) = ("istio", "ingressgateway");
/// The Gateway of all of them: no resource can have this name.
const NAME: &str = "~ingress";
const PORT: u16 = 80;
const SECURE_PORT: u16 = 443;

/// The Gateway and the rules.
pub(super) fn lower(
    entries: &[Entry<KubernetesIngress>],
    index: &Index,
    problems: &mut Vec<Problem>,
) -> (Vec<Entry<Gateway>>, Vec<Entry<VirtualService>>) {
    let mut rules = Vec::new();
    let mut gateways = Vec::new();
    for entry in entries {
        let source = &entry.meta.source;
        match entry.spec.class.as_deref() {
            Some(CLASS) => {}
            class => {
                let what = match class {
                    Some(class) => format!("its class is `{class}`"),
                    None => "it has no class".to_owned(),
                };
                let message = format!(
                    "{} has no effect: {what}, write `ingressClassName: {CLASS}`",
                    entry.meta
                );
                problems.push(Problem::warning(source, source.position, message));
                continue;
            }
        }
        if gateways.is_empty() {
            gateways.extend(plain(&entry.meta));
        }
        let secure = secure(entry);
        if let Some(secure) = &secure {
            check_gateway(index, &entry.meta, &secure.spec, problems);
        }
        gateways.extend(secure.clone());
        rules.extend(of_ingress(entry, secure.as_ref(), index, problems));
    }
    (gateways, rules)
}

/// For plain requests, whosever Ingress has a rule for them.
fn plain(first: &Meta) -> Option<Entry<Gateway>> {
    let meta = Meta {
        namespace: String::new(),
        name: NAME.to_owned(),
        ..first.clone()
    };
    let port = Port {
        number: PORT,
        name: "http".to_owned(),
        protocol: Protocol::Http,
        target_port: None,
    };
    Some(gateway(meta, vec![server(port, vec![any()?], None)]))
}

/// For the TLS of an Ingress; as in Istio, its Secrets are those of the gateway's namespace.
fn secure(entry: &Entry<KubernetesIngress>) -> Option<Entry<Gateway>> {
    let Meta {
        namespace, name, ..
    } = &entry.meta;
    let secrets = entry.spec.secrets.iter().enumerate();
    let servers = secrets.map(|(at, one)| {
        let port = Port {
            number: SECURE_PORT,
            name: format!("https-{SECURE_PORT}-ingress-{name}-{namespace}-{at}"),
            protocol: Protocol::Http,
            target_port: None,
        };
        let hosts = match one.hosts.is_empty() {
            true => any().into_iter().collect(),
            false => one.hosts.clone(),
        };
        let certificate = Credential::Secret(SecretRef {
            namespace: None,
            name: one.secret.clone(),
            at: one.at,
        });
        let tls = ServerTls::Terminate(Box::new(Termination::with(vec![certificate])));
        server(port, hosts, Some(tls))
    });
    let servers: Vec<_> = servers.collect();
    let meta = Meta {
        name: format!("{NAME}~{name}"),
        ..entry.meta.clone()
    };
    (!servers.is_empty()).then(|| gateway(meta, servers))
}

fn any() -> Option<Host> {
    Host::parse("*").ok()
}

fn gateway(meta: Meta, servers: Vec<Server>) -> Entry<Gateway> {
    Entry {
        meta,
        spec: Gateway {
            selector: Labels::from([(PROXIES.0.to_owned(), PROXIES.1.to_owned())]),
            namespace: None,
            isolates_hosts: false,
            servers,
        },
    }
}

fn server(port: Port, hosts: Vec<Host>, tls: Option<ServerTls>) -> Server {
    let hosts = hosts.into_iter().map(|host| ServerHost {
        namespace: None,
        host,
    });
    Server {
        port,
        bind: None,
        hosts: hosts.collect(),
        tls,
        redirects_to_https: false,
    }
}

fn of_ingress(
    entry: &Entry<KubernetesIngress>,
    secure: Option<&Entry<Gateway>>,
    index: &Index,
    problems: &mut Vec<Problem>,
) -> Vec<Entry<VirtualService>> {
    let Some(any) = any() else {
        return Vec::new();
    };
    let at = At(entry.meta.source.position);
    let mut gateways = vec![GatewayRef::Named {
        namespace: String::new(),
        name: NAME.to_owned(),
        at,
    }];
    gateways.extend(secure.map(|gateway| GatewayRef::Named {
        namespace: gateway.meta.namespace.clone(),
        name: gateway.meta.name.clone(),
        at,
    }));
    let mut by_host: BTreeMap<&Host, Vec<HttpRoute>> = BTreeMap::new();
    let mut route = |uri, backend: &IngressBackend| {
        let action = action(&entry.meta, index, backend, problems);
        http_route(uri, action, backend.at)
    };
    for rule in &entry.spec.rules {
        let routes = by_host
            .entry(rule.host.as_ref().unwrap_or(&any))
            .or_default();
        for path in &rule.paths {
            routes.push(route(condition(path), &path.backend));
        }
        // As in Kubernetes, a host without paths is all of it.
        if let (true, Some(backend)) = (rule.paths.is_empty(), &entry.spec.default_backend) {
            routes.push(route(None, backend));
        }
    }
    if let Some(backend) = &entry.spec.default_backend {
        by_host.entry(&any).or_default().push(route(None, backend));
    }
    let rules = by_host.into_iter().map(|(host, http)| Entry {
        meta: entry.meta.clone(),
        spec: VirtualService {
            hosts: vec![host.clone()],
            gateways: gateways.clone(),
            http,
            tls: Vec::new(),
            tcp: Vec::new(),
            export_to: ExportTo::All,
            semantics: Semantics::GatewayApi,
        },
    });
    rules.collect()
}

fn http_route(uri: Option<StringMatch>, action: Action, at: At) -> HttpRoute {
    HttpRoute {
        name: String::new(),
        matches: vec![HttpMatch {
            uri,
            is_of_whole_segments: true,
            ..HttpMatch::default()
        }],
        action,
        timeout: None,
        retries: None,
        fault: None,
        rewrite: None,
        headers: Headers::default(),
        mirrors: Vec::new(),
        cors: None,
        at,
    }
}

fn condition(path: &IngressPath) -> Option<StringMatch> {
    let prefix = |path: &str| match path.trim_end_matches('/') {
        "" => None,
        trimmed => Some(StringMatch::Prefix(trimmed.to_owned())),
    };
    let text = path.path.as_str();
    let cut = IngressPath::cut(text);
    match (path.kind, cut) {
        (PathType::Exact, _) => Some(StringMatch::Exact(text.to_owned())),
        (PathType::Prefix, _) => prefix(text),
        (PathType::OfImplementation, _) if text == "*" => None,
        (PathType::OfImplementation, Some(cut)) => prefix(cut),
        (PathType::OfImplementation, None) => Some(StringMatch::Exact(text.to_owned())),
    }
}

/// To the service; 503 where there is none, as from Kubernetes' other controllers.
fn action(
    meta: &Meta,
    index: &Index,
    backend: &IngressBackend,
    problems: &mut Vec<Problem>,
) -> Action {
    match destination(meta, index, backend) {
        Ok(destination) => Action::Route(vec![WeightedDestination {
            destination,
            weight: 1,
            headers: Headers::default(),
            authority: None,
        }]),
        Err(flaw) => {
            problems.push(flaw.warning(meta));
            Action::Respond(DirectResponse {
                status: 503,
                body: String::new(),
            })
        }
    }
}

fn destination(meta: &Meta, index: &Index, backend: &IngressBackend) -> Result<Destination, Flaw> {
    let name = &backend.service;
    let flaw = |message| Flaw::new("BackendNotFound", backend.at.0, message);
    let host = service_host(name, &meta.namespace).map_err(|reason| {
        flaw(format!(
            "`{name}` is no Service: {reason}; requests that come here get 503"
        ))
    })?;
    let service = index.service(&host);
    let Some(service) = service else {
        return Err(flaw(format!(
            "there is no Service {}/{name}: requests that come here get 503",
            meta.namespace
        )));
    };
    let mut ports = service.ports().iter();
    let port = match &backend.port {
        Ok(number) => ports.find(|port| port.number == *number),
        Err(name) => ports.find(|port| port.name == *name),
    };
    let Some(port) = port else {
        let wanted = match &backend.port {
            Ok(number) => number.to_string(),
            Err(name) => format!("`{name}`"),
        };
        return Err(flaw(format!(
            "Service {}/{name} has no port {wanted}: requests that come here get 503",
            meta.namespace
        )));
    };
    Ok(Destination {
        host: service.host.clone(),
        subset: String::new(),
        port: Some(port.number),
        at: backend.at,
    })
}
