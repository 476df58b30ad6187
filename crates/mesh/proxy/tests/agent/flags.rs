//! Every response flag of Envoy's: brought about once and told by the span, the access log and the metric, or the
//! reason why it cannot be here.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::net::TcpStream;

use self::world::World;
use super::*;

mod world;

/// How a flag comes about.
pub(super) enum How {
    /// A GET of this path is answered with this status.
    Get(&'static str, u16),
    /// The request to this path is sent as it is here, and refused.
    Send(&'static str, &'static str),
    /// The client goes away while it waits.
    Leave(&'static str),
    /// A stream of HTTP/2 is reset by the client while it waits.
    Reset(&'static str),
    /// A stream of HTTP/2 holds much while memory runs short.
    Hold(&'static str),
    /// Bytes pass.
    Tcp,
    /// Not at all.
    Never(&'static str),
}
use How::{Get, Hold, Leave, Never, Reset, Send, Tcp};

/// Short and long name, how it comes about, and what all three say then.
static FLAGS: [(&str, &str, How, &str); 30] = [
    ("UH", "NoHealthyUpstream", Get("/uh", 503), "UH"),
    ("UF", "UpstreamConnectionFailure", Get("/uf", 503), "UF"),
    ("UO", "UpstreamOverflow", Get("/uo", 503), "UO"),
    ("NR", "NoRouteFound", Get("/nr", 404), "NR"),
    (
        "URX",
        "UpstreamRetryLimitExceeded",
        Get("/urx", 503),
        "URX,UF",
    ),
    ("NC", "NoClusterFound", Get("/nc", 503), "NC"),
    ("DT", "DurationTimeout", Tcp, "DT"),
    (
        "DC",
        "DownstreamConnectionTermination",
        Leave("/slow/dc"),
        "DC",
    ),
    ("LH", "FailedLocalHealthCheck", Get("/lh", 503), "LH"),
    ("UT", "UpstreamRequestTimeout", Get("/slow/ut", 504), "UT"),
    (
        "LR",
        "LocalReset",
        Never("`allow_multiplexed_upstream_half_close`"),
        "",
    ),
    ("UR", "UpstreamRemoteReset", Get("/ur", 503), "UR"),
    (
        "UC",
        "UpstreamConnectionTermination",
        Get("/reset", 503),
        "UC",
    ),
    ("DI", "DelayInjected", Get("/di", 200), "DI"),
    ("FI", "FaultInjected", Get("/fi", 418), "FI"),
    ("RL", "RateLimited", Get("/rl", 429), "RL"),
    (
        "UAEX",
        "UnauthorizedExternalService",
        Get("/status/404", 404),
        "UAEX",
    ),
    ("RLSE", "RateLimitServiceError", Get("/quota", 500), "RLSE"),
    ("IH", "InvalidEnvoyRequestHeaders", Get("/ih", 400), "IH"),
    ("SI", "StreamIdleTimeout", Get("/slow/si", 504), "SI"),
    (
        "DPE",
        "DownstreamProtocolError",
        Send(
            "/dpe",
            "POST /dpe HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ),
        "DPE",
    ),
    ("UPE", "UpstreamProtocolError", Get("/garbage", 502), "UPE"),
    (
        "UMSDR",
        "UpstreamMaxStreamDurationReached",
        Get("/slow/umsdr", 504),
        "UMSDR",
    ),
    ("OM", "OverloadManagerTerminated", Hold("/om"), "OM"),
    ("DF", "DnsResolutionFailed", Get("/df", 503), "DF"),
    (
        "RFCF",
        "ResponseFromCacheFilter",
        Never("the cache filter"),
        "",
    ),
    ("NFCF", "NoFilterConfigFound", Never("filters by ECDS"), ""),
    ("DO", "DropOverload", Get("/do", 503), "DO"),
    ("DR", "DownstreamRemoteReset", Reset("/slow/dr"), "DR"),
    ("UDO", "UnconditionalDropOverload", Get("/udo", 503), "UDO"),
];

#[tokio::test]
async fn every_flag_is_told_by_span_log_and_metric_or_cannot_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let plane = ControlPlane::start().await;
    let (world, agent) = World::start(&plane, &log).await;
    for (flag, _, how, _) in &FLAGS {
        world.bring_about(flag, how).await;
    }
    let mut spans = BTreeSet::new();
    for (flag, long, how, flags) in &FLAGS {
        let path = match how {
            Get(path, _) | Send(path, _) | Leave(path) | Reset(path) | Hold(path) => path,
            Tcp => "-",
            Never(_) => continue,
        };
        let line = format!("{path} {flags} ");
        let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
        loop {
            let lines = std::fs::read_to_string(&log).expect("a log");
            let logged = lines.lines().any(|known| {
                known
                    .strip_prefix(&line)
                    .is_some_and(|names| names.split(',').any(|name| name == *long))
            });
            world.of_spans(&mut spans);
            // There is no span of a connection, and as with Envoy none of a health check.
            let spanned = matches!(how, Tcp)
                || *flag == "LH"
                || spans.contains(&(path.to_owned(), (*flags).to_owned()));
            let metrics = page(world.admin, "/stats/prometheus").await.body;
            let name = match how {
                Tcp => "istio_tcp_connections_closed_total{",
                _ => "istio_requests_total{",
            };
            // As with Istio, those of a connection are the ones that it had when it was opened.
            let counted_flags = match how {
                Tcp => "-",
                _ => flags,
            };
            let label = format!("response_flags=\"{counted_flags}\"");
            let counted = metrics
                .lines()
                .any(|line| line.starts_with(name) && line.contains(&label));
            if logged && spanned && counted {
                break;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{flag}: log {logged}, span {spanned}, metric {counted}: {lines}\n{spans:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let untold = spans.iter().all(|(path, _)| path != "/lh");
    assert!(untold, "{spans:?}");
    // Whoever gets an answer is told that there had better be no more requests.
    for (path, told) in [("fail", Some("true")), ("ok", None)] {
        let change =
            format!("POST /healthcheck/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        exchange(world.admin, &change).await.expect("an answer");
        let answer = get(world.out, "/nr").await.expect("an answer");
        let header = answer.header("x-envoy-immediate-health-check-fail");
        assert_eq!(header, told, "{path}: {answer:?}");
    }
    // What is no request at all is counted too.
    let refused = "nonsense\r\n\r\n";
    world.bring_about("DPE", &Send("", refused)).await;
    let metrics = page(world.admin, "/stats/prometheus").await.body;
    let is_it = |line: &&str| {
        line.starts_with("istio_requests_total{")
            && line.contains("destination_service=\"unknown\"")
            && line.contains("response_code=\"400\"")
            && line.contains("response_flags=\"DPE\"")
    };
    assert_eq!(metrics.lines().filter(is_it).count(), 1, "{metrics}");
    agent.shutdown(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn authorizers_are_told_of_on_spans_and_counted_over_http2_too() {
    const CASES: [(&str, u16, &str); 2] =
        [("/dpe", 200, "allowed"), ("/status/404", 404, "denied")];
    let directory = tempfile::tempdir().expect("a directory");
    let plane = ControlPlane::start().await;
    let (world, agent) = World::start(&plane, &directory.path().join("log")).await;
    let stream = TcpStream::connect(world.guarded).await.expect("connects");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (path, status, _) in CASES {
        for _ in 0..2 {
            let mut client = client.clone().ready().await.expect("ready");
            let request = http::Request::get(format!("http://a{path}")).body(());
            let (response, _) = client
                .send_request(request.expect("valid"), true)
                .expect("sent");
            assert_eq!(
                response.await.expect("an answer").status(),
                status,
                "{path}"
            );
        }
    }
    let deadline = tokio::time::Instant::now() + xds_support::PATIENCE;
    let mut spans: Vec<Value> = Vec::new();
    let of_path = |spans: &[Value], path: &str| {
        let is_it = |span: &&Value| {
            let url = span["tags"]["http.url"].as_str();
            url.is_some_and(|url| url.ends_with(path))
        };
        spans.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    while CASES
        .iter()
        .any(|(path, ..)| of_path(&spans, path).len() < 2)
    {
        for report in world.collector.take() {
            let more: Vec<Value> = serde_json::from_str(&report.body).expect("a report");
            spans.extend(more);
        }
        assert!(tokio::time::Instant::now() < deadline, "{spans:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (path, _, result) in CASES {
        for span in of_path(&spans, path) {
            let tags = &span["tags"];
            assert_eq!(tags["http.protocol"], "HTTP/2", "{tags}");
            assert_eq!(tags["ext_authz.provider"], "c", "{tags}");
            assert_eq!(tags["ext_authz.result"], result, "{tags}");
            let took = tags["ext_authz.duration_us"]
                .as_str()
                .map(str::parse::<u64>);
            assert!(matches!(took, Some(Ok(1..))), "{tags}");
        }
    }
    let stats = page(world.admin, "/stats?filter=ext_authz.(ok|denied)$")
        .await
        .body;
    assert_eq!(
        stats,
        "cluster.c.ext_authz.denied: 2\ncluster.c.ext_authz.ok: 2\n\
         http.test.ext_authz.denied: 2\nhttp.test.ext_authz.ok: 2\n"
    );
    agent.shutdown(Duration::from_millis(100)).await;
}

/// The page says what each flag means, and of those that are never set why.
#[test]
fn the_documentation_has_every_flag() {
    let page = include_str!("../../../../../docs/semantic-conventions.md");
    for (flag, long, how, _) in &FLAGS {
        let begin = format!("| `{flag}` | `{long}` | ");
        let row = page.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("no row for {flag} {long}"));
        let why = match how {
            Never(why) => why,
            _ => "",
        };
        assert_eq!(row.contains("never"), !why.is_empty(), "{row}");
        assert!(row.contains(why), "{row}");
    }
}
