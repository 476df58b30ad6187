//! Tracing: whether a request is traced, what the next hop is told, and the spans that are made.

mod attempt;
mod context;
mod decide;
mod details;
pub(crate) mod errand;
mod grpc;
mod spans;
mod tags;

pub(crate) use attempt::{Attempt, TlsOutcome};
pub(crate) use context::TraceContext;
pub(crate) use decide::RequestId;
pub(crate) use details::{Details, Measured, Occupied, Waited, endpoint_tags, route_tags};
pub(crate) use spans::{Finished, Scratch, cluster_tags};
pub(crate) use tags::text;

use std::rc::Rc;
use std::sync::Arc;

use periplus_model::SpanKind;
use periplus_model::propagation::ZipkinMode;
use periplus_model::propagation::request_id::Sampling;
use periplus_wire::export::FixedTags;

use crate::export::{Exporter, Reported};
use crate::http1::name::Name;
use crate::snapshot::{
    CustomTag, CustomTagValue, Direction, Sampler, TokenBucket, Tracing, TracingProvider,
};
use crate::telemetry::log::Template;
use crate::worker::Worker;

/// The tracing of a connection manager, compiled.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// The kind of the request's span.
    kind: SpanKind,
    /// Requests leave this workload: decorator headers go the other way round.
    pub(crate) egress: bool,
    /// They come to it.
    ingress: bool,
    /// Spans tell more than Envoy's do.
    details: bool,
    /// Each attempt has a span of its own.
    spawns: bool,
    sampling: Sampling,
    format: Format,
    longest_path: usize,
    /// The tags that are the same on every span of a request, and on every span of an attempt.
    request_tags: FixedTags,
    attempt_tags: FixedTags,
    /// Those that a request nearly always has.
    usual_tags: Option<FixedTags>,
    /// No custom tag replaces those of the cluster.
    fixes_cluster_tags: bool,
    /// The other custom tags.
    custom_tags: Vec<Tag>,
    /// Some of them is a request header.
    has_asking_tags: bool,
    /// Some of them is a format string.
    has_formats: bool,
    /// Some route says something else.
    pub(crate) varies: bool,
    /// How many traces may begin here.
    limit: Option<Arc<TokenBucket>>,
    exporter: Rc<Exporter>,
}

/// The context format of a provider.
#[derive(Clone, Copy, Debug)]
enum Format {
    B3 {
        mode: ZipkinMode,
        with_w3c: bool,
    },
    W3c {
        with_b3: bool,
        sampler: Option<Sampler>,
    },
}

/// A custom tag whose value varies, or that replaces one that does.
#[derive(Debug)]
struct Tag {
    name: String,
    /// There may be a tag of this name already.
    replaces: bool,
    value: TagValue,
}

#[derive(Debug)]
enum TagValue {
    Literal(String),
    Header {
        name: String,
        default: Option<String>,
    },
    Format(Template),
    Metadata {
        filter: String,
        path: Vec<String>,
        default: Option<String>,
    },
}

impl Tag {
    fn that_vary(custom: &[CustomTag]) -> Vec<Self> {
        let vary = |tag: &&CustomTag| match tag.value {
            CustomTagValue::Literal(_) => VARYING.contains(&tag.name.as_str()),
            CustomTagValue::RequestHeader { .. }
            | CustomTagValue::Format(_)
            | CustomTagValue::Metadata { .. } => true,
        };
        custom
            .iter()
            .filter(vary)
            .map(|tag| Self {
                name: tag.name.clone(),
                replaces: VARYING.contains(&tag.name.as_str())
                    || custom.iter().filter(|other| other.name == tag.name).count() > 1,
                value: match &tag.value {
                    CustomTagValue::Literal(text) => TagValue::Literal(text.clone()),
                    CustomTagValue::Metadata {
                        filter,
                        path,
                        default,
                    } => TagValue::Metadata {
                        filter: filter.clone(),
                        path: path.clone(),
                        default: default.clone(),
                    },
                    CustomTagValue::RequestHeader { name, default } => TagValue::Header {
                        name: name.to_ascii_lowercase(),
                        default: default.clone(),
                    },
                    CustomTagValue::Format(format) => TagValue::Format(format.0.clone()),
                },
            })
            .collect()
    }
}

/// Encodes the built-in tags and the literals among the custom ones, which replace them. What is
/// replaced by a tag that varies is left to that one.
fn fixed_tags(custom: &[CustomTag], built_in: &[(&str, &str)]) -> FixedTags {
    let mut tags: Vec<(&str, &str)> = built_in.to_vec();
    for tag in custom {
        let name = tag.name.as_str();
        match &tag.value {
            _ if VARYING.contains(&name) => {}
            CustomTagValue::Literal(text) => {
                tags.retain(|(known, _)| *known != name);
                tags.push((name, text));
            }
            CustomTagValue::RequestHeader { .. }
            | CustomTagValue::Format(_)
            | CustomTagValue::Metadata { .. } => {
                tags.retain(|(known, _)| *known != name);
            }
        }
    }
    FixedTags::new(&tags)
}

