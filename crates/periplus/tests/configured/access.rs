//! Tokens with scopes, tenants with quotas, on every port.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;

use http::Method;
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::client::{Answer, Call, Client, patiently};
use crate::harness::{Serve, command};
use crate::spans;

const READER: &str = "reader-secret-0123456789";
const WRITER: &str = "writer-secret-0123456789";
const NOBODY: &str = "nobodys-secret-012345678";

const NO_AGENT: [&str; 4] = [
    "--jaeger-compact-port",
    "off",
    "--jaeger-binary-port",
    "off",
];

const TOKENS: &str = "access:\n  tokens:\n\
    \x20   - {name: reader, token: reader-secret-0123456789, scopes: [read]}\n\
    \x20   - {name: writer, token-file: SECRET, scopes: [write]}\n";

/// Starts a server with these settings.
fn start(dir: &Path, settings: &str, flags: &[&str]) -> Serve {
    let path = dir.join("periplus.yaml");
    let secret = dir.join("secret");
    fs::write(&secret, format!("{WRITER}\n")).unwrap();
    fs::write(&path, settings.replace("SECRET", secret.to_str().unwrap())).unwrap();
    let mut all = vec!["--config", path.to_str().unwrap()];
    all.extend(NO_AGENT);
    all.extend(flags);
    let mut command = command(&all);
    command.env("RUST_LOG", "debug");
    command.stderr(File::create(dir.join("log")).unwrap());
    let serve = Serve::run(command);
    assert_eq!(serve.addresses.len(), 11, "{:?}", serve.addresses);
    serve
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A question over HTTP: port, method, path, what kind of token answers it.
type Question = (&'static str, Method, &'static str, &'static [&'static str]);

const ANY: &[&str] = &[READER, WRITER];

fn questions() -> Vec<Question> {
    let (read, write): (&[&str], &[&str]) = (&[READER], &[WRITER]);
    vec![
        ("UI", Method::GET, "/api/services", read),
        ("UI", Method::GET, "/api/traces/1", read),
        ("UI", Method::GET, "/api/v3/services", read),
        ("UI", Method::GET, "/api/periplus/v1/boot", read),
        ("UI", Method::GET, "/api/periplus/v1/search", read),
        ("UI", Method::GET, "/zipkin/api/v2/services", read),
        ("UI", Method::POST, "/api/transform", read),
        ("UI", Method::POST, "/api/archive/1", write),
        ("UI", Method::GET, "/api/sampling?service=a", ANY),
        ("Zipkin", Method::POST, "/api/v2/spans", write),
        ("Zipkin", Method::POST, "/zipkin/api/v1/spans", write),
        ("Zipkin", Method::GET, "/api/v2/services", read),
        ("Zipkin", Method::GET, "/prometheus", read),
        ("OTLP over HTTP", Method::POST, "/v1/traces", write),
        ("Jaeger over HTTP", Method::POST, "/api/traces", write),
        (
            "Jaeger over HTTP",
            Method::GET,
            "/api/sampling?service=a",
            ANY,
        ),
        ("own metrics", Method::GET, "/metrics", read),
        (
            "sampling over HTTP",
            Method::GET,
            "/sampling?service=a",
            ANY,
        ),
    ]
}

const GET_STRATEGY: &str = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";
const REPORT: &str = "/zipkin.proto3.SpanService/Report";
const SERVICES_V2: &str = "/jaeger.api_v2.QueryService/GetServices";
const SERVICES_V3: &str = "/jaeger.api_v3.QueryService/GetServices";
const TRACE_V2: &str = "/jaeger.api_v2.QueryService/GetTrace";
const ARCHIVE_V2: &str = "/jaeger.api_v2.QueryService/ArchiveTrace";

