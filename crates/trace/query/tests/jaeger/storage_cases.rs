//! Jaeger's storage integration suite, asked as its clients ask: through `/api`, `/api/v3`,
//! `jaeger.api_v2` and `jaeger.api_v3`, over both engines.

#[path = "../../../store/tests/suite/jaeger_cases.rs"]
mod jaeger_cases;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_model::{Attribute, Batch, Span, SpanId, SpanKind, TraceId};
use periplus_store::{MemoryStore, SpanStore};
use serde_json::{Value as Json, json};
use tonic::Code;

use crate::grpc::{
    Client, Dependencies, FindTraces, GetTrace, GetTraceV2, Names, Nothing, Operations,
    OperationsV2, Query, ServiceAndKind, Spans, Summaries, Time, TimeRange,
};
use crate::support::{Server, embedded, group, span, with_attributes};
use jaeger_cases::{Case, cases};

const V2: &str = "jaeger.api_v2.QueryService";
const V3: &str = "jaeger.api_v3.QueryService";

fn engines() -> [(&'static str, Arc<dyn SpanStore>); 2] {
    [
        ("memory", Arc::new(MemoryStore::default())),
        ("embedded", Arc::new(embedded())),
    ]
}

/// Midnight of yesterday, nanoseconds.
fn yesterday() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_secs() / 86_400 - 1) * 86_400_000_000_000
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// RFC 3339 of a time of day of the day that begins at this midnight.
fn rfc3339(nano: u64) -> String {
    // The Unix epoch with a fraction of a second is enough for a parser: seconds as a zone would not
    // be, so the date is computed here by counting days.
    let days = nano / 86_400_000_000_000;
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let second = nano / 1_000_000_000 % 86_400;
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        month + 1,
        left + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        nano % 1_000_000_000
    )
}

fn tags(case: &Case) -> String {
    let tags: serde_json::Map<String, Json> = case
        .tags
        .iter()
        .map(|(key, text)| (key.clone(), json!(text)))
        .collect();
    escaped(&Json::Object(tags).to_string())
}

fn v1_path(case: &Case) -> String {
    let (first, last) = case.window;
    let mut path = format!(
        "/api/traces?service={}&start={}&end={}&limit=1000",
        case.service,
        first / 1_000,
        last / 1_000
    );
    for (name, value) in [
        ("minDuration", case.duration.0),
        ("maxDuration", case.duration.1),
    ] {
        if let Some(nano) = value {
            path.push_str(&format!("&{name}={nano}ns"));
        }
    }
    if let Some(operation) = &case.operation {
        path.push_str(&format!("&operation={operation}"));
    }
    if !case.tags.is_empty() {
        path.push_str(&format!("&tags={}", tags(case)));
    }
    path
}

fn v3_query(case: &Case) -> String {
    let (first, last) = case.window;
    let mut query = format!(
        "query.serviceName={}&query.startTimeMin={}&query.start_time_max={}&query.searchDepth=1000\
         &query.rawTraces=true",
        case.service,
        rfc3339(first),
        rfc3339(last)
    );
    for (name, value) in [
        ("durationMin", case.duration.0),
        ("durationMax", case.duration.1),
    ] {
        if let Some(nano) = value {
            query.push_str(&format!("&query.{name}={nano}ns"));
        }
    }
    if let Some(operation) = &case.operation {
        query.push_str(&format!("&query.operationName={operation}"));
    }
    if !case.tags.is_empty() {
        query.push_str(&format!("&query.attributes={}", tags(case)));
    }
    query
}

fn grpc_query(case: &Case) -> Query {
    let tags = case.tags.iter();
    Query {
        service_name: case.service.clone(),
        operation_name: case.operation.clone().unwrap_or_default(),
        tags: tags
            .map(|(key, text)| (key.clone(), (*text).to_owned()))
            .collect(),
        start_time_min: Time::nano(case.window.0),
        start_time_max: Time::nano(case.window.1),
        duration_min: case.duration.0.and_then(Time::nano),
        duration_max: case.duration.1.and_then(Time::nano),
        search_depth: 1_000,
        raw_traces: true,
    }
}

/// All spans with what they belong to, in an order of their own.
fn contents<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<String> {
    let mut spans: Vec<String> = batches
        .into_iter()
        .flat_map(|batch| &batch.groups)
        .flat_map(|group| {
            let with = move |span| format!("{:?} {:?} {span:?}", group.resource, group.scope);
            group.spans.iter().map(with)
        })
        .collect();
    spans.sort();
    spans
}

