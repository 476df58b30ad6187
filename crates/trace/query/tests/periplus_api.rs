//! Our own API, as `docs/periplus-api.md` describes it.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::io::Read;
use std::time::Instant;

use periplus_model::{Attribute, Event, SpanKind, Value};
use serde_json::json;
use support::{Answer, BOOKINFO_ID, BOOKINFO_START_US, Server, span, with_attributes};

const BASE: &str = "/api/periplus/v1";
const WINDOW: &str = "start=1795332550000000&end=1795332570000000";

async fn get(server: &Server, path: &str) -> Answer {
    server.get(&format!("{BASE}{path}")).await
}

fn pretty(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::to_string_pretty(&answer.json()).unwrap()
}

#[tokio::test]
async fn boot_tells_the_version_and_the_store() {
    let server = Server::with_bookinfo().await;
    let boot = get(&server, "/boot").await.json();
    assert_eq!(boot["version"], "0.0.0-test");
    let store = &boot["store"];
    assert_eq!(store["engine"], "memory");
    assert_eq!(
        (&store["traces"], &store["spans"], &store["acceptedSpans"]),
        (&json!(1), &json!(9), &json!(9))
    );
    assert_eq!(
        (&store["evictedTraces"], &store["evictedSpans"]),
        (&json!(0), &json!(0))
    );
    assert!(store["bytes"].as_u64().unwrap() > 0);
    assert_eq!(store["maxBytes"], 268_435_456);
}

#[tokio::test]
async fn a_search_lists_what_the_page_shows() {
    let server = Server::with_bookinfo().await;
    let answer = get(&server, &format!("/search?{WINDOW}")).await;
    insta::assert_snapshot!(pretty(&answer));
}

#[tokio::test]
async fn a_search_is_newest_first_bounded_and_says_when_there_is_more() {
    let server = Server::start().await;
    for id in 1..=25 {
        let service = if id % 2 == 0 { "even" } else { "odd" };
        server
            .add_spans(service, vec![span(id, 1, 0, &id.to_string(), id * 1_000)])
            .await;
    }
    for (query, count, first, truncated) in [
        ("", 20, "25", true),
        ("&limit=25", 25, "25", false),
        ("&limit=24", 24, "25", true),
        ("&service=even", 12, "24", false),
        ("&service=even&limit=3", 3, "24", true),
        ("&tag=error:false&limit=1", 1, "25", true),
    ] {
        let results = get(&server, &format!("/search?{WINDOW}{query}"))
            .await
            .json();
        let traces = results["traces"].as_array().unwrap();
        assert_eq!(traces.len(), count, "{query}");
        assert_eq!(traces[0]["root"]["operation"], first, "{query}");
        assert_eq!(results["truncated"], truncated, "{query}");
    }
}