#[tokio::test]
async fn each_port_asks_for_a_token_with_the_scope() {
    let dir = tempfile::tempdir().unwrap();
    let serve = start(dir.path(), TOKENS, &["--memory"]);
    let client = Client::plain();
    for (port, method, path, allowed) in questions() {
        let url = format!("{}{path}", serve.addresses[port]);
        let ask = async |token: Option<&str>| -> Answer {
            let token = token.map(bearer);
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(token.as_deref().map(|token| ("authorization", token)));
            client
                .send(method.clone(), &url, &headers, "[]")
                .await
                .unwrap()
        };
        for token in [None, Some(NOBODY)] {
            let answer = ask(token).await;
            assert_eq!(answer.status, 401, "{port} {path}: {answer:?}");
            assert_eq!(
                answer.headers["www-authenticate"],
                "Bearer realm=\"periplus\""
            );
        }
        for token in [READER, WRITER] {
            let answer = ask(Some(token)).await;
            let denied = matches!(answer.status, 401 | 403);
            assert_eq!(
                denied,
                !allowed.contains(&token),
                "{port} {path}: {answer:?}"
            );
            if denied {
                assert_eq!(answer.status, 403);
                assert!(answer.text.contains("lacks the scope"), "{answer:?}");
            }
        }
    }
    for (port, path, message, allowed) in [
        ("OTLP over gRPC", EXPORT, spans::otlp(1, "a"), &[WRITER][..]),
        (
            "Jaeger over gRPC",
            POST_SPANS,
            spans::jaeger(2, "a"),
            &[WRITER],
        ),
        ("Jaeger over gRPC", GET_STRATEGY, spans::bytes(1, b"a"), ANY),
        ("Zipkin", REPORT, spans::zipkin_proto(3, "a"), &[WRITER]),
        ("Jaeger query, gRPC", SERVICES_V2, Vec::new(), &[READER]),
        ("Jaeger query, gRPC", SERVICES_V3, Vec::new(), &[READER]),
        (
            "Jaeger query, gRPC",
            ARCHIVE_V2,
            spans::bytes(1, &[0; 16]),
            &[WRITER],
        ),
        (
            "sampling over gRPC",
            GET_STRATEGY,
            spans::bytes(1, b"a"),
            ANY,
        ),
    ] {
        let url = format!("{}{path}", serve.addresses[port]);
        let ask = async |token: Option<&str>| -> Call {
            let token = token.map(bearer);
            let headers: Vec<_> = (token.as_deref().map(|token| ("authorization", token)))
                .into_iter()
                .collect();
            client.call(&url, &headers, &message).await
        };
        for token in [None, Some(NOBODY)] {
            assert_eq!(ask(token).await.code, 16, "{port} {path}");
        }
        for token in [READER, WRITER] {
            let call = ask(Some(token)).await;
            assert_eq!(
                call.code == 7,
                !allowed.contains(&token),
                "{port} {path}: {call:?}"
            );
            assert_ne!(call.code, 16);
        }
    }
    let metrics = format!("{}/metrics", serve.addresses["own metrics"]);
    let reader = bearer(READER);
    let metrics = client
        .get(&metrics, &[("authorization", &reader)])
        .await
        .text;
    let count = |reason: &str| -> u64 {
        let name = format!("periplus_denied_requests_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap().parse().unwrap()
    };
    let asked = questions().len() as u64 + 8;
    assert_eq!((count("no_token"), count("unknown_token")), (asked, asked));
    assert!(count("lacks_scope") > 10, "{metrics}");
}

#[tokio::test]
async fn what_shows_nothing_needs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let serve = start(dir.path(), TOKENS, &["--memory", "--base-path", "/jaeger"]);
    let client = Client::plain();
    for (port, path) in [
        ("UI", "/"),
        ("UI", "/search?service=a"),
        ("UI", "/trace/abc"),
        ("UI", "/favicon.svg"),
        ("UI", "/jaeger/trace/abc"),
        ("Zipkin", "/health"),
        ("health", "/status"),
    ] {
        let answer = client
            .get(&format!("{}{path}", serve.addresses[port]), &[])
            .await;
        assert_eq!(answer.status, 200, "{port} {path}: {answer:?}");
    }
    let below = format!("{}/jaeger/api/services", serve.addresses["UI"]);
    assert_eq!(client.get(&below, &[]).await.status, 401);
    let health = format!(
        "{}/grpc.health.v1.Health/Check",
        serve.addresses["Jaeger query, gRPC"]
    );
    assert_eq!(client.call(&health, &[], &[]).await.code, 0);
    // A preflight has no credentials, and says that the request itself may have them.
    for (port, path) in [
        ("OTLP over HTTP", "/v1/traces"),
        ("Zipkin", "/api/v2/spans"),
    ] {
        let url = format!("{}{path}", serve.addresses[port]);
        let headers = [
            ("origin", "http://localhost:3000"),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization,content-type",
            ),
        ];
        let answer = client
            .send(Method::OPTIONS, &url, &headers, "")
            .await
            .unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
        let allowed = &answer.headers["access-control-allow-headers"];
        assert_eq!(allowed, "authorization,content-type");
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_and_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = start(dir.path(), TOKENS, &["--memory"]);
    let client = Client::plain();
    let ui = serve.addresses["UI"];
    let login = client
        .get(&format!("{ui}/search?token={READER}"), &[])
        .await;
    assert_eq!(login.status, 303, "{login:?}");
    assert_eq!(login.headers["location"], "/search");
    let cookie = login.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let url = format!("{ui}/api/services");
    assert_eq!(client.get(&url, &[("cookie", cookie)]).await.status, 200);

    let (reader, writer, nobody) = (bearer(READER), bearer(WRITER), bearer(NOBODY));
    let mut said = String::new();
    for token in [&reader, &writer, &nobody] {
        let headers = [("authorization", token.as_str())];
        for (port, method, path, _) in questions() {
            let url = format!("{}{path}", serve.addresses[port]);
            let answer = client.send(method, &url, &headers, "[]").await.unwrap();
            said.push_str(&format!("{:?}{}", answer.headers, answer.text));
        }
        let url = format!("{}{SERVICES_V2}", serve.addresses["Jaeger query, gRPC"]);
        said.push_str(&client.call(&url, &headers, &[]).await.message);
    }
    let wrong = client
        .get(&format!("{ui}/api/services?token={NOBODY}"), &[])
        .await;
    said.push_str(&wrong.text);
    assert_eq!(serve.signal(Signal::TERM), Some(0));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("a request was denied"), "{log}");
    for secret in [READER, WRITER, NOBODY] {
        assert!(!log.contains(secret), "{log}");
        assert!(!said.contains(secret), "{said}");
    }
}