fn ids_of(batches: &[Batch]) -> BTreeSet<(TraceId, SpanId)> {
    let groups = batches.iter().flat_map(|batch| &batch.groups);
    let spans = groups.flat_map(|group| &group.spans);
    spans.map(|span| (span.trace_id, span.span_id)).collect()
}

#[tokio::test]
async fn every_case_is_found_through_every_api() {
    let cases = cases(yesterday());
    assert_eq!(cases.len(), 25);
    for (engine, store) in engines() {
        for batch in cases
            .iter()
            .flat_map(|case| case.expected.iter().chain(&case.decoys))
        {
            store.append(batch.clone()).await.unwrap();
        }
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        for case in &cases {
            let name = format!("{engine}: {}", case.caption);
            let expected = contents(&case.expected);
            let ids = ids_of(&case.expected);

            let v1 = server.get(&v1_path(case)).await;
            assert_eq!(v1.status, 200, "{name}: {}", v1.text());
            let found: BTreeSet<_> = (v1.json()["data"].as_array().unwrap().iter())
                .flat_map(|trace| trace["spans"].as_array().unwrap())
                .map(|span| {
                    let id = |key: &str| span[key].as_str().unwrap().to_owned();
                    (
                        id("traceID").parse().unwrap(),
                        id("spanID").parse().unwrap(),
                    )
                })
                .collect();
            assert_eq!(found, ids, "{name}: /api/traces");

            let v3 = server
                .get(&format!("/api/v3/traces?{}", v3_query(case)))
                .await;
            assert_eq!(v3.status, 200, "{name}: {}", v3.text());
            let result = v3.json()["result"].to_string();
            let decoded = periplus_wire::otlp::decode_json(result.as_bytes()).unwrap();
            assert_eq!(
                contents([&decoded.batch]),
                expected,
                "{name}: /api/v3/traces"
            );

            let path = format!("/api/v3/trace-summaries?{}", v3_query(case));
            let summaries = server.get(&path).await.json();
            let found = summaries["summaries"].as_array().unwrap().len();
            assert_eq!(found, case.expected.len(), "{name}: summaries");

            let request = || FindTraces {
                query: Some(grpc_query(case)),
            };
            let found = client
                .otlp(&format!("{V3}/FindTraces"), request())
                .await
                .unwrap();
            assert_eq!(contents(&found), expected, "{name}: api_v3");

            let found: Vec<Spans> = client
                .stream(&format!("{V2}/FindTraces"), request())
                .await
                .unwrap();
            let found: BTreeSet<_> = (found.iter().flat_map(|chunk| &chunk.spans))
                .map(|span| {
                    let trace = u128::from_be_bytes(span.trace_id.clone().try_into().unwrap());
                    let id = u64::from_be_bytes(span.span_id.clone().try_into().unwrap());
                    let trace = TraceId::from_halves((trace >> 64) as u64, trace as u64);
                    (trace, SpanId::from_u64(id))
                })
                .collect();
            assert_eq!(found, ids, "{name}: api_v2");
        }
    }
}

/// Five spans of three services, as in Jaeger's `example_trace`.
fn example() -> Vec<(&'static str, Span)> {
    let of = |id, parent, name: &str, kind| Span {
        kind,
        ..span(0x11, id, parent, name, id * 10)
    };
    vec![
        (
            "example-service-1",
            of(3, 0, "operation-1", SpanKind::Unspecified),
        ),
        (
            "example-service-1",
            of(4, 3, "operation-3", SpanKind::Server),
        ),
        (
            "example-service-1",
            of(5, 3, "operation-4", SpanKind::Client),
        ),
        (
            "example-service-2",
            of(6, 3, "operation-2", SpanKind::Unspecified),
        ),
        (
            "example-service-3",
            of(7, 3, "operation-2", SpanKind::Unspecified),
        ),
    ]
}

async fn add_example(store: &Arc<dyn SpanStore>) {
    for (service, span) in example() {
        let groups = vec![group(service, vec![span])];
        store.append(Batch { groups }).await.unwrap();
    }
}

