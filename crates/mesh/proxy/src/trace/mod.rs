//! Tracing: whether a request is traced, what the next hop is told, and the spans that are made.

mod context;
mod decide;
mod spans;
mod tags;

pub(crate) use context::TraceContext;
pub(crate) use decide::RequestId;
pub(crate) use spans::{Attempt, Finished, Scratch};

use std::rc::Rc;

use periplus_model::SpanKind;
use periplus_model::propagation::ZipkinMode;
use periplus_model::propagation::request_id::Sampling;

use crate::export::Exporter;
use crate::http1::name::Name;
use crate::snapshot::{CustomTagValue, Direction, Tracing, TracingProvider};

/// The tracing of a connection manager, compiled.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// The kind of the request's span.
    kind: SpanKind,
    /// Requests leave this workload: decorator headers go the other way round.
    pub(crate) egress: bool,
    /// Each attempt has a span of its own.
    spawns: bool,
    sampling: Sampling,
    format: Format,
    longest_path: usize,
    custom_tags: Vec<Tag>,
    exporter: Rc<Exporter>,
}

/// The context format of a provider.
#[derive(Clone, Copy, Debug)]
enum Format {
    B3 { mode: ZipkinMode, with_w3c: bool },
    W3c,
}

/// A custom tag, compiled.
#[derive(Debug)]
struct Tag {
    name: String,
    value: TagValue,
}

#[derive(Debug)]
enum TagValue {
    Literal(String),
    Header {
        name: String,
        default: Option<String>,
    },
}

impl Tracer {
    pub(crate) fn new(tracing: &Tracing, direction: Direction, exporter: Rc<Exporter>) -> Self {
        let egress = direction == Direction::Outbound;
        let format = match &tracing.provider {
            TracingProvider::Zipkin {
                trace_id_128bit,
                shared_span_context,
                with_w3c,
                ..
            } => Format::B3 {
                mode: ZipkinMode {
                    shared_span_context: *shared_span_context,
                    trace_id_128bit: *trace_id_128bit,
                },
                with_w3c: *with_w3c,
            },
            TracingProvider::OpenTelemetry { .. } => Format::W3c,
        };
        Self {
            kind: if egress && !tracing.spawn_upstream_span {
                SpanKind::Client
            } else {
                SpanKind::Server
            },
            egress,
            spawns: tracing.spawn_upstream_span,
            sampling: Sampling {
                client: tracing.client_sampling,
                random: tracing.random_sampling,
                overall: tracing.overall_sampling,
            },
            format,
            longest_path: tracing.max_path_tag_length,
            custom_tags: tracing
                .custom_tags
                .iter()
                .map(|tag| Tag {
                    name: tag.name.clone(),
                    value: match &tag.value {
                        CustomTagValue::Literal(text) => TagValue::Literal(text.clone()),
                        CustomTagValue::RequestHeader { name, default } => TagValue::Header {
                            name: name.to_ascii_lowercase(),
                            default: default.clone(),
                        },
                    },
                })
                .collect(),
            exporter,
        }
    }

    /// Where the spans go.
    pub(crate) fn exporter(&self) -> &Rc<Exporter> {
        &self.exporter
    }

    /// Whether each attempt has a span of its own.
    pub(crate) fn spawns(&self) -> bool {
        self.spawns
    }

    /// The name of a span that nothing else names: Zipkin's is the host, OpenTelemetry's says the
    /// direction.
    fn default_name<'a>(&self, host: &'a str, scratch: &'a mut String) -> &'a str {
        match self.format {
            Format::B3 { .. } => host,
            Format::W3c if self.egress => {
                scratch.clear();
                scratch.push_str("egress ");
                scratch.push_str(host);
                scratch
            }
            Format::W3c => "ingress",
        }
    }
}

/// The headers that B3 in several headers replaces; the parent only if there is one.
const B3_MULTI: [Name; 3] = [Name::XB3TraceId, Name::XB3SpanId, Name::XB3Sampled];
