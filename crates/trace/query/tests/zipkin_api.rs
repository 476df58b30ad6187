//! Zipkin's v2 read API: what the Zipkin server answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod support;

use periplus_wire::zipkin::decode_json;
use serde_json::{Value as Json, json};
use support::{BOOKINFO_ID, BOOKINFO_START_US, Server};

/// Milliseconds of a window that holds everything that the tests send.
const END_MS: u64 = BOOKINFO_START_US / 1000 + 60_000;

/// A server's and its clients' spans, as Zipkin's libraries report them: two traces, the second one
/// later and with an error.
fn spans() -> Json {
    let web = json!({"serviceName": "Web", "ipv4": "10.0.0.1", "port": 8080});
    let app = json!({"serviceName": "app"});
    let db = json!({"serviceName": "DB"});
    let at = |ms: u64| BOOKINFO_START_US + ms * 1000;
    json!([
        {"traceId": "a", "id": "1", "kind": "SERVER", "name": "GET /", "timestamp": at(0),
         "duration": 5000, "localEndpoint": web, "tags": {"http.path": "/", "env": "test"}},
        {"traceId": "a", "parentId": "1", "id": "2", "kind": "CLIENT", "name": "call",
         "timestamp": at(1), "duration": 3000, "localEndpoint": web, "remoteEndpoint": app,
         "annotations": [{"timestamp": at(3), "value": "wr"}, {"timestamp": at(2), "value": "ws"}]},
        {"traceId": "a", "parentId": "1", "id": "2", "kind": "SERVER", "name": "call",
         "timestamp": at(2), "duration": 1000, "localEndpoint": app, "shared": true,
         "tags": {"http.path": "/app", "k=": "v"}},
        {"traceId": "48485a3953bb6124000000000000000b", "id": "1", "kind": "SERVER",
         "name": "post", "timestamp": at(1000), "duration": 90, "localEndpoint": web},
        {"traceId": "48485a3953bb6124000000000000000b", "parentId": "1", "id": "2",
         "kind": "CLIENT", "name": "query", "timestamp": at(1001), "duration": 40,
         "localEndpoint": web, "remoteEndpoint": db, "tags": {"error": "", "http.path": "/x"}},
        {"traceId": "c", "id": "1", "name": "timeless", "localEndpoint": app}
    ])
}

async fn server() -> Server {
    let server = Server::zipkin().await;
    let batch = decode_json(spans().to_string().as_bytes()).unwrap();
    server.add(batch).await;
    server
}

/// The ids of the traces that a search finds.
async fn found(server: &Server, query: &str) -> Vec<String> {
    let answer = server
        .get(&format!("/api/v2/traces?endTs={END_MS}&{query}"))
        .await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let traces = answer.json();
    let traces = traces.as_array().unwrap().iter();
    traces
        .map(|trace| trace[0]["traceId"].as_str().unwrap().to_owned())
        .collect()
}

const A: &str = "000000000000000a";
const B: &str = "48485a3953bb6124000000000000000b";

#[tokio::test]
async fn a_trace_is_shown_as_it_came() {
    let server = server().await;
    for prefix in ["", "/zipkin"] {
        let answer = server.get(&format!("{prefix}/api/v2/trace/a")).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let spans = answer.json();
        assert_eq!(spans.as_array().unwrap().len(), 3, "nothing is merged");
        assert_eq!(
            spans[1],
            json!({
                "traceId": A, "parentId": "0000000000000001", "id": "0000000000000002",
                "kind": "CLIENT", "name": "call", "timestamp": BOOKINFO_START_US + 1000,
                "duration": 3000,
                "localEndpoint": {"serviceName": "web", "ipv4": "10.0.0.1", "port": 8080},
                "remoteEndpoint": {"serviceName": "app"},
                "annotations": [
                    {"timestamp": BOOKINFO_START_US + 2000, "value": "ws"},
                    {"timestamp": BOOKINFO_START_US + 3000, "value": "wr"},
                ],
            })
        );
        assert_eq!(spans[0]["name"], "get /");
        assert_eq!(spans[2]["shared"], true);
    }
    let timeless = server.get("/api/v2/trace/c").await.json();
    assert_eq!(timeless[0].get("timestamp"), None);
}