#[tokio::test]
async fn lists_are_exact() {
    for (engine, store) in engines() {
        add_example(&store).await;
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let services = [
            "example-service-1",
            "example-service-2",
            "example-service-3",
        ];
        assert_eq!(
            server.get("/api/services").await.json()["data"],
            json!(services),
            "{engine}"
        );
        let answer = server.get("/api/v3/services").await;
        assert_eq!(answer.json(), json!({ "services": services }), "{engine}");
        for version in [V2, V3] {
            let names: Names = client
                .once(&format!("{version}/GetServices"), Nothing {})
                .await
                .unwrap();
            assert_eq!(names.names, services, "{engine} {version}");
        }

        let path = "/api/operations?service=example-service-1";
        assert_eq!(
            server.get(path).await.json()["data"],
            json!([
                {"name": "operation-1", "spanKind": ""},
                {"name": "operation-3", "spanKind": "server"},
                {"name": "operation-4", "spanKind": "client"},
            ]),
            "{engine}"
        );
        let path = "/api/v3/operations?service=example-service-1";
        assert_eq!(
            server.get(path).await.json(),
            json!({"operations": [
                {"name": "operation-1", "spanKind": "internal"},
                {"name": "operation-3", "spanKind": "server"},
                {"name": "operation-4", "spanKind": "client"},
            ]}),
            "{engine}"
        );
        let only_server = server.get(&format!("{path}&span_kind=server")).await;
        assert_eq!(
            only_server.json()["operations"],
            json!([{"name": "operation-3", "spanKind": "server"}])
        );
        let ask = |kind: &str| ServiceAndKind {
            service: "example-service-1".to_owned(),
            span_kind: kind.to_owned(),
        };
        let pair = |name: &str, kind: &str| ServiceAndKind {
            service: name.to_owned(),
            span_kind: kind.to_owned(),
        };
        let v3: Operations = client
            .once(&format!("{V3}/GetOperations"), ask("client"))
            .await
            .unwrap();
        assert_eq!(v3.operations, [pair("operation-4", "client")]);
        let v2: OperationsV2 = client
            .once(&format!("{V2}/GetOperations"), ask(""))
            .await
            .unwrap();
        assert_eq!(v2.names, ["operation-1", "operation-3", "operation-4"]);
        assert_eq!(
            v2.operations,
            [
                pair("operation-1", ""),
                pair("operation-3", "server"),
                pair("operation-4", "client")
            ]
        );
    }
}

#[tokio::test]
async fn a_trace_comes_back_whole_or_is_not_found() {
    for (engine, store) in engines() {
        add_example(&store).await;
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let ask = |id: &str| GetTrace {
            trace_id: id.to_owned(),
            raw_traces: true,
        };
        let found = client
            .otlp(&format!("{V3}/GetTrace"), ask("11"))
            .await
            .unwrap();
        let expected: Vec<Batch> = example()
            .into_iter()
            .map(|(service, span)| Batch {
                groups: vec![group(service, vec![span])],
            })
            .collect();
        assert_eq!(contents(&found), contents(&expected), "{engine}");
        let answer = server.get("/api/v3/traces/11?rawTraces=1").await.json();
        let decoded =
            periplus_wire::otlp::decode_json(answer["result"].to_string().as_bytes()).unwrap();
        assert_eq!(contents([&decoded.batch]), contents(&expected), "{engine}");

        let id = |low: u64| [[0; 8], low.to_be_bytes()].concat();
        let ask_v2 = |trace_id: Vec<u8>| GetTraceV2 {
            trace_id,
            raw_traces: false,
        };
        let get = format!("{V2}/GetTrace");
        let found: Vec<Spans> = client.stream(&get, ask_v2(id(0x11))).await.unwrap();
        let spans: Vec<_> = found.iter().flat_map(|chunk| &chunk.spans).collect();
        assert_eq!(spans.len(), 5, "{engine}");
        let of = |name: &str| spans.iter().find(|s| s.operation_name == name).unwrap();
        let server_side = of("operation-3");
        assert_eq!(
            server_side.process.as_ref().unwrap().service_name,
            "example-service-1"
        );
        assert_eq!(server_side.references[0].span_id, 3_u64.to_be_bytes());
        assert_eq!(server_side.references[0].trace_id, id(0x11));
        assert!(of("operation-1").references.is_empty());
        // Eight bytes are as good as sixteen.
        let short = ask_v2(0x11_u64.to_be_bytes().to_vec());
        let found: Vec<Spans> = client.stream(&get, short).await.unwrap();
        assert_eq!(found.len(), 1);

        let missing = client
            .stream::<_, Spans>(&get, ask_v2(id(1)))
            .await
            .unwrap_err();
        assert_eq!(
            (missing.code(), missing.message()),
            (Code::NotFound, "trace not found")
        );
        for nothing in [vec![], id(0)] {
            let error = client
                .stream::<_, Spans>(&get, ask_v2(nothing))
                .await
                .unwrap_err();
            assert_eq!(
                (error.code(), error.message()),
                (
                    Code::InvalidArgument,
                    "uninitialized TraceID is not allowed"
                )
            );
        }
        let missing = client
            .otlp(&format!("{V3}/GetTrace"), ask("1"))
            .await
            .unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        let malformed = client
            .otlp(&format!("{V3}/GetTrace"), ask("xyz"))
            .await
            .unwrap_err();
        assert_eq!(malformed.code(), Code::Unknown);
        let missing = server.get("/api/v3/traces/1").await;
        assert_eq!(missing.status, 404);
        assert_eq!(
            missing.text(),
            "{\"error\":{\"httpCode\":404,\"message\":\"No traces found\"}}\n"
        );
    }
}