const TENANTS: &str = "access:\n  tenants:\n    known: {shop: {spans-per-second: 10}, bank: {}}\n";

/// Sends a trace by each way in; their ids begin with `first`.
async fn send_by_all(client: &Client, serve: &Serve, tenant: &str, first: u64, service: &str) {
    let at = |port: &str, path: &str| format!("{}{path}", serve.addresses[port]);
    let json = [("x-tenant", tenant), ("content-type", "application/json")];
    let thrift = [
        ("x-tenant", tenant),
        ("content-type", "application/x-thrift"),
    ];
    let otlp = at("OTLP over HTTP", "/v1/traces");
    let answer = client
        .post(&otlp, &json, spans::otlp_json(first, service, 1))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let zipkin = at("Zipkin", "/api/v2/spans");
    let answer = client
        .post(&zipkin, &json, spans::zipkin(first + 1, service))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let jaeger = at("Jaeger over HTTP", "/api/traces");
    let answer = client
        .post(&jaeger, &thrift, spans::thrift(first + 2, service))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let headers = [("x-tenant", tenant)];
    for (url, message) in [
        (
            at("OTLP over gRPC", EXPORT),
            spans::otlp(first + 3, service),
        ),
        (
            at("Jaeger over gRPC", POST_SPANS),
            spans::jaeger(first + 4, service),
        ),
        (
            at("Zipkin", REPORT),
            spans::zipkin_proto(first + 5, service),
        ),
    ] {
        let call = client.call(&url, &headers, &message).await;
        assert_eq!(call.code, 0, "{url}: {call:?}");
    }
}

