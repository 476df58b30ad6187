//! `/api/v3`: parameters, shapes, errors, and the structured filter.

use periplus_model::{Attribute, Event, Status, StatusCode};
use serde_json::{Value as Json, json};

use crate::support::{Answer, BOOKINFO_ID, Server, span, with_attributes};

/// A minute around the Bookinfo trace.
const WINDOW: &str =
    "query.startTimeMin=2026-11-22T07:29:00Z&query.startTimeMax=2026-11-22T07:30:00Z";

fn error(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    assert_eq!(json["error"]["httpCode"], answer.status, "{json}");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let message = json["error"]["message"].as_str().unwrap();
    (answer.status, message.to_owned())
}

#[tokio::test]
async fn a_trace_is_otlp_with_numbers_for_enums() {
    let server = Server::with_bookinfo().await;
    let answer = server.get(&format!("/api/v3/traces/{BOOKINFO_ID}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    let spans: Vec<&Json> = (json["result"]["resourceSpans"].as_array().unwrap().iter())
        .flat_map(|of| of["scopeSpans"].as_array().unwrap())
        .flat_map(|of| of["spans"].as_array().unwrap())
        .collect();
    assert_eq!(spans.len(), 9);
    for span in spans {
        assert_eq!(span["traceId"], BOOKINFO_ID);
        assert!(matches!(span["kind"].as_u64(), Some(2 | 3)), "{span}");
        assert!(span["startTimeUnixNano"].is_string(), "{span}");
    }
}

#[tokio::test]
async fn parameters_have_two_spellings() {
    let server = Server::with_bookinfo().await;
    for query in [
        WINDOW.to_owned(),
        format!("{WINDOW}&query.serviceName=details.default"),
        format!("{WINDOW}&query.service_name=details.default&query.num_traces=1"),
        format!("{WINDOW}&query.service_name=details.default&query.search_depth=0"),
        format!("{WINDOW}&query.attributes=%7B%22http.status_code%22:%22200%22%7D"),
        format!("{WINDOW}&query.durationMin=1us&query.duration_max=1h&query.raw_traces=true"),
        // A `+` that nobody escaped.
        "query.start_time_min=2026-11-22T08:29:00.123456789+01:00\
         &query.start_time_max=2026-11-22T08:30:00+01:00"
            .to_owned(),
    ] {
        let answer = server.get(&format!("/api/v3/traces?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    }
    for query in ["query.serviceName=nobody", "query.operationName=nothing"] {
        let path = format!("/api/v3/traces?{WINDOW}&{query}");
        let nothing = server.get(&path).await;
        assert_eq!(
            error(&nothing),
            (404, "No traces found".to_owned()),
            "{query}"
        );
        let path = format!("/api/v3/trace-summaries?{WINDOW}&{query}");
        assert_eq!(server.get(&path).await.json(), json!({ "summaries": [] }));
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let server = Server::with_bookinfo().await;
    let time = |text: &str, rest: &str, element: &str| {
        format!(
            "parsing time \"{text}\" as \"2006-01-02T15:04:05.999999999Z07:00\": \
             cannot parse \"{rest}\" as \"{element}\""
        )
    };
    for (path, status, message) in [
        (
            "traces".to_owned(),
            400,
            "query.startTimeMin and query.startTimeMax are required".to_owned(),
        ),
        (
            "trace-summaries?query.startTimeMin=2026-11-22T07:29:00Z".to_owned(),
            400,
            "query.startTimeMin and query.startTimeMax are required".to_owned(),
        ),
        (
            "traces?query.start_time_min=yesterday".to_owned(),
            400,
            format!(
                "malformed parameter query.start_time_min: {}",
                time("yesterday", "yesterday", "2006")
            ),
        ),
        (
            "traces?query.startTimeMin=2026-11-22T07:29:00Z&query.startTimeMax=2026-11-21T07:29:00Z"
                .to_owned(),
            400,
            "query.startTimeMin must be before query.startTimeMax".to_owned(),
        ),
        (
            format!("traces?{WINDOW}&query.searchDepth=many"),
            400,
            "malformed parameter query.searchDepth: \
             strconv.ParseInt: parsing \"many\": invalid syntax"
                .to_owned(),
        ),
        (
            format!("traces?{WINDOW}&query.durationMin=5"),
            400,
            "malformed parameter query.durationMin: time: missing unit in duration \"5\""
                .to_owned(),
        ),
        (
            format!("traces?{WINDOW}&query.attributes=%5B%5D"),
            400,
            "malformed parameter query.attributes: \
             json: cannot unmarshal array into Go value of type map[string]string"
                .to_owned(),
        ),
        (
            "traces/xyz".to_owned(),
            400,
            "malformed parameter trace_id: strconv.ParseUint: parsing \"xyz\": invalid syntax"
                .to_owned(),
        ),
        (
            "traces/1?startTime=x".to_owned(),
            400,
            format!("malformed parameter startTime: {}", time("x", "x", "2006")),
        ),
        (
            "traces/1?raw_traces=perhaps".to_owned(),
            400,
            "malformed parameter raw_traces: \
             strconv.ParseBool: parsing \"perhaps\": invalid syntax"
                .to_owned(),
        ),
        ("traces/1".to_owned(), 404, "No traces found".to_owned()),
        (
            "dependencies".to_owned(),
            404,
            "no such endpoint: /api/v3/dependencies".to_owned(),
        ),
    ] {
        let answer = server.get(&format!("/api/v3/{path}")).await;
        assert_eq!(error(&answer), (status, message), "{path}");
    }
    let answer = server.send("POST", "/api/v3/services", "", b"").await;
    assert_eq!(error(&answer).0, 405);
}

#[tokio::test]
async fn the_structured_filter_finds_spans() {
    let server = Server::start().await;
    let mut failed = with_attributes(
        span(1, 1, 0, "get", 0),
        vec![Attribute::new("http.status_code", 503_i64)],
    );
    failed.status = Status {
        code: StatusCode::Error,
        ..Status::default()
    };
    failed.end_unix_nano = failed.start_unix_nano + 2_000_000_000;
    failed.events = vec![Event {
        name: "exception".to_owned(),
        attributes: vec![Attribute::new("exception.type", "Timeout")],
        ..Event::default()
    }];
    let good = with_attributes(
        span(2, 1, 0, "put", 1),
        vec![Attribute::new("http.status_code", 200_i64)],
    );
    let mut plain = span(3, 1, 0, "post", 2);
    plain.events = [("exception", "exception.type"), ("retry", "reason")]
        .map(|(name, key)| Event {
            name: name.to_owned(),
            attributes: vec![Attribute::new(key, "IO")],
            ..Event::default()
        })
        .to_vec();
    server.add_spans("shop", vec![failed, good, plain]).await;

    let attribute = |key: &str, level: &str| json!({"attr": {"key": key, "level": level}});
    let field = |name: &str, level: &str| json!({"field": {"name": name, "level": level}});
    let scalar = |value: &str, kind: &str| json!({"scalar": {"value": value, "type": kind}});
    let call = |op: &str, args: Json| json!({"call": {"op": op, "args": args}});
    let status = || attribute("http.status_code", "span");
    let slow = call("gt", json!([field("duration", "span"), scalar("1s", "")]));
    let on_one_event = |name: &str| {
        let name = json!([field("name", "event"), scalar(name, "")]);
        let kind = json!([attribute("exception.type", "event"), scalar("IO", "")]);
        let both = json!([call("eq", name), call("eq", kind)]);
        json!([{"nested": {"level": "event"}}, call("and", both)])
    };
    for (op, args, expected) in [
        ("eq", json!([status(), scalar("503", "")]), vec![1]),
        ("gte", json!([status(), scalar("200", "int")]), vec![1, 2]),
        ("ne", json!([status(), scalar("503", "int")]), vec![2]),
        ("exists", json!([status()]), vec![1, 2]),
        ("not", json!([call("exists", json!([status()]))]), vec![3]),
        (
            "eq",
            json!([field("status", "span"), scalar("error", "")]),
            vec![1],
        ),
        (
            "regex",
            json!([field("name", "span"), scalar("p[uo]", "")]),
            vec![2, 3],
        ),
        (
            "in",
            json!([field("name", "span"), {"list": {"values": ["get", "post"]}}]),
            vec![1, 3],
        ),
        (
            "not_in",
            json!([status(), {"list": {"values": ["503"]}}]),
            vec![2],
        ),
        (
            "and",
            json!([
                slow,
                call(
                    "eq",
                    json!([field("service", "resource"), scalar("shop", "")])
                )
            ]),
            vec![1],
        ),
        (
            "some",
            json!([
                {"nested": {"level": "event"}},
                call("eq", json!([attribute("exception.type", "event"), scalar("Timeout", "")])),
            ]),
            vec![1],
        ),
        ("some", on_one_event("exception"), vec![3]),
        // Each holds on an event of the same span, both on none.
        ("some", on_one_event("retry"), vec![]),
    ] {
        let filter = json!({ "op": op, "args": args }).to_string();
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v3/trace-summaries?{WINDOW}&query.filter={filter}");
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{op} {args}: {}", answer.text());
        let mut found: Vec<u64> = (answer.json()["summaries"].as_array().unwrap().iter())
            .map(|summary| u64::from_str_radix(summary["traceId"].as_str().unwrap(), 16).unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{op} {args}");
    }

    for (filter, status, message) in [
        (
            r#"{"op":"fulltext","args":[]}"#,
            501,
            "query.filter: operator 'fulltext' is not supported by this store",
        ),
        (
            r#"{"op":"eq","args":[{"attr":{"key":"a"}},{"attr":{"key":"b"}}]}"#,
            501,
            "query.filter: 'eq' of two references is not supported by this store",
        ),
        (
            r#"{"op":"eq"}"#,
            400,
            "malformed parameter query.filter: 'eq' takes two operands, not 0 operands",
        ),
    ] {
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v3/traces?{WINDOW}&query.filter={filter}");
        let answer = server.get(&path).await;
        assert_eq!(error(&answer), (status, message.to_owned()));
        let path = format!("/api/v3/traces?{WINDOW}&query.serviceName=s&query.filter={filter}");
        assert_eq!(server.get(&path).await.status, 400, "one or the other");
    }
    let broken = server
        .get(&format!("/api/v3/traces?{WINDOW}&query.filter=%7B"))
        .await;
    let (status, message) = error(&broken);
    assert_eq!(status, 400);
    assert!(
        message.starts_with("malformed parameter query.filter: "),
        "{message}"
    );
}