#[tokio::test]
async fn a_large_trace_loses_nothing() {
    const SPANS: u64 = 10_008;
    for (engine, store) in engines() {
        let spans = (1..=SPANS).map(|id| span(0x22, id, id / 2, "large", id));
        let groups = vec![group("large-service", spans.collect())];
        store.append(Batch { groups }).await.unwrap();
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let ask = GetTrace {
            trace_id: "22".to_owned(),
            raw_traces: false,
        };
        let found = client.otlp(&format!("{V3}/GetTrace"), ask).await.unwrap();
        assert_eq!(ids_of(&found).len() as u64, SPANS, "{engine}");
        assert!(found.iter().all(|batch| batch.span_count() <= 10));
        let ask = GetTraceV2 {
            trace_id: 0x22_u64.to_be_bytes().to_vec(),
            raw_traces: false,
        };
        let found: Vec<Spans> = client.stream(&format!("{V2}/GetTrace"), ask).await.unwrap();
        assert!(found.iter().all(|chunk| chunk.spans.len() <= 10));
        let ids: BTreeSet<_> = (found.iter().flat_map(|chunk| &chunk.spans))
            .map(|span| span.span_id.clone())
            .collect();
        assert_eq!(ids.len() as u64, SPANS, "{engine}");
        let answer = server.get("/api/traces/22").await.json();
        let spans = answer["data"][0]["spans"].as_array().unwrap().len();
        assert_eq!(spans as u64, SPANS, "{engine}");
    }
}

#[tokio::test]
async fn spans_that_share_an_id_are_all_there() {
    for (engine, store) in engines() {
        // Every twentieth repeats the id of the one before, with another name.
        let spans = (1..=200_u64).map(|i| {
            let id = if i % 20 == 0 { i - 1 } else { i };
            span(0x33, id, 0, &format!("operation-{i}"), i)
        });
        let groups = vec![group("doubles", spans.collect())];
        store.append(Batch { groups }).await.unwrap();
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        for raw_traces in [true, false] {
            let ask = GetTrace {
                trace_id: "33".to_owned(),
                raw_traces,
            };
            let found = client.otlp(&format!("{V3}/GetTrace"), ask).await.unwrap();
            let spans: usize = found.iter().map(Batch::span_count).sum();
            assert_eq!(spans, 200, "{engine}");
            assert_eq!(ids_of(&found).len(), 190, "{engine}");
        }
    }
}