/// Looks at one tenant through every API: it has its own service and its own six traces, nothing of
/// the other's.
async fn sees_its_own_only(
    client: &Client,
    serve: &Serve,
    tenant: &str,
    (first, service): (u64, &str),
    (other_first, other_service): (u64, &str),
) {
    let headers = [("x-tenant", tenant)];
    let (ui, zipkin) = (serve.addresses["UI"], serve.addresses["Zipkin"]);
    let grpc = serve.addresses["Jaeger query, gRPC"];
    for url in [
        format!("{ui}/api/services"),
        format!("{ui}/api/traces?service={service}&lookback=1h"),
        format!("{ui}/api/v3/services"),
        format!("{ui}/api/periplus/v1/search"),
        format!("{ui}/zipkin/api/v2/services"),
        format!("{zipkin}/api/v2/services"),
        format!("{zipkin}/api/v2/traces"),
        format!("{zipkin}/api/services"),
    ] {
        let answer = client.get(&url, &headers).await;
        assert_eq!(answer.status, 200, "{url}: {answer:?}");
        assert!(answer.text.contains(service), "{url}: {answer:?}");
        assert!(!answer.text.contains(other_service), "{url}: {answer:?}");
    }
    let boot = client
        .get_json(&format!("{ui}/api/periplus/v1/boot"), &headers)
        .await;
    assert_eq!(boot["store"]["spans"], 6, "{boot}");
    for (template, missing) in [
        (format!("{ui}/api/traces/ID"), 404),
        (format!("{ui}/api/v3/traces/ID"), 404),
        (format!("{ui}/api/periplus/v1/traces/ID"), 404),
        (format!("{zipkin}/api/v2/trace/ID"), 404),
        (format!("{ui}/zipkin/api/v2/trace/ID"), 404),
    ] {
        for offset in 0..6 {
            let url = |id: u64| template.replace("ID", &format!("{id:032x}"));
            let own = client.get(&url(first + offset), &headers).await;
            assert_eq!(own.status, 200, "{template} {offset}: {own:?}");
            let other = client.get(&url(other_first + offset), &headers).await;
            assert_eq!(other.status, missing, "{template} {offset}: {other:?}");
        }
    }
    for path in [
        format!("{ui}/api/operations?service={other_service}"),
        format!("{ui}/api/services/{other_service}/operations"),
        format!("{ui}/api/traces?service={other_service}&lookback=1h"),
    ] {
        let found = client.get_json(&path, &headers).await;
        assert!(
            found["data"].is_null() || found["data"] == Json::Array(Vec::new()),
            "{path}: {found}"
        );
    }
    for path in [SERVICES_V2, SERVICES_V3] {
        let call = client.call(&format!("{grpc}{path}"), &headers, &[]).await;
        let text = String::from_utf8_lossy(&call.body).into_owned();
        assert!(
            text.contains(service) && !text.contains(other_service),
            "{path}: {text}"
        );
    }
    for (id, code) in [(first, 0), (other_first, 5)] {
        let message = spans::bytes(1, &u128::from(id).to_be_bytes());
        let call = client
            .call(&format!("{grpc}{TRACE_V2}"), &headers, &message)
            .await;
        assert_eq!(call.code, code, "{call:?}");
    }
}

#[tokio::test]
async fn no_tenant_sees_another() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = TENANTS.replace("spans-per-second: 10", "max-disk-bytes: 5000000000");
    let flags = ["--data", data.to_str().unwrap()];
    let mut serve = start(dir.path(), &settings, &flags);
    let client = Client::plain();
    let (shop, bank) = ((0x5000, "shop-front"), (0xb000, "bank-vault"));
    send_by_all(&client, &serve, "shop", shop.0, shop.1).await;
    send_by_all(&client, &serve, "bank", bank.0, bank.1).await;
    sees_its_own_only(&client, &serve, "shop", shop, bank).await;
    sees_its_own_only(&client, &serve, "bank", bank, shop).await;

    for (tenant, bytes) in [("shop", 5_000_000_000_u64), ("bank", 10 << 30)] {
        let boot = format!("{}/api/periplus/v1/boot", serve.addresses["UI"]);
        let boot = client.get_json(&boot, &[("x-tenant", tenant)]).await;
        assert_eq!(boot["store"]["maxBytes"], bytes, "{boot}");
    }

    // What is archived for one is not in the archive of the other.
    let archive = format!("{}/api/archive/{:032x}", serve.addresses["UI"], shop.0);
    assert_eq!(
        client
            .post(&archive, &[("x-tenant", "bank")], "")
            .await
            .status,
        404
    );
    assert_eq!(
        client
            .post(&archive, &[("x-tenant", "shop")], "")
            .await
            .status,
        200
    );
    sees_its_own_only(&client, &serve, "bank", bank, shop).await;

    // Numbers are told apart as well.
    let metrics = client
        .get(&format!("{}/metrics", serve.addresses["own metrics"]), &[])
        .await;
    for tenant in ["shop", "bank"] {
        let line = format!(
            "periplus_receiver_accepted_spans_total{{tenant=\"{tenant}\",receiver=\"otlp\",transport=\"grpc\"}} 1"
        );
        assert!(
            metrics.text.lines().any(|found| found == line),
            "{}",
            metrics.text
        );
    }
    assert_eq!(serve.signal(Signal::TERM), Some(0));
    assert!(data.join("tenants/shop").is_dir() && data.join("tenants/bank").is_dir());

    let serve = start(dir.path(), &settings, &flags);
    sees_its_own_only(&client, &serve, "shop", shop, bank).await;
    sees_its_own_only(&client, &serve, "bank", bank, shop).await;
}

