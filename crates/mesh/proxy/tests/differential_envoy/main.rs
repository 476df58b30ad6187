//! This proxy and a real Envoy side by side: the same configuration from the same control plane, the same
//! requests, and the same outcome but for the differences that are meant.

mod access_logs;
mod admin_pages;
#[path = "../announced/mod.rs"]
mod announced;
mod balancing;
mod cases;
mod collector;
mod configurations;
mod envoy;
mod expressions;
mod filters;
mod http2;
#[path = "../xds_support/http2_options.rs"]
mod http2_options;
mod links;
mod names;
mod otel_logs;
#[path = "../otlp_logs/mod.rs"]
mod otlp_logs;
mod outcome;
mod pair;
mod policies;
mod repeated;
mod route_tracing;
mod rules;
mod sessions;
mod stats;
mod tcp;
mod tolerated;
mod upstreams;
mod world;
#[path = "../xds_support/mod.rs"]
mod xds_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use periplus_proxy::{Agent, Options, bootstrap};
use serde_json::json;
use xds_support::http::{Message, Origin, exchange, get};
use xds_support::{ControlPlane, PATIENCE, eventually};

use crate::cases::Case;
use crate::collector::Collector;
use crate::envoy::Envoy;
use crate::tolerated::{OTHER_ENDS, Side, TOLERATED};
use crate::world::Addresses;

const OURS: &str = "sidecar~127.0.0.1~ours.default~default.svc.cluster.local";
const ENVOYS: &str = "sidecar~127.0.0.1~envoy.default~default.svc.cluster.local";

/// One proxy with what is on both sides of it.
struct Bench {
    node: &'static str,
    origin: Origin,
    http2_origin: http2::Origin,
    collector: Collector,
    addresses: Addresses,
    _logs: tempfile::TempDir,
}

/// What came of one case, but for its spans.
struct Seen {
    response: std::io::Result<Message>,
    upstream: Vec<Message>,
}

impl Seen {
    fn status(&self) -> u16 {
        self.response.as_ref().map_or(0, Message::status)
    }
}

impl Bench {
    async fn new(node: &'static str) -> Self {
        let origin = Origin::start("origin").await;
        let collector = Collector::start().await;
        let http2_origin = http2::Origin::start().await;
        let logs = tempfile::tempdir().expect("a directory");
        let addresses = Addresses::new(
            origin.address,
            http2_origin.address,
            collector.address,
            logs.path().join("log"),
        )
        .await;
        Self {
            node,
            origin,
            http2_origin,
            collector,
            addresses,
            _logs: logs,
        }
    }

    fn bootstrap(&self, control_plane: SocketAddr) -> String {
        bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: self.node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }

    async fn run(&self, case: &Case) -> Seen {
        let address = self.addresses.listeners[case.listener];
        let request = sessions::named(&case.request, &self.addresses);
        let response = if case.http2 {
            http2::exchange(address, &request).await
        } else {
            exchange(address, &request).await
        };
        let mut upstream = self.origin.take();
        upstream.extend(self.http2_origin.take());
        if case.copies > 0 {
            let what = format!("{}: the copies at {}", case.name, self.node);
            let all = eventually(&what, || {
                upstream.extend(self.origin.take());
                upstream.extend(self.http2_origin.take());
                (upstream.len() > case.copies).then(|| std::mem::take(&mut upstream))
            });
            upstream = all.await;
            // They come in any order.
            upstream
                .sort_by_key(|copy| (copy.line.clone(), copy.header("host").map(str::to_owned)));
        }
        Seen { response, upstream }
    }

    /// Spans are sent in order: when one of a last request has arrived, those before it have.
    async fn flush(&self, listener: &'static str) {
        let name = format!("last@{listener}");
        let path = format!("/ok?case={name}.");
        get(self.addresses.listeners[listener], &path)
            .await
            .expect("an answer");
        eventually(&format!("the last span of {}", self.node), || {
            (!self.collector.of_case(&name).is_empty()).then_some(())
        })
        .await;
    }
}

/// This proxy and an Envoy that are ready, each with the same configuration and with origins of its own.
struct Meshes {
    plane: ControlPlane,
    ours: Bench,
    envoys: Bench,
    agent: Agent,
    envoy: Envoy,
}

impl Meshes {
    async fn start(binary: &Path) -> Self {
        Self::edited(binary, |_| ()).await
    }

