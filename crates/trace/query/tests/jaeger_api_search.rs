//! `GET /api/traces`, `/api/services`, operations and dependencies: what a search finds, and the
//! shape of the lists.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use periplus_model::{Attribute, SpanKind, Status, StatusCode, Value};
use serde_json::json;
use support::{Answer, BOOKINFO_ID, BOOKINFO_START_US, Server, span, with_attributes};

/// The names of the first spans of the traces found, in the order of the answer.
fn found(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trace| {
            trace["spans"][0]["operationName"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

const WINDOW: &str = "start=1795332550000000&end=1795332570000000";

#[tokio::test]
async fn lists_are_enveloped_sorted_and_counted() {
    let server = Server::with_bookinfo().await;
    let services = server.get("/api/services").await;
    assert_eq!(services.header("content-type"), Some("application/json"));
    assert_eq!(
        services.text(),
        concat!(
            r#"{"data":["details.default","istio-ingressgateway.istio-system","productpage.default","#,
            r#""ratings.default","reviews.default"],"total":5,"limit":0,"offset":0,"errors":null}"#
        )
    );
    let operations = server
        .get("/api/operations?service=productpage.default&spanKind=client")
        .await;
    assert_eq!(
        operations.json(),
        json!({
            "data": [
                {"name": "details.default.svc.cluster.local:9080/*", "spanKind": "client"},
                {"name": "reviews.default.svc.cluster.local:9080/*", "spanKind": "client"},
            ],
            "total": 2, "limit": 0, "offset": 0, "errors": null,
        })
    );
    let all = server
        .get("/api/operations?service=productpage.default")
        .await;
    assert_eq!(all.json()["total"], 3);
    let unknown_kind = server
        .get("/api/operations?service=productpage.default&spanKind=x")
        .await;
    assert_eq!(unknown_kind.json()["data"], json!([]));
    let names = server
        .get("/api/services/productpage.default/operations")
        .await;
    assert_eq!(
        names.json()["data"],
        json!([
            "details.default.svc.cluster.local:9080/*",
            "productpage.default.svc.cluster.local:9080/productpage",
            "reviews.default.svc.cluster.local:9080/*",
        ])
    );
    assert_eq!(names.json()["total"], 3);
}

#[tokio::test]
async fn an_empty_store_answers_with_empty_lists() {
    let server = Server::start().await;
    for path in [
        "/api/services",
        "/api/services/none/operations",
        "/api/operations?service=none",
        "/api/traces?service=none",
        "/api/dependencies",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.text(),
            r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#,
            "{path}"
        );
    }
}

#[tokio::test]
async fn service_names_may_hold_anything() {
    let server = Server::start().await;
    for (id, service) in [(1, "a/b"), (2, "a b"), (3, "a+c"), (4, "100%"), (5, "ä%2F")] {
        server
            .add_spans(service, vec![span(id, 1, 0, service, 0)])
            .await;
    }
    for (escaped, service) in [
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("a%20b", "a b"),
        ("a+b", "a b"),
        ("a%2Bc", "a+c"),
        ("a+c", "a+c"),
        ("100%25", "100%"),
        ("%C3%A4%252F", "ä%2F"),
        ("a%252Fb", "a/b"),
    ] {
        let answer = server
            .get(&format!("/api/services/{escaped}/operations"))
            .await;
        assert_eq!(answer.json()["data"], json!([service]), "{escaped}");
    }
    let answer = server
        .get(&format!("/api/traces?service=a%2Fb&{WINDOW}"))
        .await;
    assert_eq!(found(&answer), ["a/b"]);
}

#[tokio::test]
async fn every_condition_narrows_the_search() {
    let server = Server::start().await;
    let mut slow = with_attributes(
        span(1, 1, 0, "slow", 0),
        vec![
            Attribute::new("http.status_code", 500_i64),
            Attribute::new("retried", true),
            Attribute::new("ratio", 72.5),
            Attribute::new("a:b", "c:d"),
        ],
    );
    slow.kind = SpanKind::Server;
    slow.end_unix_nano = slow.start_unix_nano + 250_000_000;
    slow.status = Status {
        code: StatusCode::Error,
        message: "boom".to_owned(),
    };
    let quick = with_attributes(
        span(2, 1, 0, "quick", 5_000_000),
        vec![Attribute::new("http.status_code", "200")],
    );
    let tagged = with_attributes(
        span(3, 1, 0, "tagged", 1_000_000),
        vec![Attribute::new("error", "true")],
    );
    server.add_spans("shop", vec![slow, quick, tagged]).await;
    server
        .add_spans("other", vec![span(4, 1, 0, "elsewhere", 0)])
        .await;

    let start = BOOKINFO_START_US;
    for (query, names) in [
        ("".to_owned(), vec!["quick", "tagged", "slow"]),
        ("&operation=quick".to_owned(), vec!["quick"]),
        ("&operation=qui".to_owned(), vec![]),
        (
            "&minDuration=1ms".to_owned(),
            vec!["quick", "tagged", "slow"],
        ),
        ("&minDuration=1.000001ms".to_owned(), vec!["slow"]),
        ("&maxDuration=1ms".to_owned(), vec!["quick", "tagged"]),
        ("&maxDuration=999us".to_owned(), vec![]),
        (
            "&minDuration=0.25s&maxDuration=250ms".to_owned(),
            vec!["slow"],
        ),
        ("&limit=1".to_owned(), vec!["quick"]),
        ("&limit=0".to_owned(), vec!["quick", "tagged", "slow"]),
        ("&tag=http.status_code:500".to_owned(), vec!["slow"]),
        ("&tag=http.status_code:200".to_owned(), vec!["quick"]),
        ("&tag=retried:true&tag=ratio:72.5".to_owned(), vec!["slow"]),
        ("&tags=%7B%22a:b%22%3A%22c:d%22%7D".to_owned(), vec!["slow"]),
        (
            "&tag=http.status_code:500&tag=retried:false".to_owned(),
            vec![],
        ),
        (
            "&tags=%7B%22error%22%3A%22true%22%7D".to_owned(),
            vec!["tagged", "slow"],
        ),
        ("&tag=error:false".to_owned(), vec!["quick"]),
        ("&tag=span.kind:server".to_owned(), vec!["slow"]),
        ("&tag=otel.status_code:ERROR".to_owned(), vec!["slow"]),
        ("&tag=otel.status_description:boom".to_owned(), vec!["slow"]),
        (
            "&tag=resource.service.name:shop&limit=2".to_owned(),
            vec!["quick", "tagged"],
        ),
        // Later ones win.
        (
            "&tag=retried:false&tags=%7B%22retried%22%3A%22true%22%7D".to_owned(),
            vec!["slow"],
        ),
        // Ignored: what UIs send besides.
        (
            "&lookback=1h&uiEmbed=v0&view=x&maxDuration=&operation=".to_owned(),
            vec!["quick", "tagged", "slow"],
        ),
    ] {
        let answer = server
            .get(&format!("/api/traces?service=shop&{WINDOW}{query}"))
            .await;
        assert_eq!(found(&answer), names, "{query}");
    }
    for (range, names) in [
        (format!("start={start}&end={start}"), vec!["slow"]),
        (
            format!("start={}&end={}", start + 1, start + 1_000_000),
            vec!["tagged"],
        ),
        (
            format!("start={}&end={}", start + 1, start + 999_999),
            vec![],
        ),
    ] {
        let answer = server
            .get(&format!("/api/traces?service=shop&{range}"))
            .await;
        assert_eq!(found(&answer), names, "{range}");
    }
}

#[tokio::test]
async fn without_a_range_the_last_two_days_are_searched() {
    let server = Server::start().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let hour = 3_600_000_000_000;
    let at = |trace: u64, name: &str, ago: u64| {
        let mut span = span(trace, 1, 0, name, 0);
        span.start_unix_nano = now - ago;
        span.end_unix_nano = span.start_unix_nano + 1;
        span
    };
    let spans = vec![at(1, "recent", 47 * hour), at(2, "old", 49 * hour)];
    server.add_spans("shop", spans).await;
    assert_eq!(
        found(&server.get("/api/traces?service=shop").await),
        ["recent"]
    );
}

#[tokio::test]
async fn a_matching_trace_is_returned_whole() {
    let server = Server::with_bookinfo().await;
    let answer = server
        .get(&format!("/api/traces?service=ratings.default&{WINDOW}"))
        .await;
    let answer = answer.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    assert_eq!(answer["data"][0]["traceID"], BOOKINFO_ID);
    assert_eq!(answer["data"][0]["spans"].as_array().unwrap().len(), 9);
    assert_eq!(answer["data"][0]["processes"].as_object().unwrap().len(), 5);
    assert_eq!(answer["total"], 0);
}

#[tokio::test]
async fn trace_ids_are_fetched_and_missing_ones_named() {
    let server = Server::with_bookinfo().await;
    server
        .add_spans("shop", vec![span(0xab, 1, 0, "short", 0)])
        .await;
    let upper = BOOKINFO_ID.to_uppercase();
    let answer = server
        .get(&format!(
            "/api/traces?traceID={upper}&traceID=AB&traceID=12&traceID=10000000000000001&start=1&end=2"
        ))
        .await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let ids: Vec<_> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trace| trace["traceID"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [BOOKINFO_ID, "00000000000000ab"]);
    assert_eq!(
        answer["errors"],
        json!([
            {"msg": "trace not found", "traceID": "0000000000000012"},
            {"msg": "trace not found", "traceID": "00000000000000010000000000000001"},
        ])
    );
}

#[tokio::test]
async fn dependencies_are_counted_within_their_window() {
    let server = Server::with_bookinfo().await;
    let end_ms = BOOKINFO_START_US / 1_000 + 1_000;
    let links = |answer: &Answer| -> Vec<String> {
        answer.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| {
                format!(
                    "{} -> {} {}",
                    link["parent"].as_str().unwrap(),
                    link["child"].as_str().unwrap(),
                    link["callCount"]
                )
            })
            .collect()
    };
    let all = server
        .get(&format!("/api/dependencies?endTs={end_ms}"))
        .await;
    assert_eq!(
        links(&all),
        [
            "istio-ingressgateway.istio-system -> productpage.default 1",
            "productpage.default -> details.default 1",
            "productpage.default -> reviews.default 1",
            "reviews.default -> ratings.default 1",
        ]
    );
    let one = server
        .get(&format!(
            "/api/dependencies?endTs={end_ms}&lookback=60000&service=ratings.default"
        ))
        .await;
    assert_eq!(links(&one), ["reviews.default -> ratings.default 1"]);
    let before = server
        .get(&format!("/api/dependencies?endTs={end_ms}&lookback=10"))
        .await;
    assert!(links(&before).is_empty());
}

#[tokio::test]
async fn spans_without_a_service_are_found_by_the_name_they_are_shown_with() {
    let server = Server::start().await;
    let mut group = support::group("", vec![span(1, 1, 0, "nameless", 0)]);
    group.resource = std::sync::Arc::new(periplus_model::Resource {
        attributes: vec![Attribute::new("host.name", Value::from("h"))],
        ..Default::default()
    });
    server
        .add(periplus_model::Batch {
            groups: vec![group],
        })
        .await;
    let answer = server
        .get(&format!(
            "/api/traces?service=missing-service-name&{WINDOW}"
        ))
        .await;
    assert_eq!(found(&answer), ["nameless"]);
    assert_eq!(
        answer.json()["data"][0]["processes"]["p1"]["serviceName"],
        "missing-service-name"
    );
}