#[tokio::test]
async fn a_live_tail_is_one_tenant_s() {
    use std::io::{BufRead as _, BufReader, Write as _};

    let dir = tempfile::tempdir().unwrap();
    let serve = start(
        dir.path(),
        &TENANTS.replace("spans-per-second: 10", ""),
        &["--memory"],
    );
    let client = Client::plain();
    let mut stream = std::net::TcpStream::connect(serve.addresses["UI"]).unwrap();
    stream
        .set_read_timeout(Some(crate::client::DEADLINE))
        .unwrap();
    let head = "GET /api/periplus/v1/live HTTP/1.1\r\nhost: t\r\nx-tenant: bank\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let status = lines.next().unwrap();
    assert!(status.ends_with("200 OK"), "{status}");
    // The tail begins when the head has come: shop's first, so that it would be seen first.
    send_by_all(&client, &serve, "shop", 0x5000, "shop-front").await;
    send_by_all(&client, &serve, "bank", 0xb000, "bank-vault").await;
    for line in lines {
        assert!(!line.contains("shop-front"), "{line}");
        if line.contains("bank-vault") {
            return;
        }
    }
    panic!("the tail ended");
}

#[tokio::test]
async fn a_tenant_must_be_named_and_known() {
    let dir = tempfile::tempdir().unwrap();
    let serve = start(dir.path(), TENANTS, &["--memory"]);
    let client = Client::plain();
    let urls = [
        format!("{}/api/services", serve.addresses["UI"]),
        format!("{}/api/v2/services", serve.addresses["Zipkin"]),
    ];
    for url in urls {
        for (headers, status, text) in [
            (&[][..], 401, "missing tenant header"),
            (&[("x-tenant", "mill")], 401, "unknown tenant"),
            (&[("x-tenant", "../bank")], 401, "unknown tenant"),
            (
                &[("x-tenant", "shop"), ("x-tenant", "bank")],
                403,
                "extra tenant header",
            ),
            (&[("x-tenant", "shop")], 200, ""),
        ] {
            let answer = client.get(&url, headers).await;
            assert_eq!(answer.status, status, "{url}: {answer:?}");
            assert!(answer.text.contains(text), "{url}: {answer:?}");
        }
    }
    let url = format!("{}{EXPORT}", serve.addresses["OTLP over gRPC"]);
    for (headers, code) in [
        (&[][..], 16),
        (&[("x-tenant", "mill")], 7),
        (&[("x-tenant", "shop"), ("x-tenant", "bank")], 7),
        (&[("x-tenant", "shop")], 0),
    ] {
        let call = client.call(&url, headers, &spans::otlp(1, "a")).await;
        assert_eq!(call.code, code, "{headers:?}: {call:?}");
    }
    // Strategies of sampling are the same for all.
    let url = format!(
        "{}/sampling?service=a",
        serve.addresses["sampling over HTTP"]
    );
    assert_eq!(client.get(&url, &[]).await.status, 200);
}