    /// The same with whatever in the bootstrap files.
    async fn edited(binary: &Path, edit: impl Fn(&mut serde_json::Value)) -> Self {
        let plane = ControlPlane::start().await;
        let (ours, envoys) = (Bench::new(OURS).await, Bench::new(ENVOYS).await);
        for bench in [&ours, &envoys] {
            plane
                .worlds
                .set(bench.node, world::snapshot(&bench.addresses));
        }
        let file = |bench: &Bench| {
            let text = bench.bootstrap(plane.address);
            let mut file = serde_json::from_str(&text).expect("JSON");
            edit(&mut file);
            file.to_string()
        };
        let envoy = Envoy::start(binary, &file(&envoys));
        let parsed = bootstrap::parse("ours", &file(&ours)).expect("valid");
        let agent = Agent::start(parsed, Options::default())
            .await
            .expect("start");
        tokio::time::timeout(PATIENCE, agent.ready())
            .await
            .expect("the agent does not get ready");
        envoy_is_ready(&envoy).await;
        Self {
            plane,
            ours,
            envoys,
            agent,
            envoy,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_as_envoy_but_for_what_is_meant() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let Meshes {
        plane,
        ours,
        envoys,
        agent,
        envoy: _envoy,
    } = Meshes::start(&binary).await;
    for bench in [&ours, &envoys] {
        plane.in_sync(bench.node).await;
    }
    assert_eq!(plane.ads.counters().nacks, 0, "{:?}", plane.ads.proxies());

    let mut cases = cases::all();
    cases.extend(rules::cases());
    cases.extend(route_tracing::cases());
    cases.extend(filters::of_http1());
    let mut seen = BTreeMap::new();
    for case in &cases {
        let both = tokio::join!(ours.run(case), envoys.run(case));
        let twice = seen.insert(case.name.clone(), both);
        assert!(twice.is_none(), "there are two cases {}", case.name);
    }
    for bench in [&ours, &envoys] {
        bench.flush("outbound").await;
        bench.flush("otlp_outbound").await;
    }
    settle(&cases, &ours, &envoys).await;
    let logged = [&ours, &envoys].map(|bench| outcome::logged(&bench.addresses));

    let mut used = BTreeSet::new();
    let mut report = String::new();
    for case in &cases {
        let (our_outcome, envoy_outcome) = &seen[&case.name];
        if let Some((_, _, envoys, ours)) =
            OTHER_ENDS.iter().find(|(_, name, ..)| *name == case.name)
        {
            let statuses = (envoy_outcome.status(), our_outcome.status());
            assert_eq!(statuses, (*envoys, *ours), "{}", case.name);
            continue;
        }
        let lines = |bench: &Bench, seen: &Seen| {
            let spans = bench.collector.of_case(&case.name);
            outcome::lines(
                case,
                &bench.addresses,
                bench.node,
                seen,
                &spans,
                &logged[usize::from(bench.node == ENVOYS)],
            )
        };
        compare(
            case,
            lines(&envoys, envoy_outcome),
            lines(&ours, our_outcome),
            &mut used,
            &mut report,
        );
    }
    assert!(
        report.is_empty(),
        "{} cases, and these differ:\n{report}",
        cases.len()
    );
    for tolerated in TOLERATED {
        assert!(
            used.contains(tolerated.name),
            "{:?} is tolerated and never occurs",
            tolerated.name
        );
    }
    agent.shutdown(Duration::from_secs(1)).await;
}

async fn envoy_is_ready(envoy: &Envoy) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(admin) = envoy.admin()
            && get(admin, "/ready")
                .await
                .is_ok_and(|answer| answer.status() == 200)
        {
            return;
        }
        let is_late = tokio::time::Instant::now() > deadline;
        assert!(
            !is_late,
            "Envoy does not get ready, it says:\n{}",
            envoy.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn every_difference_is_explained() {
    let text = include_str!("../../../../../docs/differences-from-envoy.md");
    let tolerated = TOLERATED.iter().map(|tolerated| tolerated.name);
    for name in tolerated.chain(OTHER_ENDS.iter().map(|(name, ..)| *name)) {
        assert!(
            text.contains(&format!("### {name}\n")),
            "{name:?} is not explained"
        );
    }
}

/// Waits a little for stragglers: until both have as many spans of each case.
async fn settle(cases: &[Case], ours: &Bench, envoys: &Bench) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let is_even = || {
        let count = |bench: &Bench, case: &Case| bench.collector.of_case(&case.name).len();
        let lines = |bench: &Bench| outcome::logged(&bench.addresses).len();
        cases
            .iter()
            .all(|case| count(ours, case) == count(envoys, case))
            && lines(ours) == lines(envoys)
    };
    while !is_even() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes down the lines that only one side has, and that nothing tolerates.
fn compare(
    case: &Case,
    envoys: Vec<String>,
    mut ours: Vec<String>,
    used: &mut BTreeSet<&'static str>,
    report: &mut String,
) {
    let mut differences = Vec::new();
    for line in envoys {
        match ours.iter().position(|other| *other == line) {
            Some(at) => {
                ours.remove(at);
            }
            None => differences.push((Side::Envoy, line)),
        }
    }
    differences.extend(ours.into_iter().map(|line| (Side::Ours, line)));
    differences.retain(|(side, line)| {
        let meant = TOLERATED
            .iter()
            .find(|t| (t.covers)(&case.name, *side, line));
        used.extend(meant.map(|tolerated| tolerated.name));
        meant.is_none()
    });
    if differences.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(report, "{}", case.name);
    for (side, line) in differences {
        let _ = writeln!(report, "  {side:?} only: {line}");
    }
}
