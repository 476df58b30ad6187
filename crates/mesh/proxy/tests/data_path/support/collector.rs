//! Collectors that remember what was reported to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message;

use super::origin::{Origin, Received};
use super::wait_for;

/// A span as a collector got it, from either format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestSpan {
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) shared: bool,
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) flags: u32,
    pub(crate) trace_state: String,
    pub(crate) error_status: bool,
    pub(crate) raw: String,
}

impl TestSpan {
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }
}

/// A collector of Zipkin JSON or of OTLP protobuf.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    pub(crate) origin: Origin,
    spans: Arc<Mutex<Vec<TestSpan>>>,
}

impl Collector {
    /// Takes Zipkin v2 JSON and answers 202, as Zipkin does.
    pub(crate) fn zipkin() -> Self {
        Self::answering("202 Accepted", zipkin_spans)
    }

    /// Takes OTLP/HTTP protobuf and answers 200.
    pub(crate) fn otlp() -> Self {
        Self::answering("200 OK", otlp_spans)
    }

    pub(crate) fn answering(
        status: &str,
        decode: impl Fn(&Received) -> Vec<TestSpan> + Send + Sync + 'static,
    ) -> Self {
        let spans = Arc::<Mutex<Vec<TestSpan>>>::default();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes();
        let into = spans.clone();
        let origin = Origin::new(move |request| {
            into.lock().expect("lock").extend(decode(request));
            Some(answer.clone())
        });
        Self { origin, spans }
    }

    pub(crate) fn spans(&self) -> Vec<TestSpan> {
        self.spans.lock().expect("lock").clone()
    }

    /// The first spans, once there are so many.
    pub(crate) fn wait(&self, count: usize) -> Vec<TestSpan> {
        wait_for("spans at the collector", || {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        })
    }

    /// The only span.
    pub(crate) fn one(&self) -> TestSpan {
        let mut spans = self.wait(1);
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

/// The spans of a Zipkin report.
pub(crate) fn zipkin_spans(request: &Received) -> Vec<TestSpan> {
    let spans: Vec<serde_json::Value> =
        serde_json::from_slice(&request.body).expect("Zipkin JSON is a list");
    spans
        .iter()
        .map(|span| {
            let text = |key: &str| span[key].as_str().map(str::to_owned);
            let start = span["timestamp"].as_u64().expect("a timestamp");
            TestSpan {
                trace_id: text("traceId").expect("a trace id"),
                id: text("id").expect("an id"),
                parent: text("parentId"),
                kind: text("kind").expect("a kind"),
                name: text("name").unwrap_or_default(),
                shared: span["shared"].as_bool().unwrap_or(false),
                start_us: start,
                end_us: start + span["duration"].as_u64().expect("a duration"),
                tags: span["tags"]
                    .as_object()
                    .expect("tags")
                    .iter()
                    .map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned()))
                    .collect(),
                raw: span.to_string(),
                ..TestSpan::default()
            }
        })
        .collect()
}

/// The spans of an OTLP report.
pub(crate) fn otlp_spans(request: &Received) -> Vec<TestSpan> {
    let request = otlp::Request::decode(&request.body[..]).expect("OTLP protobuf");
    let mut spans = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            spans.extend(scope.spans.iter().map(otlp::Span::to_test));
        }
    }
    spans
}

mod otlp {
    use super::TestSpan;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(crate) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(crate) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(crate) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(crate) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(crate) key: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct AnyValue {
        #[prost(string, tag = "1")]
        pub(crate) text: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Status {
        #[prost(int32, tag = "3")]
        pub(crate) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) span_id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(crate) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) parent: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(crate) name: String,
        #[prost(int32, tag = "6")]
        pub(crate) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(crate) start: u64,
        #[prost(fixed64, tag = "8")]
        pub(crate) end: u64,
        #[prost(message, repeated, tag = "9")]
        pub(crate) attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub(crate) status: Option<Status>,
        #[prost(fixed32, tag = "16")]
        pub(crate) flags: u32,
    }

    impl Span {
        pub(crate) fn to_test(&self) -> TestSpan {
            TestSpan {
                trace_id: hex(&self.trace_id),
                id: hex(&self.span_id),
                parent: (!self.parent.is_empty()).then(|| hex(&self.parent)),
                kind: match self.kind {
                    2 => "SERVER",
                    3 => "CLIENT",
                    _ => "?",
                }
                .to_owned(),
                name: self.name.clone(),
                start_us: self.start / 1000,
                end_us: self.end / 1000,
                tags: self
                    .attributes
                    .iter()
                    .map(|tag| {
                        let value = tag.value.clone().expect("a value");
                        (tag.key.clone(), value.text)
                    })
                    .collect(),
                flags: self.flags,
                trace_state: self.trace_state.clone(),
                error_status: self.status.as_ref().is_some_and(|status| status.code == 2),
                ..TestSpan::default()
            }
        }
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
