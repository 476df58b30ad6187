//! Zipkin's span, as every encoding brings it, and its way into the model.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, TraceId,
};

use super::endpoint::{Host, LOCAL, REMOTE, append_attributes};
use super::error::SpanProblem;
use super::tags::{apply, to_event};
use super::{ABSENT_START, DEBUG, SHARED};
use crate::otlp::MAX_EVENTS;

/// A span of version 2.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ZipkinSpan {
    pub(super) trace_id: TraceId,
    pub(super) id: SpanId,
    pub(super) parent_id: Option<SpanId>,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    /// Microseconds; zero and less count as absent.
    pub(super) timestamp: i64,
    /// Microseconds; zero and less count as absent.
    pub(super) duration: i64,
    pub(super) local: Host,
    pub(super) remote: Host,
    pub(super) annotations: Vec<(i64, String)>,
    pub(super) tags: Vec<(String, String)>,
    /// Tags whose values no text stands for.
    pub(super) dropped_tags: u32,
    pub(super) debug: bool,
    pub(super) shared: bool,
}

/// A batch that grows, and where spans of each maker go. All attributes of a resource made here are
/// texts.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) batch: Batch,
    by_maker: HashMap<Maker, usize>,
}

#[derive(PartialEq, Eq, Hash)]
struct Maker {
    resource: Vec<(String, String)>,
    scope: (String, String),
}

impl Groups {
    pub(super) fn add(&mut self, span: ZipkinSpan) -> Result<(), SpanProblem> {
        let mut resource = Resource::default();
        let mut scope = Scope::default();
        let span = to_model(span, &mut resource, &mut scope)?;
        // Senders report in runs: most spans belong where the one before went.
        if let Some(last) = self.batch.groups.last_mut()
            && *last.resource == resource
            && *last.scope == scope
        {
            last.spans.push(span);
            return Ok(());
        }
        let maker = Maker {
            resource: resource.attributes.iter().map(as_texts).collect(),
            scope: (scope.name.clone(), scope.version.clone()),
        };
        let groups = &mut self.batch.groups;
        let at = *self.by_maker.entry(maker).or_insert_with(|| {
            groups.push(SpanGroup {
                resource: Arc::new(resource),
                scope: Arc::new(scope),
                spans: Vec::new(),
            });
            groups.len() - 1
        });
        groups[at].spans.push(span);
        Ok(())
    }
}

fn as_texts(attribute: &Attribute) -> (String, String) {
    let value = attribute.value.as_str().unwrap_or_default();
    (attribute.key.clone(), value.to_owned())
}

fn to_model(
    from: ZipkinSpan,
    resource: &mut Resource,
    scope: &mut Scope,
) -> Result<Span, SpanProblem> {
    let mut span = Span {
        trace_id: from.trace_id,
        span_id: from.id,
        parent_span_id: from.parent_id.filter(|parent| *parent != from.id),
        kind: from.kind,
        name: from.name,
        dropped_attributes_count: from.dropped_tags,
        ..Span::default()
    };
    set_times(&mut span, from.timestamp, from.duration)?;
    if !from.local.service_name.is_empty() {
        *resource = Resource::of_service(&from.local.service_name);
    }
    append_attributes(&mut span.attributes, from.local, &LOCAL);
    append_attributes(&mut span.attributes, from.remote, &REMOTE);
    for (name, flag) in [
        (SHARED, from.shared && from.kind != SpanKind::Client),
        (DEBUG, from.debug),
    ] {
        if flag {
            span.attributes.push(Attribute::new(name, true));
        }
    }
    for (key, value) in from.tags {
        apply(key, value, &mut span, resource, scope);
    }
    for (micros, value) in from.annotations {
        if span.events.len() < MAX_EVENTS {
            let time_unix_nano = nanos("annotation timestamp", micros)?;
            span.events.push(to_event(time_unix_nano, value));
        } else {
            span.dropped_events_count = span.dropped_events_count.saturating_add(1);
        }
    }
    Ok(span)
}

fn set_times(span: &mut Span, timestamp: i64, duration: i64) -> Result<(), SpanProblem> {
    if timestamp > 0 {
        span.start_unix_nano = nanos("timestamp", timestamp)?;
    } else {
        span.attributes.push(Attribute::new(ABSENT_START, true));
    }
    let duration = duration.max(0);
    span.end_unix_nano = nanos("duration", duration)?
        .checked_add(span.start_unix_nano)
        .ok_or(SpanProblem::OutOfRange {
            field: "duration",
            value: duration,
        })?;
    Ok(())
}

fn nanos(field: &'static str, micros: i64) -> Result<u64, SpanProblem> {
    u64::try_from(micros)
        .ok()
        .and_then(|micros| micros.checked_mul(1000))
        .ok_or(SpanProblem::OutOfRange {
            field,
            value: micros,
        })
}
