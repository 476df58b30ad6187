//! Who may do what: each of many requests against each of many policies, with the same answer, the same
//! span and the same counts as from Envoy.

mod authorizer;
pub(crate) mod authz;
mod guards;
pub(crate) mod jwt;
mod paths;
pub(crate) mod rbac;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::json;
use tempfile::TempDir;

use crate::access_logs;
use crate::collector::{Collector, SeenSpan};
use crate::envoy::{self, Envoy};
use crate::envoy_is_ready;
use crate::links::proxy_protocol;
use crate::world;
use crate::xds_support::http::{Origin, exchange, get};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, dead_address, eventually, free_address};

/// The filters of a connection manager but for the router.
type Filters = Vec<HttpFilter>;

fn filter(name: &str, config: impl prost::Name) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

/// What routes say of filters: the path, the filter, and what they say.
fn by_route() -> Vec<(&'static str, &'static str, Any)> {
    let of = |all: Vec<(&'static str, Any)>, name: &'static str| {
        let all = all.into_iter();
        all.map(move |(path, wanted)| (path, name, wanted))
    };
    let of_authz = of(authz::by_route(), "envoy.filters.http.ext_authz");
    of_authz
        .chain(of(rbac::by_route(), "envoy.filters.http.rbac"))
        .chain(of(jwt::by_route(), "envoy.filters.http.jwt_authn"))
        .collect()
}

/// One proxy, its listeners by policy, and what is on both sides of it.
struct Side {
    listeners: BTreeMap<&'static str, SocketAddr>,
    origin: Origin,
    collector: Collector,
    bootstrap: String,
    logs: TempDir,
}

/// What the names of policies begin with before which clients speak the PROXY protocol.
const PROXIED: &str = "proxied-";

/// What logs tell of what filters have found out.
const FORMAT: &str = "%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% \
    %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% \
    %DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_engine_result)% \
    %DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)% \
    %DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_engine_result):3% \
    %DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_effective_policy_id)% \
    %DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:iss)% \
    %DYNAMIC_METADATA(envoy.filters.http.ext_authz:level)%\n";

impl Side {
    async fn new(
        node: &str,
        plane: &ControlPlane,
        filters: &[(&'static str, Filters)],
        others: &[(&'static str, SocketAddr)],
    ) -> Self {
        let mut listeners = BTreeMap::new();
        for (name, _) in filters {
            listeners.insert(*name, free_address().await);
        }
        let origin = Origin::start("origin").await;
        let collector = Collector::start().await;
        let mut clusters = vec![("origin", origin.address), ("zipkin", collector.address)];
        clusters.extend(others);
        let logs = tempfile::tempdir().expect("a directory");
        let log = access_logs::in_file(logs.path(), "log", access_logs::text(FORMAT));
        let world = snapshot(filters, &listeners, &clusters, &log);
        plane.worlds.set(node, world);
        let bootstrap = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        Self {
            listeners,
            origin,
            collector,
            bootstrap,
            logs,
        }
    }

    /// The lines of the log, sorted, once there are so many.
    async fn log(&self, count: usize) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.logs.path().join("log")).unwrap_or_default();
            // Which requirements there are is nobody's to know.
            let known = |line: &str| match line.split_once("Wrong_requirement_name") {
                Some((before, _)) => before.to_owned(),
                None => line.to_owned(),
            };
            let mut lines: Vec<_> = text.lines().map(known).collect();
            if lines.len() >= count {
                lines.sort();
                return lines;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{} lines, not {count}", lines.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What came of a request: the status, the body, and whether it got through.
    async fn run(&self, policy: &str, name: &str, request: &str) -> String {
        let mut request = request.replace("CASE", &format!("{policy}-{name}"));
        if policy.starts_with(PROXIED) {
            request.insert_str(0, "PROXY TCP4 10.1.2.3 10.9.9.9 1000 80\r\n");
        }
        let answer = exchange(self.listeners[policy], &request).await;
        let answer = answer.expect("an answer");
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        // What the endpoint is told of tokens, and that nobody else says it.
        let told = [
            "authorization",
            "x-jwt",
            "x-payload",
            "x-sub",
            "x-level",
            "x-admin",
            "x-key",
        ];
        let passed = self.origin.take().into_iter().map(|request| {
            let headers = request.headers.into_iter();
            let headers = headers.filter(|(name, _)| told.contains(&name.as_str()));
            (request.line, headers.collect::<BTreeMap<_, _>>())
        });
        let passed: Vec<_> = passed.collect();
        // Which requirements there are is nobody's to know.
        let body = answer.body.split(": Wrong requirement_name").next();
        format!("{} {body:?} {challenge} {passed:?}", answer.line)
    }

    async fn span(&self, case: &str) -> SeenSpan {
        let what = format!("the span of {case}");
        eventually(&what, || self.collector.of_case(case).pop()).await
    }
}

fn snapshot(
    filters: &[(&'static str, Filters)],
    listeners: &BTreeMap<&'static str, SocketAddr>,
    clusters: &[(&str, SocketAddr)],
    log: &AccessLog,
) -> Snapshot {
    let listeners = filters.iter().map(|(name, filters)| {
        let mut manager = HttpConnectionManager {
            stat_prefix: (*name).to_owned(),
            tracing: world::zipkin_tracing(),
            delayed_close_timeout: world::shortly(),
            access_log: vec![log.clone()],
            ..manager("routes")
        };
        manager.http_filters.splice(0..0, filters.clone());
        paths::shape(name, &mut manager);
        let inbound = TrafficDirection::Inbound;
        let mut listener = listener(name, listeners[name], inbound, manager);
        if name.starts_with(PROXIED) {
            listener.listener_filters = vec![proxy_protocol()];
        }
        Resource::new(*name, &listener)
    });
    let mut routes = jwt::by_claim();
    routes.extend(authz::by_changes());
    for (path, name, wanted) in by_route() {
        let mut route = a_route(path_prefix(path), to_cluster("origin"));
        route.typed_per_filter_config = [(name.to_owned(), wanted)].into();
        routes.push(route);
    }
    routes.extend(["/ok", "/api"].map(|path| a_route(path_prefix(path), to_cluster("origin"))));
    let cluster = |(name, _): &(&str, SocketAddr)| {
        let is_http2 = ["ask-grpc", "ask-python", "dead"].contains(name);
        eds_cluster(name, |cluster| {
            if is_http2 {
                cluster.typed_extension_protocol_options = world::http2_options();
            }
        })
    };
    Snapshot::default()
        .with(CLUSTER, clusters.iter().map(cluster).collect())
        .with(
            ENDPOINT,
            clusters
                .iter()
                .map(|(name, at)| endpoints(name, &[*at]))
                .collect(),
        )
        .with(LISTENER, listeners.collect())
        .with(
            ROUTE,
            ResourceSet::from_iter([route_configuration("routes", routes)]),
        )
}

/// This proxy and Envoy with the same filters.
struct Pair {
    ours: Side,
    envoys: Side,
    agent: Agent,
    envoy: Envoy,
}

impl Pair {
    /// None if there is no Envoy.
    async fn start(
        filters: &[(&'static str, Filters)],
        others: &[(&'static str, SocketAddr)],
    ) -> Option<Self> {
        let binary = envoy::binary()?;
        let plane = ControlPlane::start().await;
        let ours = Side::new("ours", &plane, filters, others).await;
        let envoys = Side::new("envoys", &plane, filters, others).await;
        let parsed = bootstrap::parse("ours", &ours.bootstrap).expect("valid");
        let agent = Agent::start(parsed, Options::default())
            .await
            .expect("start");
        let envoy = Envoy::start(&binary, &envoys.bootstrap);
        for node in ["ours", "envoys"] {
            tokio::select! {
                () = plane.in_sync(node) => {}
                () = refused(&plane) => panic!("{:?}", plane.ads.proxies()),
            }
        }
        tokio::time::timeout(PATIENCE, agent.ready())
            .await
            .expect("the agent does not get ready");
        envoy_is_ready(&envoy).await;
        Some(Self {
            ours,
            envoys,
            agent,
            envoy,
        })
    }

    /// Both have logged the same.
    async fn log_alike(&self, count: usize) {
        let (ours, envoys) = (self.ours.log(count).await, self.envoys.log(count).await);
        let differing: Vec<_> = ours
            .iter()
            .zip(&envoys)
            .filter(|(ours, envoys)| ours != envoys)
            .take(20)
            .collect();
        assert!(differing.is_empty(), "ours, and Envoy's: {differing:#?}");
        let told = |what: &str| ours.iter().filter(|line| line.contains(what)).count();
        assert!(told(" allowed ") + told(" https://") + told(" high") > 0);
    }

    /// The counts of both whose names have a part, but for those that are zero.
    async fn counts(&self, part: &str) -> [BTreeMap<String, String>; 2] {
        let admin = self.envoy.admin().expect("an admin port");
        let ours = self.agent.admin_address().expect("an admin port");
        [counts(ours, part).await, counts(admin, part).await]
    }
}

/// Waits for a configuration to be refused.
async fn refused(plane: &ControlPlane) {
    while plane.ads.counters().nacks == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn counts(admin: SocketAddr, part: &str) -> BTreeMap<String, String> {
    let stats = get(admin, "/stats").await.expect("stats").body;
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(name, value)| name.contains(part) && *value != "0")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_allowed_and_denied_as_by_envoy() {
    let of = |rbac| filter("envoy.filters.http.rbac", rbac);
    let mut policies: Vec<_> = rbac::policies()
        .into_iter()
        .map(|(name, rbac)| (name, vec![of(rbac)]))
        .collect();
    policies.push(("several", rbac::several().into_iter().map(of).collect()));
    let Some(pair) = Pair::start(&policies, &[]).await else {
        return;
    };
    let Pair { ours, envoys, .. } = &pair;
    let mut differing = Vec::new();
    let mut outcomes = BTreeMap::<String, usize>::new();
    for (policy, _) in &policies {
        for (name, request) in rbac::requests() {
            let (our, envoys) = tokio::join!(
                ours.run(policy, name, &request),
                envoys.run(policy, name, &request)
            );
            if our != envoys {
                differing.push(format!("{policy} {name}: ours {our}, Envoy's {envoys}"));
            }
            *outcomes.entry(envoys[..12].to_owned()).or_default() += 1;
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    assert!(
        outcomes["HTTP/1.1 200"] > 60 && outcomes["HTTP/1.1 403"] > 60,
        "{outcomes:?}"
    );
    pair.log_alike(policies.len() * rbac::requests().len())
        .await;
    let [our_counts, envoys_counts] = pair.counts(".rbac.").await;
    assert_eq!(our_counts, envoys_counts, "ours, and Envoy's");
    assert!(our_counts.len() > 60, "{our_counts:#?}");

    for (case, added) in [
        (
            "deny-alice-alice",
            vec![
                (
                    "enforced_effective_policy_id",
                    "ns[x]-policy[no alice]-rule[0]",
                ),
                ("enforced_engine_result", "denied"),
            ],
        ),
        // Of several what matters most, and that a service would be asked is no dry run.
        (
            "several-alice",
            vec![
                ("audit_policy_id", "alice"),
                ("enforced_effective_policy_id", "anybody"),
                ("enforced_engine_result", "allowed"),
                ("shadow_effective_policy_id", "no alice"),
                ("shadow_engine_result", "denied"),
            ],
        ),
        (
            "several-plain",
            vec![
                ("enforced_effective_policy_id", "anybody"),
                ("enforced_engine_result", "allowed"),
                ("shadow_effective_policy_id", "anybody"),
                ("shadow_engine_result", "allowed"),
            ],
        ),
        (
            "shadow-post",
            vec![
                ("enforced_effective_policy_id", "none"),
                ("enforced_engine_result", "allowed"),
                ("shadow_effective_policy_id", "none"),
                ("shadow_engine_result", "denied"),
            ],
        ),
    ] {
        let (ours, envoys) = (ours.span(case).await, envoys.span(case).await);
        let is_ours = |(name, value): (String, String)| {
            let name = name.strip_prefix("tag rbac.")?.to_owned();
            Some((name, value))
        };
        let told: Vec<_> = ours.facts.clone().into_iter().filter_map(is_ours).collect();
        let told: Vec<_> = told.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(told, added, "{case}");
        for tag in [
            "response_flags",
            "http.status_code",
            "upstream_cluster",
            "error",
        ] {
            let fact = format!("tag {tag}");
            let of = |span: &SeenSpan| span.facts.get(&fact).cloned();
            assert_eq!(of(&ours), of(&envoys), "{case} {tag}");
        }
        assert_eq!(ours.name, envoys.name, "{case}");
    }
    pair.agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_accepted_and_refused_as_by_envoy() {
    let signer = jwt::Signer::new();
    let published = Arc::new(Mutex::new(Some(signer.keys().to_string())));
    let keys = jwt::publish(published).await;
    let filters = jwt::filters(&signer);
    let Some(pair) = Pair::start(&filters, &[("keys", keys)]).await else {
        return;
    };
    let Pair { ours, envoys, .. } = &pair;
    let requests = signer.requests();
    let mut differing = Vec::new();
    let mut outcomes = BTreeMap::<String, usize>::new();
    for (filter, _) in &filters {
        for (name, request) in &requests {
            let (our, envoys) = tokio::join!(
                ours.run(filter, name, request),
                envoys.run(filter, name, request)
            );
            if our != envoys {
                differing.push(format!("{filter} {name}: ours {our}, Envoy's {envoys}"));
            }
            *outcomes.entry(envoys[..12].to_owned()).or_default() += 1;
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    for (status, least) in [("200", 200), ("401", 200), ("403", 20)] {
        assert!(
            outcomes[&format!("HTTP/1.1 {status}")] > least,
            "{outcomes:?}"
        );
    }
    pair.log_alike(filters.len() * requests.len()).await;
    let [our_counts, envoys_counts] = pair.counts(".jwt_authn.").await;
    let counted = |counts: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let told = |name: &str| !name.contains("jwks_fetch") && !name.ends_with("cache_miss");
        let counts = counts.clone().into_iter();
        counts.filter(|(name, _)| told(name)).collect()
    };
    assert_eq!(
        counted(&our_counts),
        counted(&envoys_counts),
        "ours, and Envoy's"
    );
    assert_ne!(our_counts["http.telling.jwt_authn.jwt_cache_hit"], "0");
    assert_eq!(our_counts["http.remote.jwt_authn.jwks_fetch_success"], "1");
    pair.agent.shutdown(Duration::from_secs(1)).await;
}

/// Keys change while tokens come; a server of keys that fails changes nothing once there were some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_fetched_again_and_stay_when_that_fails() {
    let signers = [jwt::Signer::new(), jwt::Signer::new()];
    let published = jwt::Published::default();
    let publish = |keys: Option<String>| {
        *published.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    };
    let keys = jwt::publish(published.clone()).await;
    let plane = ControlPlane::start().await;
    let side = Side::new(
        "ours",
        &plane,
        &[("refreshing", jwt::refreshing())],
        &[("keys", keys)],
    )
    .await;
    let parsed = bootstrap::parse("ours", &side.bootstrap).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("the agent does not get ready");
    let tokens = signers.each_ref().map(|signer| {
        let mut requests = signer.requests().into_iter();
        requests.find(|(name, _)| name == "good").expect("one").1
    });
    let answer = async |token: usize| side.run("refreshing", "x", &tokens[token]).await;
    let until = async |token: usize, status: &str| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = answer(token).await;
            if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let failed = async || {
        let admin = agent.admin_address().expect("an admin port");
        let counts = counts(admin, "jwks_fetch_failed").await;
        let count = counts.values().next();
        count.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };

    let refused = answer(0).await;
    assert!(refused.contains("Jwks remote fetch is failed"), "{refused}");
    publish(Some(signers[0].keys().to_string()));
    until(0, "200").await;
    publish(None);
    let before = failed().await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while failed().await < before + 1 {
        assert!(answer(0).await.starts_with("HTTP/1.1 200 "));
        assert!(
            tokio::time::Instant::now() < deadline,
            "no fetch has failed"
        );
    }
    assert!(answer(0).await.starts_with("HTTP/1.1 200 "));
    publish(Some(signers[1].keys().to_string()));
    until(1, "200").await;
    let refused = until(0, "401").await;
    assert!(refused.contains("Jwt verification fails"), "{refused}");
    agent.shutdown(Duration::from_secs(1)).await;
}

/// A change of the listener while nobody publishes keys refuses nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_when_the_listener_changes() {
    let signer = jwt::Signer::new();
    let published = Arc::new(Mutex::new(Some(signer.keys().to_string())));
    let keys = jwt::publish(published.clone()).await;
    let plane = ControlPlane::start().await;
    let filters = |forwards| [("fetching", jwt::fetching(forwards))];
    let side = Side::new("ours", &plane, &filters(false), &[("keys", keys)]).await;
    let parsed = bootstrap::parse("ours", &side.bootstrap).expect("valid");
    let agent = Agent::start(parsed, Options::default());
    let agent = agent.await.expect("start");
    let ready = tokio::time::timeout(PATIENCE, agent.ready()).await;
    ready.expect("the agent does not get ready");
    let token = signer.token(&json!({}));
    let request = format!(
        "GET /ok HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    let answer = side.run("fetching", "x", &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    *published.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let clusters = [
        ("origin", side.origin.address),
        ("zipkin", side.collector.address),
        ("keys", keys),
    ];
    let log = access_logs::in_file(side.logs.path(), "log", access_logs::text(FORMAT));
    let world = snapshot(&filters(true), &side.listeners, &clusters, &log);
    plane.worlds.set("ours", world);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = side.run("fetching", "x", &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // The endpoint gets the token only after the change.
        if answer.contains("Bearer") && answer.contains("authorization") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing changes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

/// What came of a request, in lines: the answer, what the endpoint got, and what the service was asked.
async fn asked_lines(
    side: &Side,
    authorizer: &authorizer::Authorizer,
    (policy, name): (&str, &str),
    request: &str,
) -> Vec<String> {
    let request = request.replace("CASE", &format!("{policy}-{name}"));
    let answer = exchange(side.listeners[policy], &request).await;
    let answer = answer.expect("an answer");
    let mut lines = vec![
        format!("answer {}", answer.status()),
        format!("answer {:?}", answer.body),
    ];
    let own = ["date", "x-envoy-upstream-service-time"];
    let told = answer.headers.into_iter();
    let told = told.filter(|(name, _)| !own.contains(&name.as_str()));
    let mut told: Vec<_> = told
        .map(|(name, value)| format!("told {name}: {value}"))
        .collect();
    told.sort();
    lines.extend(told);
    for passed in side.origin.take() {
        lines.push(format!("passed {} {:?}", passed.line, passed.body));
        let headers = passed.headers.into_iter();
        let mut headers: Vec<_> = headers
            .filter(|(name, _)| name.starts_with("x-auth-") || name.starts_with("x-envoy-auth"))
            .map(|(name, value)| format!("passed {name}: {value}"))
            .collect();
        headers.sort();
        lines.extend(headers);
    }
    let asked = authorizer.take().into_iter();
    lines.extend(
        asked.map(|line| format!("asked {line}").replace(&format!("{policy}-{name}"), "CASE")),
    );
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_asked_as_by_envoy() {
    let authorizer = authorizer::Authorizer::start().await;
    let Some(python) = authorizer::on_grpcio() else {
        return;
    };
    let filters = authz::filters();
    let others = [
        ("ask-python", python.address),
        ("ask-grpc", authorizer.grpc),
        ("ask-http", authorizer.http),
        ("dead", dead_address()),
    ];
    let Some(pair) = Pair::start(&filters, &others).await else {
        return;
    };
    let Pair { ours, envoys, .. } = &pair;
    let mut differing = Vec::new();
    let mut outcomes = BTreeMap::<String, usize>::new();
    let mut count = 0;
    for (filter, _) in &filters {
        for (name, request) in authz::requests() {
            if !authz::is_told_apart(filter, name) {
                continue;
            }
            let our = asked_lines(ours, &authorizer, (filter, name), &request).await;
            let theirs = asked_lines(envoys, &authorizer, (filter, name), &request).await;
            let only = |lines: &[String], others: &[String], side: &str| -> Vec<String> {
                let lines = lines.iter().filter(|line| !others.contains(line));
                lines
                    .map(|line| format!("{filter} {name}: {side} {line}"))
                    .collect()
            };
            differing.extend(only(&our, &theirs, "ours"));
            differing.extend(only(&theirs, &our, "Envoy's"));
            *outcomes.entry(theirs[0].clone()).or_default() += 1;
            count += 1;
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    assert!(outcomes.len() > 5, "{outcomes:?}");
    // Where the service leads requests elsewhere.
    for (status, count) in [(296, 1), (298, 2), (299, 1)] {
        assert_eq!(outcomes[&format!("answer {status}")], count, "{outcomes:?}");
    }
    pair.log_alike(count).await;
    let [our_counts, envoys_counts] = pair.counts("ext_authz").await;
    assert_eq!(our_counts, envoys_counts, "ours, and Envoy's");
    assert!(our_counts.len() > 20, "{our_counts:#?}");
    pair.agent.shutdown(Duration::from_secs(1)).await;
}
