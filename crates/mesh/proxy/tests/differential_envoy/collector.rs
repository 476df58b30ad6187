//! A collector that keeps spans in one shape, whichever way they came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use periplus_model::Value as ModelValue;
use periplus_wire::otlp;
use serde_json::Value;
use tokio::net::TcpListener;

/// A span with everything that two proxies can be compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenSpan {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    /// Everything else: tags, endpoints, annotations, resource, status.
    pub(crate) facts: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    spans: Arc<Mutex<Spans>>,
}

/// All spans, and where those of a case and of a trace are among them.
#[derive(Debug, Default)]
struct Spans {
    all: Vec<SeenSpan>,
    by_case: HashMap<String, Vec<usize>>,
    by_trace: HashMap<String, Vec<usize>>,
}

impl Spans {
    fn push(&mut self, span: SeenSpan) {
        let at = self.all.len();
        // The URL carries the name of its case, which may have dots itself, and one behind it.
        let url = span.facts.get("tag http.url");
        let rest = url.and_then(|url| url.split_once("case="));
        if let Some((case, _)) = rest.and_then(|(_, rest)| rest.rsplit_once('.')) {
            self.by_case.entry(case.to_owned()).or_default().push(at);
        }
        let trace = self.by_trace.entry(span.trace_id.clone());
        trace.or_default().push(at);
        self.all.push(span);
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let spans = Arc::<Mutex<Spans>>::default();
        let router = Router::new()
            .route("/api/v2/spans", post(zipkin))
            .route("/v1/traces", post(traces))
            .with_state(spans.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, spans }
    }

    /// The spans of a case: those whose URL carries its name.
    pub(crate) fn of_case(&self, case: &str) -> Vec<SeenSpan> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let own = spans
            .by_case
            .get(case)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let traces: BTreeSet<&String> = own.iter().map(|at| &spans.all[*at].trace_id).collect();
        // The span of an attempt has no URL in some forms: it belongs to the trace of one that has.
        let others = traces.iter().flat_map(|trace| &spans.by_trace[*trace]);
        let others = others.filter(|at| !spans.all[**at].facts.contains_key("tag http.url"));
        let found: BTreeSet<usize> = own.iter().chain(others).copied().collect();
        let found = found.into_iter().map(|at| spans.all[at].clone());
        let mut found: Vec<SeenSpan> = found.collect();
        // Reports may overtake each other: attempts are told apart by their number.
        let number = |span: &SeenSpan| span.facts.get("tag retry.count").cloned();
        found.sort_by(|a, b| (&b.kind, &a.name, number(a)).cmp(&(&a.kind, &b.name, number(b))));
        found
    }
}

async fn zipkin(State(spans): State<Arc<Mutex<Spans>>>, body: Bytes) -> StatusCode {
    let Ok(Value::Array(list)) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut all = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for span in list {
        let mut seen = SeenSpan {
            kind: text(&span["kind"]),
            // Envoy leaves an empty name out.
            name: span["name"].as_str().unwrap_or_default().to_owned(),
            trace_id: text(&span["traceId"]),
            id: text(&span["id"]),
            parent: span["parentId"].as_str().unwrap_or("none").to_owned(),
            facts: BTreeMap::new(),
        };
        for (key, value) in span.as_object().into_iter().flatten() {
            match key.as_str() {
                "kind" | "name" | "traceId" | "id" | "parentId" => {}
                "timestamp" | "duration" => {
                    let is_positive = value.as_u64().is_some_and(|number| number > 0);
                    seen.facts
                        .insert(key.clone(), format!("a positive number: {is_positive}"));
                }
                "tags" => {
                    for (tag, value) in value.as_object().into_iter().flatten() {
                        seen.facts.insert(format!("tag {tag}"), text(value));
                    }
                }
                "annotations" => {
                    for annotation in value.as_array().into_iter().flatten() {
                        let name = text(&annotation["value"]);
                        seen.facts
                            .insert(format!("annotation {name}"), "is there".to_owned());
                    }
                }
                "localEndpoint" | "remoteEndpoint" => {
                    for (part, value) in value.as_object().into_iter().flatten() {
                        seen.facts.insert(format!("{key} {part}"), text(value));
                    }
                }
                _ => {
                    seen.facts.insert(key.clone(), text(value));
                }
            }
        }
        all.push(seen);
    }
    StatusCode::ACCEPTED
}

async fn traces(State(spans): State<Arc<Mutex<Spans>>>, body: Bytes) -> StatusCode {
    let Ok(decoded) = otlp::decode_protobuf(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let text = |value: &ModelValue| format!("{value:?}");
    let mut all = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for group in &decoded.batch.groups {
        let scope = &group.scope;
        for span in &group.spans {
            let mut facts = BTreeMap::new();
            for attribute in &group.resource.attributes {
                facts.insert(
                    format!("resource {}", attribute.key),
                    text(&attribute.value),
                );
            }
            facts.insert(
                "scope".to_owned(),
                format!("{} {}", scope.name, scope.version),
            );
            for attribute in &span.attributes {
                facts.insert(format!("tag {}", attribute.key), text(&attribute.value));
            }
            facts.insert("status".to_owned(), format!("{:?}", span.status));
            facts.insert("flags".to_owned(), format!("{:#x}", span.flags));
            facts.insert("trace_state".to_owned(), span.trace_state.clone());
            for event in &span.events {
                facts.insert(format!("annotation {}", event.name), "is there".to_owned());
            }
            let ordered = span.start_unix_nano > 0 && span.start_unix_nano <= span.end_unix_nano;
            facts.insert("times are in order".to_owned(), ordered.to_string());
            let parent = span.parent_span_id.map(|id| id.to_string());
            all.push(SeenSpan {
                kind: span.kind.as_str().to_uppercase(),
                name: span.name.clone(),
                trace_id: span.trace_id.to_string(),
                id: span.span_id.to_string(),
                parent: parent.unwrap_or_else(|| "none".to_owned()),
                facts,
            });
        }
    }
    StatusCode::OK
}