#[tokio::test]
async fn ids_that_name_no_trace_are_refused() {
    let server = server().await;
    for (id, status, text) in [
        ("1", 404, "0000000000000001 not found"),
        (
            "00000000000000010000000000000002",
            404,
            "00000000000000010000000000000002 not found",
        ),
        (
            "00000000000000000000000000000001",
            404,
            "0000000000000001 not found",
        ),
        ("A", 400, "A should be lower-hex encoded with no prefix"),
        ("", 400, "traceId is empty"),
        ("%20", 400, "traceId is empty"),
        ("0", 400, "traceId is all zeros"),
        (
            "000000000000000000000000000000001",
            400,
            "traceId.length > 32",
        ),
    ] {
        let answer = server.get(&format!("/api/v2/trace/{id}")).await;
        assert_eq!((answer.status, answer.text()), (status, text), "{id}");
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain"), "{kind}");
    }
    assert_eq!(server.get("/api/v2/trace/a%20").await.status, 200);
}

#[tokio::test]
async fn many_traces_by_their_ids() {
    let server = server().await;
    let answer = server
        .get(&format!("/api/v2/traceMany?traceIds=a,{B},1"))
        .await;
    let traces = answer.json();
    assert_eq!(traces.as_array().unwrap().len(), 2);
    assert_eq!(traces[1][0]["traceId"], B);
    for (ids, text) in [
        ("", "traceIds parameter is empty"),
        (
            "a",
            "Use /api/v2/trace/{traceId} endpoint to retrieve a single trace",
        ),
        ("a,0a", "redundant traceId: 000000000000000a"),
        ("a,x", "x should be lower-hex encoded with no prefix"),
        ("a,", "traceId is empty"),
    ] {
        let answer = server
            .get(&format!("/api/v2/traceMany?traceIds={ids}"))
            .await;
        assert_eq!((answer.status, answer.text()), (400, text), "{ids}");
    }
}

#[tokio::test]
async fn names_are_lower_case_and_sorted() {
    let server = server().await;
    for (path, expected) in [
        ("services", json!(["app", "web"])),
        (
            "spans?serviceName=web",
            json!(["call", "get /", "post", "query"]),
        ),
        (
            "spans?serviceName=WEB",
            json!(["call", "get /", "post", "query"]),
        ),
        ("spans?serviceName=nobody", json!([])),
        ("spans?serviceName=", json!([])),
        ("remoteServices?serviceName=web", json!(["app", "db"])),
        ("remoteServices?serviceName=app", json!([])),
        ("autocompleteKeys", json!(["env"])),
        ("autocompleteValues?key=env", json!(["test"])),
        (
            "autocompleteValues?key=http.path",
            json!(["/", "/app", "/x"]),
        ),
        ("autocompleteValues?key=none", json!([])),
    ] {
        for prefix in ["", "/zipkin"] {
            let answer = server.get(&format!("{prefix}/api/v2/{path}")).await;
            assert_eq!(answer.json(), expected, "{prefix} {path}");
        }
    }
    for (path, text) in [
        ("spans", "Required parameter 'serviceName' is missing"),
        (
            "remoteServices",
            "Required parameter 'serviceName' is missing",
        ),
        ("autocompleteValues", "Required parameter 'key' is missing"),
        ("autocompleteValues?key=", "key was empty"),
    ] {
        let answer = server.get(&format!("/api/v2/{path}")).await;
        assert_eq!((answer.status, answer.text()), (400, text), "{path}");
    }
}

#[tokio::test]
async fn names_may_be_cached_from_the_fourth_service_on() {
    let server = server().await;
    let cache = |answer: &support::Answer| answer.header("cache-control").map(str::to_owned);
    let keys = server.get("/api/v2/autocompleteKeys").await;
    let five_minutes = Some("max-age=300, must-revalidate".to_owned());
    assert_eq!(cache(&keys), five_minutes);
    assert_eq!(cache(&server.get("/api/v2/services").await), None);
    let more: Json = ["x", "y"]
        .iter()
        .map(|name| json!({"traceId": "d", "id": "1", "localEndpoint": {"serviceName": name}}))
        .collect();
    server
        .add(decode_json(more.to_string().as_bytes()).unwrap())
        .await;
    let spans = "/api/v2/spans?serviceName=web";
    assert_eq!(cache(&server.get(spans).await), None, "not known yet");
    assert_eq!(cache(&server.get("/api/v2/services").await), five_minutes);
    assert_eq!(cache(&server.get(spans).await), five_minutes);
    let values = server.get("/api/v2/autocompleteValues?key=http.path").await;
    assert_eq!(cache(&values), None, "three values");
}

