//! A span, taken apart into what Zipkin's encodings write.

use std::borrow::Cow;
use std::collections::BTreeMap;

use periplus_model::{Attribute, Resource, Scope, Span, SpanKind, StatusCode, Value};

use super::endpoint::{Endpoint, LOCAL, REMOTE, lower_case};
use super::json_value::to_text;
use super::tags::{
    DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS, ERROR, LINK_PREFIX, SCOPE_NAMES,
    SCOPE_VERSIONS, SPAN_KIND, STATUS_CODE, STATUS_DESCRIPTION, TRACE_STATE, from_event, from_link,
};
use super::{ABSENT_START, DEBUG, SHARED};

/// What of a span goes where.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) name: Cow<'a, str>,
    /// Microseconds, never zero.
    pub(super) timestamp: Option<u64>,
    /// Microseconds, never zero.
    pub(super) duration: Option<u64>,
    pub(super) local: Endpoint<'a>,
    pub(super) remote: Endpoint<'a>,
    /// Microseconds and texts.
    pub(super) annotations: Vec<(u64, String)>,
    /// Sorted, and the last of a name wins, as in Zipkin.
    pub(super) tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    pub(super) shared: bool,
    pub(super) debug: bool,
    absent_start: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn of(resource: &'a Resource, scope: &'a Scope, span: &'a Span) -> Self {
        let mut parts = Self {
            name: Cow::Borrowed(&span.name),
            ..Self::default()
        };
        parts.take_resource(resource);
        parts.take_scope(scope);
        for attribute in &span.attributes {
            parts.take_attribute(attribute);
        }
        if parts.remote.is_empty() {
            parts.remote = Endpoint::of_peer(span);
        }
        parts.take_status(span);
        if span.kind == SpanKind::Internal {
            parts.tag(SPAN_KIND, "internal");
        }
        if !span.trace_state.is_empty() {
            parts.tag(TRACE_STATE, span.trace_state.as_str());
        }
        for (i, link) in span.links.iter().enumerate() {
            let key = Cow::Owned(format!("{LINK_PREFIX}{i}"));
            parts.tags.insert(key, Cow::Owned(from_link(link)));
        }
        for (key, count) in [
            (DROPPED_ATTRIBUTES, span.dropped_attributes_count),
            (DROPPED_EVENTS, span.dropped_events_count),
            (DROPPED_LINKS, span.dropped_links_count),
        ] {
            if count != 0 {
                parts.tag(key, count.to_string());
            }
        }
        parts.take_times(span);
        parts.annotations = (span.events.iter())
            .map(|event| (event.time_unix_nano / 1000, from_event(event)))
            .collect();
        parts
    }

    /// As Zipkin's server hands spans out: names in lower case, annotations sorted, each once.
    pub(super) fn normalise(&mut self) {
        lower_case(&mut self.name);
        self.local.lower_case();
        self.remote.lower_case();
        self.annotations.sort();
        self.annotations.dedup();
    }

    /// Zipkin's times are positive microseconds: zero counts as absent, and what is shorter than a
    /// microsecond lasts one.
    fn take_times(&mut self, span: &Span) {
        let start = span.start_unix_nano / 1000;
        self.timestamp = (start != 0 && !self.absent_start).then_some(start);
        self.duration = match span.duration_nano() {
            0 => None,
            nanos => Some((nanos / 1000).max(1)),
        };
    }

    fn take_resource(&mut self, resource: &'a Resource) {
        for attribute in &resource.attributes {
            match (attribute.key.as_str(), &attribute.value) {
                ("service.name", Value::String(name)) if self.local.service_name.is_none() => {
                    if !name.is_empty() {
                        self.local.service_name = Some(Cow::Borrowed(name));
                    }
                }
                _ => self.tag(&attribute.key, to_text(&attribute.value)),
            }
        }
    }

    fn take_scope(&mut self, scope: &'a Scope) {
        for (keys, text) in [(SCOPE_NAMES, &scope.name), (SCOPE_VERSIONS, &scope.version)] {
            for key in keys.iter().filter(|_| !text.is_empty()) {
                self.tag(key, text.as_str());
            }
        }
    }

    fn take_attribute(&mut self, attribute: &'a Attribute) {
        match (attribute.key.as_str(), &attribute.value) {
            (SHARED, Value::Bool(true)) => self.shared = true,
            (DEBUG, Value::Bool(true)) => self.debug = true,
            (ABSENT_START, Value::Bool(true)) => self.absent_start = true,
            _ if self.local.take(attribute, &LOCAL) => {}
            _ if self.remote.take(attribute, &REMOTE) => {}
            _ => self.tag(&attribute.key, to_text(&attribute.value)),
        }
    }

    /// An error that an `error` tag alone brings back needs no other tag.
    fn take_status(&mut self, span: &'a Span) {
        let message = span.status.message.as_str();
        let has_error = self.tags.contains_key(ERROR);
        match span.status.code {
            StatusCode::Error if has_error && message.is_empty() => {}
            StatusCode::Error => {
                self.tag(STATUS_CODE, "ERROR");
                if !has_error {
                    self.tag(ERROR, message);
                }
            }
            StatusCode::Ok => self.tag(STATUS_CODE, "OK"),
            StatusCode::Unset => {}
        }
        if !message.is_empty() {
            self.tag(STATUS_DESCRIPTION, message);
        }
    }

    fn tag(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        self.tags.insert(Cow::Borrowed(key), value.into());
    }
}