#[tokio::test]
async fn names_make_tenants_where_none_are_known_up_to_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "access: {tenants: {header: X-Scope-OrgID, max: 2}}\n";
    let serve = start(dir.path(), settings, &["--memory"]);
    let client = Client::plain();
    let url = format!("{}/api/services", serve.addresses["UI"]);
    for (name, status) in [("a", 200), ("b", 200), ("c", 503), ("a", 200)] {
        let answer = client.get(&url, &[("x-scope-orgid", name)]).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_quota_refuses_so_that_the_sender_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let serve = start(dir.path(), TENANTS, &["--memory"]);
    let client = Client::plain();
    let at = |port: &str, path: &str| format!("{}{path}", serve.addresses[port]);
    let otlp = at("OTLP over HTTP", "/v1/traces");
    let headers = |tenant| [("x-tenant", tenant), ("content-type", "application/json")];
    // More than two seconds' worth passes once, and takes a while to be paid off.
    let answer = client
        .post(&otlp, &headers("shop"), spans::otlp_json(1, "a", 60))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = client
        .post(&otlp, &headers("shop"), spans::otlp_json(100, "a", 3))
        .await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(
        answer.text.contains("quota of 10 spans per second"),
        "{answer:?}"
    );
    let call = client
        .call(
            &at("OTLP over gRPC", EXPORT),
            &[("x-tenant", "shop")],
            &spans::otlp(200, "a"),
        )
        .await;
    assert_eq!((call.code, call.details), (14, true), "{call:?}");
    let zipkin = at("Zipkin", "/api/v2/spans");
    let answer = client
        .post(&zipkin, &headers("shop"), spans::zipkin(300, "a"))
        .await;
    assert_eq!(answer.status, 503, "{answer:?}");

    // The other tenant has no part in it.
    let answer = client
        .post(&otlp, &headers("bank"), spans::otlp_json(1, "a", 60))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let metrics = client.get(&at("own metrics", "/metrics"), &[]).await.text;
    let line = "periplus_quota_refused_spans_total{tenant=\"shop\"} 5";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let line = "periplus_receiver_refused_spans_total{tenant=\"shop\",receiver=\"otlp\",transport=\"http\",reason=\"busy\"} 3";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");

    patiently("the quota to fill", async || {
        let answer = client
            .post(&otlp, &headers("shop"), spans::otlp_json(100, "a", 1))
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_without_tenants_may_have_a_quota_too() {
    let serve = Serve::start_with(&["--memory", "--max-spans-per-second", "10"]);
    let client = Client::plain();
    let otlp = format!("{}/v1/traces", serve.addresses["OTLP over HTTP"]);
    let json = [("content-type", "application/json")];
    let taken = client
        .post(&otlp, &json, spans::otlp_json(1, "a", 60))
        .await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let zipkin = format!("{}/api/v2/spans", serve.addresses["Zipkin"]);
    let refused = client.post(&zipkin, &json, spans::zipkin(100, "a")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    let metrics = format!("{}/metrics", serve.addresses["own metrics"]);
    let metrics = client.get(&metrics, &[]).await.text;
    let line = "periplus_quota_refused_spans_total 1";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[test]
fn what_cannot_be_kept_apart_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("periplus.yaml");
    let policies = dir.path().join("policies.yaml");
    fs::write(
        &policies,
        "tail_sampling: {policies: [{name: a, type: always_sample}]}",
    )
    .unwrap();
    let short = "access: {tokens: [{name: a, token: too-short, scopes: [read]}]}";
    for (settings, flags, expected) in [
        (
            TENANTS,
            vec!["--jaeger-binary-port", "off"],
            "the ports of Jaeger's agent do not go with tenants: add --jaeger-compact-port off",
        ),
        (
            "access: {tokens: [{name: a, token: 0123456789abcdef, scopes: [read]}]}",
            vec![],
            "the ports of Jaeger's agent do not go with tokens: add --jaeger-compact-port off \
             --jaeger-binary-port off",
        ),
        (
            TENANTS,
            [
                &NO_AGENT[..],
                &["--tail-sampling", policies.to_str().unwrap()],
            ]
            .concat(),
            "--tail-sampling) does not go with tenants",
        ),
        (
            TENANTS,
            [&NO_AGENT[..], &["--adaptive-sampling"]].concat(),
            "--adaptive-sampling does not go with tenants",
        ),
        (
            short,
            NO_AGENT.to_vec(),
            "the secret of token 'a' is shorter than 16 bytes",
        ),
    ] {
        fs::write(&path, settings).unwrap();
        let config = ["--memory", "--config", path.to_str().unwrap()];
        let output = command(&[&config[..], &flags].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(
            !error.contains("too-short") && !error.contains("0123456789abcdef"),
            "{error}"
        );
    }
}

/// A token that belongs to a tenant stands for it, and opens nothing else.
#[tokio::test]
async fn a_token_may_stand_for_a_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!(
        "{TENANTS}  tokens:\n    - {{name: bank, token: {READER}, tenant: bank, scopes: [read, write]}}\n"
    );
    let serve = start(dir.path(), &settings, &["--memory"]);
    let client = Client::plain();
    let token = bearer(READER);
    let zipkin = serve.addresses["Zipkin"];
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    let url = format!("{zipkin}/api/v2/spans");
    let answer = client.post(&url, &headers, spans::zipkin(1, "vault")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let found = client
        .get_json(&format!("{zipkin}/api/v2/services"), &headers)
        .await;
    assert_eq!(found, serde_json::json!(["vault"]));
    let foreign = [("authorization", token.as_str()), ("x-tenant", "shop")];
    let answer = client
        .get(&format!("{zipkin}/api/v2/services"), &foreign)
        .await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (403, "token 'bank' belongs to another tenant")
    );
    // The server's own numbers are of all tenants.
    let metrics: SocketAddr = serve.addresses["own metrics"];
    let answer = client
        .get(&format!("{metrics}/metrics"), &headers[..1])
        .await;
    assert_eq!(answer.status, 403, "{answer:?}");
}
