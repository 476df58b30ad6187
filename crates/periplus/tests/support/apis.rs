//! A trace as every API shows it: Jaeger's over HTTP and gRPC (v1, `api_v2`, `api_v3`), Zipkin's and our
//! own.

use std::collections::BTreeSet;

use periplus_model::{Batch, SpanKind, StatusCode, TraceId};
use periplus_wire::otlp;
use serde_json::Value as Json;

use crate::harness::Serve;
use grpc::{Client, GetTrace, GetTraceV2, SpanV2, Spans};

#[allow(
    clippy::allow_attributes,
    dead_code,
    reason = "shared with the tests of the query services, which use all of it"
)]
#[path = "../../../trace/query/tests/jaeger/grpc.rs"]
mod grpc;

/// One trace, as each API shows it.
pub(crate) struct Everywhere {
    pub(crate) jaeger: Json,
    pub(crate) zipkin: Json,
    pub(crate) own: Json,
    v2: Vec<SpanV2>,
    v3_http: Batch,
    pub(crate) v3_grpc: Batch,
}

/// What all APIs must say of a span, as far as all of their formats have it: names in lower case, as
/// Zipkin has them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    id: String,
    parent: Option<String>,
    service: String,
    name: String,
    kind: String,
    failed: bool,
}

impl Everywhere {
    /// Reads the trace, which must be there with so many spans, over each API.
    pub(crate) fn read(serve: &Serve, id: &str, spans: usize) -> Self {
        let jaeger = get(serve, "UI", &format!("/api/traces/{id}"));
        let v3 = get(serve, "UI", &format!("/api/v3/traces/{id}"));
        let last = spans - 1;
        let own = format!("/api/periplus/v1/traces/{id}/spans?rows=0-{last}");
        let mut everywhere = Self {
            jaeger: jaeger["data"][0].clone(),
            zipkin: get(serve, "Zipkin", &format!("/api/v2/trace/{id}")),
            own: get(serve, "UI", &own)["spans"].clone(),
            v2: Vec::new(),
            v3_http: otlp::decode_json(v3["result"].to_string().as_bytes())
                .unwrap()
                .batch,
            v3_grpc: Batch::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut client = Client::connect(serve.addresses["Jaeger query, gRPC"]).await;
            let request = GetTraceV2 {
                trace_id: id.parse::<TraceId>().unwrap().to_bytes().to_vec(),
                raw_traces: false,
            };
            let method = "jaeger.api_v2.QueryService/GetTrace";
            let chunks: Vec<Spans> = client.stream(method, request).await.unwrap();
            everywhere.v2 = chunks.into_iter().flat_map(|chunk| chunk.spans).collect();
            let request = GetTrace {
                trace_id: id.to_owned(),
                raw_traces: false,
            };
            let method = "jaeger.api_v3.QueryService/GetTrace";
            let chunks = client.otlp(method, request).await.unwrap();
            let groups = chunks.into_iter().flat_map(|chunk| chunk.groups);
            everywhere.v3_grpc.groups.extend(groups);
        });
        everywhere
    }

    /// All of them show the same spans.
    pub(crate) fn agree(&self, what: &str) {
        let jaeger = rows(self.jaeger["spans"].as_array().unwrap().iter().map(|span| {
            let process = &self.jaeger["processes"][text(&span["processID"])];
            let tag = |key: &str| {
                let mut tags = span["tags"].as_array().unwrap().iter();
                tags.find(|tag| tag["key"] == key).map(|tag| &tag["value"])
            };
            let mut references = span["references"].as_array().unwrap().iter();
            let parent = references.find(|reference| reference["refType"] == "CHILD_OF");
            Row {
                id: text(&span["spanID"]).to_owned(),
                parent: parent.map(|parent| text(&parent["spanID"]).to_owned()),
                service: text(&process["serviceName"]).to_owned(),
                name: text(&span["operationName"]).to_owned(),
                kind: tag("span.kind").map_or("", text).to_owned(),
                failed: tag("error").is_some(),
            }
        }));

        let zipkin = rows(self.zipkin.as_array().unwrap().iter().map(|span| Row {
            id: text(&span["id"]).to_owned(),
            parent: span["parentId"].as_str().map(str::to_owned),
            service: text(&span["localEndpoint"]["serviceName"]).to_owned(),
            name: text(&span["name"]).to_owned(),
            kind: span["kind"].as_str().unwrap_or("").to_lowercase(),
            failed: span["tags"].get("error").is_some(),
        }));
        assert_eq!(zipkin, jaeger, "{what}: Zipkin's API");

        let own = rows(self.own.as_array().unwrap().iter().map(|span| Row {
            id: text(&span["spanId"]).to_owned(),
            parent: span["parentSpanId"].as_str().map(str::to_owned),
            service: text(&span["service"]).to_owned(),
            name: text(&span["operation"]).to_owned(),
            kind: word(text(&span["kind"])).to_owned(),
            failed: span["status"]["code"] == "error",
        }));
        assert_eq!(own, jaeger, "{what}: our own API");
        assert_eq!(own.len(), self.own.as_array().unwrap().len(), "{what}");

        let v2 = rows(self.v2.iter().map(|span| {
            let tag = |key: &str| span.tags.iter().find(|tag| tag.key == key);
            let mut references = span.references.iter();
            // CHILD_OF is zero.
            let parent = references.find(|reference| reference.ref_type == 0);
            Row {
                id: hex(&span.span_id),
                parent: parent.map(|parent| hex(&parent.span_id)),
                service: span.process.as_ref().unwrap().service_name.clone(),
                name: span.operation_name.clone(),
                kind: tag("span.kind").map_or("", |tag| &tag.v_str).to_owned(),
                failed: tag("error").is_some(),
            }
        }));
        assert_eq!(v2, jaeger, "{what}: api_v2");

        assert_eq!(self.v3_http, self.v3_grpc, "{what}: api_v3 over HTTP");
        let v3 = rows(self.v3_grpc.groups.iter().flat_map(|group| {
            group.spans.iter().map(|span| Row {
                id: span.span_id.to_string(),
                parent: span.parent_span_id.map(|parent| parent.to_string()),
                service: group.resource.service_name().to_owned(),
                name: span.name.clone(),
                kind: match span.kind {
                    SpanKind::Unspecified => "",
                    kind => kind.as_str(),
                }
                .to_owned(),
                failed: span.status.code == StatusCode::Error,
            })
        }));
        assert_eq!(v3, jaeger, "{what}: api_v3");
    }
}

fn rows(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let rows = rows.map(|row| Row {
        service: row.service.to_lowercase(),
        name: row.name.to_lowercase(),
        ..row
    });
    let rows: BTreeSet<_> = rows.collect();
    rows.into_iter().collect()
}

/// A kind that nobody has said.
fn word(kind: &str) -> &str {
    if kind == "unspecified" { "" } else { kind }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer's body, which must be JSON.
pub(crate) fn get(serve: &Serve, port: &str, path: &str) -> Json {
    let answer = serve.request(port, &format!("GET {path}"), "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error} in {answer}"))
}