impl Tracer {
    pub(crate) fn new(tracing: &Tracing, direction: Direction, worker: &Worker) -> Self {
        let node = &worker.node;
        let exporter = worker.exporter(&Reported::Spans(tracing.provider.clone()));
        let egress = direction == Direction::Outbound;
        let [component] = OF_EVERY_SPAN;
        let of_node = [component, ("node_id", &*node.id), ("zone", &*node.zone)];
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
            TracingProvider::OpenTelemetry { sampler, .. } => Format::W3c {
                with_b3: worker.options.otel_b3,
                sampler: *sampler,
            },
        };
        Self {
            kind: if egress && !tracing.spawn_upstream_span {
                SpanKind::Client
            } else {
                SpanKind::Server
            },
            egress,
            ingress: direction == Direction::Inbound,
            details: worker.options.span_details,
            limit: worker.trace_limit.clone(),
            spawns: tracing.spawn_upstream_span,
            sampling: Sampling {
                client: tracing.client_sampling,
                random: tracing.random_sampling,
                overall: tracing.overall_sampling,
            },
            format,
            longest_path: tracing.max_path_tag_length,
            request_tags: fixed_tags(&tracing.custom_tags, &of_node),
            attempt_tags: fixed_tags(&tracing.custom_tags, &OF_EVERY_SPAN),
            usual_tags: spans::usual_tags(&tracing.custom_tags),
            fixes_cluster_tags: !tracing
                .custom_tags
                .iter()
                .any(|tag| OF_CLUSTERS.contains(&tag.name.as_str())),
            has_asking_tags: tracing.custom_tags.iter().any(|tag| {
                let value = &tag.value;
                !matches!(
                    value,
                    CustomTagValue::Literal(_) | CustomTagValue::Format(_)
                )
            }),
            has_formats: tracing
                .custom_tags
                .iter()
                .any(|tag| matches!(tag.value, CustomTagValue::Format(_))),
            custom_tags: Tag::that_vary(&tracing.custom_tags),
            varies: false,
            exporter,
        }
    }

    /// Where the spans go.
    pub(crate) fn exporter(&self) -> &Rc<Exporter> {
        &self.exporter
    }

    /// Whether the spans of this request tell more than Envoy's do.
    #[inline]
    pub(crate) fn tells_details(&self, trace: &TraceContext) -> bool {
        self.details && trace.span.sampled
    }

    /// Whether its spans tell what takes more to be found out: details, or what format strings make of the request.
    #[inline]
    pub(crate) fn tells_more(&self, trace: &TraceContext) -> bool {
        (self.details || self.has_formats) && trace.span.sampled
    }

    /// The format strings among the custom tags, in their order.
    pub(crate) fn formats(&self) -> impl Iterator<Item = &Template> {
        self.custom_tags.iter().filter_map(|tag| match &tag.value {
            TagValue::Format(template) => Some(template),
            TagValue::Literal(_) | TagValue::Header { .. } | TagValue::Metadata { .. } => None,
        })
    }

    /// Whether it is to be known which requests to this workload have led to which of its own.
    #[inline]
    pub(crate) fn follows_causes(&self) -> bool {
        self.details
    }

    /// Whether requests to this workload are kept while they are under way.
    pub(crate) fn keeps_in_flight(&self) -> bool {
        self.details && self.ingress
    }

    /// Whether what has led to this request is to be found out: it leaves the workload, and nobody has said.
    pub(crate) fn seeks_causes(&self, trace: &TraceContext) -> bool {
        self.details && self.egress && !trace.continues && trace.span.sampled
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
            Format::W3c { .. } if self.egress => {
                scratch.clear();
                scratch.push_str("egress ");
                scratch.push_str(host);
                scratch
            }
            Format::W3c { .. } => "ingress",
        }
    }
}

/// Built-in tags that are the same on every span.
const OF_EVERY_SPAN: [(&str, &str); 1] = [("component", "proxy")];

/// Built-in tags of a cluster.
const OF_CLUSTERS: [&str; 2] = ["upstream_cluster", "upstream_cluster.name"];

/// Built-in tags whose values vary from span to span.
const VARYING: [&str; 40] = [
    "periplus.context.ignored",
    "guid:x-request-id",
    "guid:x-client-trace-id",
    "http.url",
    "http.method",
    "downstream_cluster",
    "user_agent",
    "http.protocol",
    "peer.address",
    "request_size",
    "response_size",
    "upstream_cluster",
    "upstream_cluster.name",
    "upstream_address",
    "http.status_code",
    "grpc.path",
    "grpc.authority",
    "grpc.content_type",
    "grpc.timeout",
    "grpc.status_code",
    "grpc.message",
    "response_flags",
    "error",
    "error.reason",
    "retry.count",
    "retry.reason",
    "retry.back_off_us",
    "canceled",
    "source_principal",
    "destination_principal",
    "upstream_transport_failure_reason",
    "rbac.enforced_engine_result",
    "rbac.enforced_effective_policy_id",
    "rbac.shadow_engine_result",
    "rbac.shadow_effective_policy_id",
    "rbac.audit_policy_id",
    "ext_authz.provider",
    "ext_authz.result",
    "ext_authz.duration_us",
    "ext_authz_status",
];

/// The headers that B3 in several headers replaces; the parent only if there is one.
const B3_MULTI: [Name; 3] = [Name::XB3TraceId, Name::XB3SpanId, Name::XB3Sampled];
