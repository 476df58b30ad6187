//! Jaeger's formats: Thrift (`jaeger.thrift`, `agent.thrift`) and protobuf (`jaeger.api_v2`).
//!
//! | what | reads | writes |
//! |---|---|---|
//! | `POST /api/traces`: a `Batch` in Thrift's binary protocol | [`decode_thrift_batch`] | |
//! | the agent's datagrams: `Agent.emitBatch`, binary or compact | [`decode_agent_message`] | |
//! | `CollectorService/PostSpans`: a `PostSpansRequest` | [`decode_post_spans`] | |
//! | `QueryService`: `Span` | | [`append_span`] |
//!
//! The mapping is the one of the OpenTelemetry collector's translator, both ways.
//!
//! | Jaeger | model | note |
//! |---|---|---|
//! | `process.serviceName` | resource `service.name` | empty, or `OTLPResourceNoServiceName`: no such attribute |
//! | process tags | resource attributes | `hostname` becomes `host.name`, `jaeger.version` `V` becomes `opencensus.exporterversion` `Jaeger-V`, where those are free |
//! | `parentSpanId`, else the first `CHILD_OF` of the same trace, else the first `FOLLOWS_FROM` of it | parent | |
//! | every other reference | link | attribute `opentracing.ref_type` = `child_of` or `follows_from` |
//! | tag `span.kind` | kind | an unknown word stays a tag |
//! | tag `error` = true (bool) | status error | `error` = false, and texts, stay tags |
//! | tag `otel.status_code` | status | where no `error` says more |
//! | tag `http.status_code` | status, where neither is there | error from 400 on, 4xx not for a server; stays a tag |
//! | tags `otel.status_description`, `http.status_message` | status message | the first is taken away, the second stays |
//! | tags `otel.scope.name`, `otel.scope.version` | scope | |
//! | tag `w3c.tracestate` | trace state | |
//! | logs | events | the field `event` is the name |
//! | flag 1 (sampled) | flag 1 | |
//! | flag 2 (debug) | attribute [`DEBUG`] = true | |
//!
//! A tag that is set twice counts as set last. Texts that are not UTF-8 are kept as bytes, as Jaeger
//! keeps them: a name is then `invalid-span-name` (or `invalid-event-name`) and an attribute of that
//! name has its bytes; a key is `invalid-tag-key-N` and its value is `key:value`.
//!
//! [`project_span`] and [`project_process`] are the way back: what Jaeger's APIs show of the model, in
//! JSON and in protobuf.
//!
//! A span that breaks a rule (an id of zero or of a wrong length, a time before 1970) is refused alone
//! ([`Decoded::refused`](crate::otlp::Decoded)). The limits are those of [OTLP](crate::otlp).

mod encode;
mod error;
mod groups;
mod process;
mod project;
mod proto;
mod raw;
mod status;
mod text;
mod thrift;
mod translate;

pub use encode::append_span;
pub use error::DecodeError;
pub use project::{
    Log, Process, RefType, Reference, Span, Tag, TagValue, not_finite, project_process,
    project_span,
};
pub use proto::decode_post_spans;
pub use thrift::{ThriftProtocol, decode_agent_message, decode_thrift_batch};

/// Attribute of a span whose sender marked it as debug.
pub const DEBUG: &str = "jaeger.debug";

/// The service that Jaeger shows for a resource that says nothing at all.
pub const NO_RESOURCE: &str = "OTLPResourceNoServiceName";
/// The service that Jaeger shows for a resource that does not name one.
pub const MISSING_SERVICE: &str = "missing-service-name";
/// The service that Jaeger shows for a resource that names it with the empty text.
pub const EMPTY_SERVICE: &str = "empty-service-name";
/// The service that Jaeger shows for a resource that names it with something that is no text.
pub const WRONG_SERVICE: &str = "service-name-wrong-type";
/// The operation that Jaeger shows for a span without a name.
pub const EMPTY_OPERATION: &str = "empty-span-name";

const REF_TYPE: &str = "opentracing.ref_type";