#[tokio::test]
async fn searches_find_what_zipkin_finds() {
    let server = server().await;
    let both: &[&str] = &[B, A];
    let cases: [(&str, &[&str]); 38] = [
        ("", both),
        ("limit=1", &[B]),
        ("serviceName=", both),
        ("serviceName=web", both),
        ("serviceName=WEB", both),
        ("serviceName=app", &[A]),
        ("serviceName=db", &[]),
        ("spanName=all", both),
        ("spanName=get+/", &[A]),
        ("spanName=Get%20/", &[A]),
        ("serviceName=app&spanName=call", &[A]),
        ("serviceName=app&spanName=get+/", &[]),
        ("remoteServiceName=db", &[B]),
        ("serviceName=web&remoteServiceName=APP", &[A]),
        ("serviceName=app&remoteServiceName=app", &[]),
        ("minDuration=1000", &[A]),
        ("minDuration=90&maxDuration=90", &[B]),
        ("minDuration=91&maxDuration=999", &[]),
        ("serviceName=app&minDuration=1000", &[A]),
        ("serviceName=app&minDuration=1001", &[]),
        ("annotationQuery=ws", &[A]),
        ("annotationQuery=WS", &[]),
        ("annotationQuery=error", &[B]),
        ("annotationQuery=error%3D", &[B]),
        ("annotationQuery=error%3Dtrue", &[]),
        ("annotationQuery=http.path", both),
        ("annotationQuery=http.path%3D/", &[A]),
        ("annotationQuery=http.path%3D/app", &[A]),
        // Different spans of the service may meet different conditions.
        ("annotationQuery=ws+and+http.path%3D/app", &[A]),
        ("serviceName=web&annotationQuery=ws+and+http.path%3D/", &[A]),
        (
            "serviceName=web&annotationQuery=ws+and+http.path%3D/app",
            &[],
        ),
        ("serviceName=app&annotationQuery=http.path%3D/app", &[A]),
        ("serviceName=web&spanName=get+/&annotationQuery=ws", &[A]),
        ("serviceName=web&spanName=post&annotationQuery=error", &[B]),
        ("serviceName=web&spanName=get+/&annotationQuery=error", &[]),
        // The last value of a key counts, and a word takes none away.
        ("annotationQuery=http.path%3D/+and+http.path%3D/x", &[B]),
        ("annotationQuery=http.path%3D/x+and+http.path", &[B]),
        ("annotationQuery=+and+error+and+", &[B]),
    ];
    for (query, expected) in cases {
        assert_eq!(found(&server, query).await, expected, "{query}");
    }
    // A trace's time is that of its root: the window ends before the second one begins.
    let start_ms = BOOKINFO_START_US / 1000;
    for (end, lookback, expected) in [
        (start_ms + 999, 10_000, &[A][..]),
        (start_ms + 1500, 500, &[B]),
        (start_ms + 1500, 499, &[]),
        (start_ms + 2000, 2000, both),
    ] {
        let path = format!("/api/v2/traces?endTs={end}&lookback={lookback}");
        let traces = server.get(&path).await.json();
        let ids: Vec<_> = (traces.as_array().unwrap().iter())
            .map(|trace| trace[0]["traceId"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected, "{path}");
    }
}

#[tokio::test]
async fn bad_searches_get_zipkins_words() {
    let server = server().await;
    for (query, text) in [
        ("endTs=0", "endTs <= 0"),
        ("lookback=0", "lookback <= 0"),
        ("limit=0", "limit <= 0"),
        ("minDuration=0", "minDuration <= 0"),
        (
            "maxDuration=5",
            "maxDuration is only valid with minDuration",
        ),
        ("minDuration=2&maxDuration=1", "maxDuration < minDuration"),
        ("limit=ten", "parameter 'limit' is no number: ten"),
    ] {
        let answer = server.get(&format!("/api/v2/traces?{query}")).await;
        assert_eq!((answer.status, answer.text()), (400, text), "{query}");
    }
}

#[tokio::test]
async fn dependencies_are_zipkins_links() {
    let server = server().await;
    let path = format!("/api/v2/dependencies?endTs={END_MS}&lookback=3600000");
    let expected = json!([
        {"parent": "web", "child": "app", "callCount": 1},
        {"parent": "web", "child": "db", "callCount": 1, "errorCount": 1},
    ]);
    let sorted = server.get(&path).await.json();
    assert_eq!(sorted, expected);
    let only_first = format!(
        "/api/v2/dependencies?endTs={}&lookback=1000",
        BOOKINFO_START_US / 1000 + 500
    );
    assert_eq!(server.get(&only_first).await.json(), json!([expected[0]]));
    for (query, text) in [
        ("", "Required parameter 'endTs' is missing"),
        ("?endTs=0", "endTs <= 0"),
        ("?endTs=1&lookback=-1", "lookback <= 0"),
        ("?endTs=x", "parameter 'endTs' is no number: x"),
    ] {
        let answer = server.get(&format!("/api/v2/dependencies{query}")).await;
        assert_eq!((answer.status, answer.text()), (400, text), "{query}");
    }
}

/// The calls of Grafana's Zipkin data source: its health check, its search form level by level, and a
/// trace, with parameters that are empty, `all`, unknown or escaped in its way.
#[tokio::test]
async fn grafana_gets_what_it_asks_for() {
    let server = server().await;
    assert_eq!(
        server.get("/api/v2/services").await.json(),
        json!(["app", "web"])
    );
    let spans = server.get("/api/v2/spans?serviceName=web&").await.json();
    assert_eq!(spans[1], "get /");
    for query in [
        "serviceName=web&spanName=get%20%2F",
        "serviceName=web&spanName=get+%2F&annotationQuery=&minDuration=&maxDuration=",
        "serviceName=web&spanName=get%20/&orgId=1&limit=&uid=x",
        "serviceName=web&spanName=get+/&serviceName=app",
    ] {
        assert_eq!(found(&server, query).await, [A], "{query}");
    }
    assert_eq!(found(&server, "serviceName=web&spanName=all").await, [B, A]);
    let trace = server.get("/api/v2/trace/a?orgId=1").await.json();
    assert_eq!(trace.as_array().unwrap().len(), 3);
    // It shows the text of what is not 2xx.
    let missing = server.get("/api/v2/trace/dead").await;
    assert_eq!(
        (missing.status, missing.text()),
        (404, "000000000000dead not found")
    );
}

#[tokio::test]
async fn spans_of_opentelemetry_are_found_too() {
    let server = Server::zipkin().await;
    let decoded = periplus_wire::otlp::decode_json(support::BOOKINFO.as_bytes()).unwrap();
    server.add(decoded.batch).await;
    let answer = server.get(&format!("/api/v2/trace/{BOOKINFO_ID}")).await;
    assert_eq!(answer.json().as_array().unwrap().len(), 9);
    for query in [
        "serviceName=details.default",
        "serviceName=DETAILS.default&annotationQuery=http.status_code%3D200",
        "serviceName=reviews.default&annotationQuery=response_flags",
    ] {
        assert_eq!(found(&server, query).await, [BOOKINFO_ID], "{query}");
    }
    assert!(
        found(&server, "annotationQuery=http.status_code%3D500")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn the_server_tells_of_itself_and_leads_to_the_ui() {
    let server = server().await;
    let health = server.get("/health").await;
    assert_eq!(
        (health.status, health.json()["status"].clone()),
        (200, json!("UP"))
    );
    assert_eq!(health.json()["zipkin"]["details"]["memory"]["status"], "UP");
    let info = server.get("/info").await;
    assert_eq!(
        info.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(info.json()["zipkin"]["version"], "0.0.0-test");
    let config = server.get("/zipkin/config.json").await;
    assert_eq!(config.header("cache-control"), Some("max-age=600"));
    assert_eq!(config.json()["dependency"]["lowErrorRate"], 0.5);
    for (path, location) in [
        ("/", "/zipkin/"),
        ("/zipkin", "/zipkin/"),
        ("/favicon.ico", "/zipkin/favicon.ico"),
        ("/zipkin/", "../search"),
        (
            "/zipkin/?serviceName=web&lookback=15m&limit=10",
            "../search?service=web&limit=10&lookback=15m",
        ),
        ("/zipkin/dependency", "../search"),
        ("/zipkin/traces/a", "../../trace/a"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 302, "{path}");
        assert_eq!(answer.header("location"), Some(location), "{path}");
    }
    for path in ["/api/v2/nothing", "/zipkin/api/v2/nothing"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(
        server.get("/api/v1/trace/a").await.status,
        404,
        "no v1 reads"
    );
    assert_eq!(
        server
            .send("TRACE", "/api/v2/services", "", b"")
            .await
            .status,
        405
    );
    // Our own API and Jaeger's answer here too: the pages need them.
    assert_eq!(server.get("/api/services").await.status, 200);
}

#[tokio::test]
async fn the_ui_port_has_zipkins_api_below_its_name_only() {
    let server = Server::with_bookinfo().await;
    let services = server.get("/zipkin/api/v2/services").await.json();
    assert!(
        services
            .as_array()
            .unwrap()
            .contains(&json!("details.default"))
    );
    let trace = server
        .get(&format!("/zipkin/api/v2/trace/{BOOKINFO_ID}"))
        .await;
    assert_eq!(trace.status, 200);
    assert_eq!(server.get("/api/v2/services").await.status, 404);
}
