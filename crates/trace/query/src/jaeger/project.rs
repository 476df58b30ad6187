//! Jaeger's view of spans (`periplus_wire::jaeger`) as the JSON of its API.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use periplus_insight::jaeger::{AdjustedGroup, AdjustedSpan};
use periplus_model::{Resource, Scope, TraceId};
use periplus_wire::jaeger::{self, not_finite, project_process, project_span};

use super::shapes::{
    HexSpanId, JsonValue, KeyValue, Log, Process, ProcessId, Processes, Reference, ShortTraceId,
    Span, Trace,
};

/// The names under which spans without a service appear.
pub(crate) const NAMES_OF_NO_SERVICE: [&str; 4] = [
    jaeger::NO_RESOURCE,
    jaeger::MISSING_SERVICE,
    jaeger::EMPTY_SERVICE,
    jaeger::WRONG_SERVICE,
];

/// The largest integer that JavaScript holds exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// A whole trace.
pub(super) fn trace(id: TraceId, groups: &[AdjustedGroup]) -> Trace<'_> {
    let mut processes = ProcessTable::default();
    let mut spans = Vec::with_capacity(groups.iter().map(|group| group.spans.len()).sum());
    for group in groups.iter().filter(|group| !group.spans.is_empty()) {
        let process_id = processes.id_of(&group.resource);
        spans.extend(
            group
                .spans
                .iter()
                .map(|adjusted| span(adjusted, &group.scope, process_id)),
        );
    }
    Trace {
        trace_id: ShortTraceId(id),
        spans,
        processes: Processes(processes.processes),
        warnings: None,
    }
}

/// Numbers processes as they are first seen; equal ones share a number.
#[derive(Default)]
struct ProcessTable<'a> {
    processes: Vec<Process<'a>>,
    /// Groups mostly share their resource: no need to compare it then.
    seen: HashMap<*const Resource, ProcessId>,
}

impl<'a> ProcessTable<'a> {
    fn id_of(&mut self, resource: &'a Arc<Resource>) -> ProcessId {
        let pointer = Arc::as_ptr(resource);
        if let Some(id) = self.seen.get(&pointer) {
            return *id;
        }
        let process = process(project_process(resource));
        let index = match self.processes.iter().position(|known| *known == process) {
            Some(index) => index,
            None => {
                self.processes.push(process);
                self.processes.len() - 1
            }
        };
        self.seen.insert(pointer, ProcessId(index));
        ProcessId(index)
    }
}

fn process(view: jaeger::Process<'_>) -> Process<'_> {
    Process {
        service_name: view.service_name,
        tags: tags(view.tags),
    }
}

fn span<'a>(adjusted: &'a AdjustedSpan, scope: &'a Scope, process_id: ProcessId) -> Span<'a> {
    let view = project_span(&adjusted.span, scope);
    Span {
        trace_id: ShortTraceId(view.trace_id),
        span_id: HexSpanId(view.span_id),
        operation_name: view.operation_name,
        references: view.references.into_iter().map(reference).collect(),
        start_time: view.start_unix_nano / 1_000,
        duration: view.duration_nano / 1_000,
        tags: tags(view.tags),
        logs: view.logs.into_iter().map(log).collect(),
        process_id,
        warnings: Some(adjusted.warnings.as_slice()).filter(|warnings| !warnings.is_empty()),
    }
}

fn reference(view: jaeger::Reference) -> Reference {
    Reference {
        ref_type: view.ref_type.as_str(),
        trace_id: ShortTraceId(view.trace_id),
        span_id: HexSpanId(view.span_id),
    }
}

fn log(view: jaeger::Log<'_>) -> Log<'_> {
    Log {
        timestamp: view.time_unix_nano / 1_000,
        fields: tags(view.fields),
    }
}

fn tags(views: Vec<jaeger::Tag<'_>>) -> Vec<KeyValue<'_>> {
    views.into_iter().map(tag).collect()
}

/// JSON has neither large integers nor bytes nor what is not finite: these become text.
fn tag(view: jaeger::Tag<'_>) -> KeyValue<'_> {
    use jaeger::TagValue;
    let (kind, value) = match view.value {
        TagValue::Text(text) => ("string", JsonValue::Text(text)),
        TagValue::Bool(value) => ("bool", JsonValue::Bool(value)),
        TagValue::Int(number) if number.unsigned_abs() <= MAX_SAFE_INTEGER => {
            ("int64", JsonValue::Int(number))
        }
        TagValue::Int(number) => ("int64", JsonValue::Text(Cow::Owned(number.to_string()))),
        TagValue::Double(number) if number.is_finite() => ("float64", JsonValue::Double(number)),
        TagValue::Double(number) => (
            "float64",
            JsonValue::Text(Cow::Borrowed(not_finite(number))),
        ),
        TagValue::Binary(bytes) => (
            "binary",
            JsonValue::Text(Cow::Owned(STANDARD.encode(bytes))),
        ),
    };
    KeyValue {
        key: view.key,
        kind,
        value,
    }
}