#[tokio::test]
async fn summaries_sum_a_trace_up() {
    for (engine, store) in engines() {
        add_example(&store).await;
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let start = crate::support::BOOKINFO_START_US * 1_000;
        let request = FindTraces {
            query: Some(Query {
                service_name: "example-service-1".to_owned(),
                start_time_min: Time::nano(start),
                start_time_max: Time::nano(start + 1_000_000_000),
                ..Query::default()
            }),
        };
        let found: Vec<Summaries> = client
            .stream(&format!("{V3}/FindTraceSummaries"), request)
            .await
            .unwrap();
        let [summaries] = &found[..] else {
            panic!("{engine}: {found:?}");
        };
        let [summary] = &summaries.summaries[..] else {
            panic!("{engine}: {found:?}");
        };
        assert_eq!(summary.trace_id, format!("{:032x}", 0x11));
        assert_eq!(summary.root_service_name, "example-service-1");
        assert_eq!(summary.root_operation_name, "operation-1");
        assert_eq!(summary.span_count, 5);
        assert_eq!(summary.min_start, start + 30_000);
        assert_eq!(summary.max_end, start + 70_000 + 1_000_000);
        let services: Vec<_> = (summary.services.iter())
            .map(|service| (service.name.as_str(), service.span_count))
            .collect();
        assert_eq!(
            services,
            [
                ("example-service-1", 3),
                ("example-service-2", 1),
                ("example-service-3", 1)
            ]
        );
        let path = format!(
            "/api/v3/trace-summaries?query.service_name=example-service-1\
             &query.start_time_min={}&query.start_time_max={}",
            rfc3339(start),
            rfc3339(start + 1_000_000_000)
        );
        assert_eq!(
            server.get(&path).await.json(),
            json!({"summaries": [{
                "traceId": format!("{:032x}", 0x11),
                "rootServiceName": "example-service-1",
                "rootOperationName": "operation-1",
                "minStartTimeUnixNano": (start + 30_000).to_string(),
                "maxEndTimeUnixNano": (start + 1_070_000).to_string(),
                "spanCount": 5,
                "services": [
                    {"name": "example-service-1", "spanCount": 3},
                    {"name": "example-service-2", "spanCount": 1},
                    {"name": "example-service-3", "spanCount": 1},
                ],
            }]}),
            "{engine}"
        );
    }
}

#[tokio::test]
async fn a_service_need_not_be_named() {
    for (engine, store) in engines() {
        for (trace, service) in [(0x41, "cross-service-a"), (0x42, "cross-service-b")] {
            let marked = with_attributes(
                span(trace, 1, 0, "op", 0),
                vec![Attribute::new("rfc0013.cross.service", "yes")],
            );
            let plain = span(trace + 0x10, 1, 0, "op", 0);
            let groups = vec![group(service, vec![marked, plain])];
            store.append(Batch { groups }).await.unwrap();
        }
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let start = crate::support::BOOKINFO_START_US * 1_000;
        let query = Query {
            tags: [("rfc0013.cross.service".to_owned(), "yes".to_owned())].into(),
            start_time_min: Time::nano(start),
            start_time_max: Time::nano(start),
            ..Query::default()
        };
        let request = || FindTraces {
            query: Some(query.clone()),
        };
        let found = client
            .otlp(&format!("{V3}/FindTraces"), request())
            .await
            .unwrap();
        let one = SpanId::from_u64(1);
        let both = [0x41, 0x42].map(|trace| (TraceId::from_halves(0, trace), one));
        assert_eq!(ids_of(&found), BTreeSet::from(both), "{engine}");
        let found: Vec<Spans> = client
            .stream(&format!("{V2}/FindTraces"), request())
            .await
            .unwrap();
        assert_eq!(found.len(), 2, "{engine}: a message for each trace");
    }
}

#[tokio::test]
async fn calls_between_services_are_counted() {
    for (engine, store) in engines() {
        // hello calls world once, world calls hello three times.
        for (trace, caller, callee) in [
            (0x51, "hello", "world"),
            (0x52, "world", "hello"),
            (0x53, "world", "hello"),
            (0x54, "world", "hello"),
        ] {
            let groups = vec![
                group(caller, vec![span(trace, 1, 0, "call", 0)]),
                group(callee, vec![span(trace, 2, 1, "called", 1)]),
            ];
            store.append(Batch { groups }).await.unwrap();
        }
        let server = Server::over(store).await;
        let mut client = Client::connect(server.grpc).await;
        let start = crate::support::BOOKINFO_START_US * 1_000;
        for version in [V2, V3] {
            let range = TimeRange {
                start_time: Time::nano(start),
                end_time: Time::nano(start + 300_000_000_000),
            };
            let method = format!("{version}/GetDependencies");
            let found: Dependencies = client.once(&method, range.clone()).await.unwrap();
            let links: Vec<_> = (found.dependencies.iter())
                .map(|link| (link.parent.as_str(), link.child.as_str(), link.call_count))
                .collect();
            assert_eq!(
                links,
                [("hello", "world", 1), ("world", "hello", 3)],
                "{engine}"
            );
            for (start_time, end_time) in [
                (range.start_time.clone(), None),
                (None, range.end_time.clone()),
                (range.end_time.clone(), range.start_time.clone()),
            ] {
                let range = TimeRange {
                    start_time,
                    end_time,
                };
                let error = client
                    .once::<_, Dependencies>(&method, range)
                    .await
                    .unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{engine}");
            }
        }
    }
}
