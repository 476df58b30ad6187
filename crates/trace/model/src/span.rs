use std::collections::HashMap;
use std::sync::Arc;

use crate::{Attribute, SpanId, TraceId, Value};

/// One span, as OTLP defines it (`opentelemetry.proto.trace.v1.Span`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// Its id. Zipkin's shared spans and careless clients reuse ids: never a key by itself.
    pub span_id: SpanId,
    /// The parent's id; `None` on a root.
    pub parent_span_id: Option<SpanId>,
    /// The W3C `tracestate`, as it arrived.
    pub trace_state: String,
    /// OTLP's `flags`: the W3C trace flags in the low byte, "parent is remote" in bits 8 and 9.
    pub flags: u32,
    /// The operation's name.
    pub name: String,
    /// Its role in the call.
    pub kind: SpanKind,
    /// When it began, nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// When it ended, nanoseconds since the Unix epoch; may lie before the start if the clock was set.
    pub end_unix_nano: u64,
    /// Its attributes, in the order of arrival.
    pub attributes: Vec<Attribute>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Timed events.
    pub events: Vec<Event>,
    /// Events that the sender dropped.
    pub dropped_events_count: u32,
    /// Links to other spans.
    pub links: Vec<Link>,
    /// Links that the sender dropped.
    pub dropped_links_count: u32,
    /// How it ended.
    pub status: Status,
}

impl Span {
    /// The duration in nanoseconds; zero if the span ends before it starts.
    pub fn duration_nano(&self) -> u64 {
        self.end_unix_nano.saturating_sub(self.start_unix_nano)
    }

    /// The first attribute with this key.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }
}

/// The role of a span in a call. The numbers are OTLP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpanKind {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// Within one process.
    Internal = 1,
    /// The receiving side of a call.
    Server = 2,
    /// The calling side of a call.
    Client = 3,
    /// The sending side of a message.
    Producer = 4,
    /// The receiving side of a message.
    Consumer = 5,
}

impl SpanKind {
    /// All kinds, in the order of OTLP's numbers.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::Internal,
        Self::Server,
        Self::Client,
        Self::Producer,
        Self::Consumer,
    ];

    /// From OTLP's number; an unknown number is [`SpanKind::Unspecified`].
    pub const fn from_number(n: i32) -> Self {
        match n {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// Jaeger's `span.kind` tag value; empty when unspecified.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: StatusCode,
    /// The developer's message; OTLP allows one with an error only.
    pub message: String,
}

/// OTLP's status code; the numbers are OTLP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StatusCode {
    /// Not said.
    #[default]
    Unset = 0,
    /// Said to be good.
    Ok = 1,
    /// Failed.
    Error = 2,
}

impl StatusCode {
    /// From OTLP's number; an unknown number is [`StatusCode::Unset`].
    pub const fn from_number(n: i32) -> Self {
        match n {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// A timed event of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// When, nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Its name.
    pub name: String,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
}

/// A link from a span to another one, of the same or of another trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// The other side's `tracestate`.
    pub trace_state: String,
    /// OTLP's link `flags`.
    pub flags: u32,
    /// The link's attributes.
    pub attributes: Vec<Attribute>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
}

/// Who made a span: the process, pod or service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// OTLP's schema URL of the resource.
    pub schema_url: String,
}

impl Resource {
    /// A resource that says nothing but its service's name.
    pub fn of_service(name: &str) -> Self {
        Self {
            attributes: vec![Attribute::new("service.name", name)],
            ..Self::default()
        }
    }

    /// The first attribute with this key.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// `service.name`; empty when the resource has none.
    pub fn service_name(&self) -> &str {
        self.attribute("service.name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// The instrumentation that made a span: OTLP's `InstrumentationScope`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// OTLP's schema URL of the scope's spans.
    pub schema_url: String,
}

/// Spans that share a resource and a scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanGroup {
    /// Who made them.
    pub resource: Arc<Resource>,
    /// What instrumentation made them.
    pub scope: Arc<Scope>,
    /// The spans, in the order of arrival.
    pub spans: Vec<Span>,
}

/// What one request to a receiver brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Its groups, in the order of arrival.
    pub groups: Vec<SpanGroup>,
}

impl Batch {
    /// How many spans it holds.
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }

    /// Its spans by trace, the traces in the order of their first spans. Within each the order of
    /// arrival is kept, and so are the groups.
    pub fn by_trace(self) -> Vec<(TraceId, Vec<SpanGroup>)> {
        let mut by_trace: HashMap<TraceId, usize> = HashMap::new();
        let mut traces: Vec<(TraceId, Vec<SpanGroup>)> = Vec::new();
        for group in self.groups {
            let mut at_of_trace: HashMap<usize, usize> = HashMap::new();
            for span in group.spans {
                let at = *by_trace.entry(span.trace_id).or_insert_with(|| {
                    traces.push((span.trace_id, Vec::new()));
                    traces.len() - 1
                });
                let groups = &mut traces[at].1;
                let target = *at_of_trace.entry(at).or_insert_with(|| {
                    groups.push(SpanGroup {
                        resource: group.resource.clone(),
                        scope: group.scope.clone(),
                        spans: Vec::new(),
                    });
                    groups.len() - 1
                });
                groups[target].spans.push(span);
            }
        }
        traces
    }
}

fn find<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| &attribute.value)
}