#[tokio::test]
async fn a_search_looks_back_an_hour_or_as_far_as_it_is_told() {
    let server = Server::start().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    for (trace, minutes) in [(1, 30), (2, 90), (3, 60 * 24 * 2 + 60)] {
        let mut span = span(trace, 1, 0, "op", 0);
        span.start_unix_nano = now - minutes * 60_000_000_000;
        span.end_unix_nano = span.start_unix_nano + 1;
        server.add_spans("shop", vec![span]).await;
    }
    for (query, count) in [
        ("", 1),
        ("lookback=1h", 1),
        ("lookback=2h", 2),
        ("lookback=2d", 2),
        ("lookback=3d", 3),
        ("lookback=custom", 1),
    ] {
        let results = get(&server, &format!("/search?{query}")).await.json();
        assert_eq!(
            results["traces"].as_array().unwrap().len(),
            count,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_query_line_goes_with_the_other_parameters() {
    let server = Server::start().await;
    for trace in 1..=6_u64 {
        let root = span(trace, 1, 0, "in", trace * 10);
        let code = Attribute::new("http.status_code", (198 + trace * 100) as i64);
        let call = with_attributes(span(trace, 2, 1, "call", trace * 10), vec![code]);
        server.add_spans("gateway", vec![root]).await;
        server.add_spans("shop", vec![call]).await;
    }
    for (query, expected) in [
        ("q=http.status_code%3E%3D500", vec![6, 5, 4]),
        ("q=http.status_code%3E%3D500&service=shop", vec![6, 5, 4]),
        // One span is not of both services.
        ("q=http.status_code%3E%3D500&service=gateway", vec![]),
        ("q=%7Bhttp.status_code%3E%3D500%7D&service=gateway", vec![]),
        (
            "q=child%7Bhttp.status_code%3D298%7D&service=gateway",
            vec![1],
        ),
        ("q=NOT+%7Bhttp.status_code%3E298%7D", vec![1]),
        (
            "q=trace:rootService%3Dgateway+service:shop&limit=2",
            vec![6, 5],
        ),
        ("q=", vec![6, 5, 4, 3, 2, 1]),
    ] {
        let results = get(&server, &format!("/search?{WINDOW}&{query}"))
            .await
            .json();
        let traces = results["traces"].as_array().unwrap();
        let ids: Vec<u64> = (traces.iter())
            .map(|trace| u64::from_str_radix(trace["traceId"].as_str().unwrap(), 16).unwrap())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
    for (query, error) in [
        (
            "q=service%3D",
            "parameter 'q': expected a value, in quotes if it has spaces or braces, at character 9",
        ),
        (
            "q=name%3D~%22%5B%22",
            "parameter 'q': '[' is no regular expression: unclosed character class, at character 7",
        ),
        (
            "after=x",
            "parameter 'after': this is no cursor of this server: leave it out to begin with the newest trace",
        ),
    ] {
        let answer = get(&server, &format!("/search?{WINDOW}&{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["error"], error, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let server = Server::start().await;
    for trace in 1..=7_u64 {
        let span = span(trace, 1, 0, &trace.to_string(), trace / 2);
        server.add_spans("shop", vec![span]).await;
    }
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&server, &format!("/search?{WINDOW}&limit=3{after}"))
            .await
            .json();
        assert_eq!(page.get("partial"), None);
        for trace in page["traces"].as_array().unwrap() {
            names.push(trace["root"]["operation"].as_str().unwrap().to_owned());
        }
        assert_eq!(page["truncated"], page.get("next").is_some());
        match page.get("next") {
            Some(next) => after = format!("&after={}", next.as_str().unwrap()),
            None => break,
        }
    }
    assert_eq!(names, ["7", "6", "5", "4", "3", "2", "1"]);
}

#[tokio::test]
async fn a_trace_without_its_root_shows_the_earliest_span() {
    let server = Server::start().await;
    server
        .add_spans(
            "shop",
            vec![span(1, 3, 2, "later", 10), span(1, 2, 1, "earlier", 0)],
        )
        .await;
    let results = get(&server, &format!("/search?{WINDOW}")).await.json();
    assert_eq!(
        results["traces"][0]["root"],
        json!({"service": "shop", "operation": "earlier", "missing": true})
    );
    assert_eq!(results["traces"][0].get("statusCode"), None);
    let skeleton = get(&server, "/traces/1").await.json();
    assert_eq!(skeleton["missing"], json!(["0000000000000001"]));
    assert_eq!(skeleton["rows"]["parent"], json!([-1, 0]));
    assert_eq!(skeleton["rows"]["flags"][0].as_u64().unwrap() & 2, 2);
}

#[tokio::test]
async fn the_skeleton_holds_the_waterfall_in_columns() {
    let server = Server::with_bookinfo().await;
    let answer = get(&server, &format!("/traces/{BOOKINFO_ID}")).await;
    insta::assert_snapshot!(pretty(&answer));
}

#[tokio::test]
async fn the_critical_path_covers_the_trace_without_a_gap() {
    let server = Server::with_bookinfo().await;
    let skeleton = get(&server, &format!("/traces/{BOOKINFO_ID}")).await.json();
    let mut at = 0;
    for segment in skeleton["critical"].as_array().unwrap() {
        assert_eq!(segment[1], at);
        at = segment[2].as_u64().unwrap();
    }
    assert_eq!(skeleton["durationUs"], at);
}

#[tokio::test]
async fn details_hold_everything_about_a_span() {
    let server = Server::start().await;
    let mut full = with_attributes(
        span(1, 2, 1, "full", 100),
        vec![
            Attribute::new("text", "t"),
            Attribute::new("int", 5_i64),
            Attribute::new("big", i64::MAX),
            Attribute::new("double", 0.5),
            Attribute::new("infinite", f64::NEG_INFINITY),
            Attribute::new("bytes", Value::Bytes(vec![1, 2, 3])),
            Attribute::new("list", Value::Array(vec![true.into(), Value::Empty])),
            Attribute::new("map", Value::Map(vec![Attribute::new("k", "v")])),
        ],
    );
    full.kind = SpanKind::Client;
    full.events = vec![Event {
        time_unix_nano: full.start_unix_nano + 1_000,
        name: "sent".to_owned(),
        attributes: vec![Attribute::new("bytes", 12_i64)],
        ..Event::default()
    }];
    server
        .add_spans("shop", vec![span(1, 1, 0, "root", 0), full])
        .await;
    let answer = get(&server, "/traces/1/spans?rows=1,0").await;
    insta::assert_snapshot!(pretty(&answer));
}

#[tokio::test]
async fn the_skeleton_tells_when_events_were() {
    let server = Server::start().await;
    let mut full = span(1, 2, 1, "full", 100);
    let start = full.start_unix_nano;
    let event = |name: &str, after: u64| Event {
        time_unix_nano: start + after,
        name: name.to_owned(),
        ..Event::default()
    };
    full.events = vec![event("sent", 2_000), event("cr", 3_000)];
    server
        .add_spans("shop", vec![span(1, 1, 0, "root", 0), full])
        .await;
    let skeleton = get(&server, "/traces/1").await.json();
    let begin = skeleton["rows"]["start"][1].as_u64().unwrap();
    assert_eq!(skeleton["events"], serde_json::json!([[1, begin + 2]]));
}

#[tokio::test]
async fn details_refuse_rows_that_have_moved() {
    let server = Server::with_bookinfo().await;
    let path = format!("/traces/{BOOKINFO_ID}");
    let revision = get(&server, &path).await.json()["revision"]
        .as_str()
        .unwrap()
        .to_owned();
    let details = format!("{path}/spans?rows=0&revision={revision}");
    assert_eq!(get(&server, &details).await.status, 200);
    let mut late = span(1, 0xfff, 0, "late", 0);
    late.trace_id = BOOKINFO_ID.parse().unwrap();
    server.add_spans("shop", vec![late]).await;
    let answer = get(&server, &details).await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("load it again")
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let server = Server::with_bookinfo().await;
    for (path, status, part) in [
        ("/traces/xyz".to_owned(), 400, "not a trace id"),
        ("/traces/12".to_owned(), 404, "no trace 0000"),
        (
            format!("/traces/{BOOKINFO_ID}/spans"),
            400,
            "'rows' must be",
        ),
        (
            format!("/traces/{BOOKINFO_ID}/spans?rows=9"),
            400,
            "has 9 rows",
        ),
        (
            format!("/traces/{BOOKINFO_ID}/spans?rows=0-200"),
            400,
            "more than 200",
        ),
        ("/search?limit=x".to_owned(), 400, "parsing \"x\""),
        ("/search?lookback=x".to_owned(), 400, "'lookback'"),
        ("/nothing".to_owned(), 404, "no such endpoint"),
        (
            format!("/search?service={}", "x".repeat(17_000)),
            414,
            "17008 bytes",
        ),
    ] {
        let answer = get(&server, &path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{path}: {error}");
    }
    let answer = server.send("POST", &format!("{BASE}/boot"), "", b"").await;
    assert_eq!(answer.status, 405);
    assert!(answer.json()["error"].as_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn answers_are_cached_by_tag_and_compressed_on_request() {
    let server = Server::with_bookinfo().await;
    let path = format!("{BASE}/traces/{BOOKINFO_ID}");
    let plain = server.get(&path).await;
    let tag = plain.header("etag").unwrap().to_owned();
    assert_eq!(plain.header("content-encoding"), None);
    assert!(
        plain
            .header("server-timing")
            .unwrap()
            .contains("store;dur=")
    );

    let gzip = server
        .get_with(&path, "accept-encoding: gzip, br\r\n")
        .await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(gzip.header("vary"), Some("accept-encoding"));
    assert_ne!(gzip.header("etag"), Some(tag.as_str()));
    assert!(gzip.body.len() < plain.body.len());
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(gzip.body.as_slice())
        .read_to_end(&mut unzipped)
        .unwrap();
    assert_eq!(unzipped, plain.body);

    let unchanged = server
        .get_with(&path, &format!("if-none-match: \"x\", W/{tag}\r\n"))
        .await;
    assert_eq!(unchanged.status, 304);
    assert_eq!(unchanged.body, b"");
    assert_eq!(unchanged.header("etag"), Some(tag.as_str()));

    let mut late = span(1, 0xfff, 0, "late", 0);
    late.trace_id = BOOKINFO_ID.parse().unwrap();
    server.add_spans("shop", vec![late]).await;
    let changed = server
        .get_with(&path, &format!("if-none-match: {tag}\r\n"))
        .await;
    assert_eq!(changed.status, 200);
}

#[tokio::test]
async fn ten_thousand_spans_are_a_small_and_quick_answer() {
    let server = Server::start().await;
    let spans: Vec<_> = (1..=10_000_u64)
        .map(|id| span(1, id, id / 4, &format!("op {}", id % 40), id))
        .collect();
    server.add_spans("shop", spans).await;
    let start = Instant::now();
    let answer = get(&server, "/traces/1").await;
    let took = start.elapsed();
    let skeleton = answer.json();
    for column in [
        "id",
        "depth",
        "parent",
        "service",
        "operation",
        "kind",
        "start",
        "duration",
        "self",
        "flags",
    ] {
        assert_eq!(
            skeleton["rows"][column].as_array().unwrap().len(),
            10_000,
            "{column}"
        );
    }
    assert_eq!(skeleton["operations"].as_array().unwrap().len(), 40);
    assert!(answer.body.len() < 600_000, "{} bytes", answer.body.len());
    // Generous: unoptimised code on a machine that does other things too.
    assert!(took.as_secs_f64() < 5.0, "{took:?}");
    assert_eq!(skeleton["t0"], BOOKINFO_START_US + 1);
}

#[tokio::test]
async fn rates_errors_and_durations_are_those_of_the_spans() {
    let server = Server::with_bookinfo().await;
    let all = get(&server, &format!("/red?{WINDOW}&step=1m")).await.json();
    assert_eq!(all["stepUs"], 60_000_000);
    let calls = |answer: &serde_json::Value| -> u64 {
        let series = answer["series"].as_array().unwrap().iter();
        series.map(|series| series["calls"].as_u64().unwrap()).sum()
    };
    assert_eq!(calls(&all), 9);
    let servers = get(&server, &format!("/red?{WINDOW}&kind=server"))
        .await
        .json();
    let clients = get(&server, &format!("/red?{WINDOW}&kind=client"))
        .await
        .json();
    assert_eq!(calls(&servers) + calls(&clients), 9);
    let one = &servers["series"][0];
    let path = format!("/red?{WINDOW}&service={}", one["service"].as_str().unwrap());
    let of_service = get(&server, &path).await.json();
    let names: Vec<_> = of_service["series"].as_array().unwrap().iter().collect();
    assert!(
        !names.is_empty()
            && names
                .iter()
                .all(|series| series["service"] == one["service"])
    );
    let point = &one["points"][0];
    assert_eq!(point["startUs"].as_u64().unwrap() % 10_000_000, 0);
    let quantiles = ["p50Us", "p90Us", "p95Us", "p99Us"].map(|name| point[name].as_u64().unwrap());
    assert!(quantiles.is_sorted() && quantiles[0] > 0, "{quantiles:?}");
    let none = get(&server, "/red?start=1&end=2").await.json();
    assert_eq!(none["series"], json!([]));
}

#[tokio::test]
async fn the_graph_of_bookinfo_is_drawn() {
    let server = Server::with_bookinfo().await;
    let graph = get(&server, &format!("/dependencies?{WINDOW}"))
        .await
        .json();
    let edges = graph["edges"].as_array().unwrap();
    let called = edges.iter().any(|edge| {
        edge["caller"] == "productpage.default"
            && edge["called"] == "details.default"
            && edge["calls"] == 1
            && edge["errors"] == 0
    });
    assert!(called, "{graph}");
    // Seconds before the trace, in the same minute.
    let minute = BOOKINFO_START_US - BOOKINFO_START_US % 60_000_000;
    let early = format!("/dependencies?start={minute}&end={}", minute + 1);
    assert_eq!(get(&server, &early).await.json()["edges"], graph["edges"]);
    let never = get(&server, "/dependencies?start=0&end=1").await.json();
    assert_eq!(never["edges"], json!([]));
}
