//! Spans into leaf columns.

use periplus_model::{Attribute, Event, Link, Resource, Scope, Span, SpanKind, StatusCode, Value};

use crate::buffer::{Buffer, Item, Level};
use crate::layout::{AttributesAt, Layout};
use crate::value::{Json, MAX_DEPTH, is_too_deep};

/// The columns of the row group that is being filled.
#[derive(Debug)]
pub(crate) struct Columns {
    layout: Layout,
    buffers: Vec<Buffer>,
    rows: usize,
}

/// A span in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) group_index: usize,
    pub(crate) span_index: usize,
    pub(crate) resource: &'a Resource,
    pub(crate) scope: &'a Scope,
    pub(crate) span: &'a Span,
}

/// Why a value cannot be written.
#[derive(Debug)]
pub(crate) struct TooDeep {
    pub(crate) key: String,
}

const ROW: Level = Level {
    repetition: 0,
    definition: 0,
};

impl Columns {
    pub(crate) fn new() -> Self {
        let layout = Layout::new();
        let buffers = layout.leaves.iter().map(|l| Buffer::new(l.kind)).collect();
        Self {
            layout,
            buffers,
            rows: 0,
        }
    }

    /// Adds a span; one that cannot be written adds nothing.
    pub(crate) fn push(&mut self, row: Row<'_>) -> Result<(), TooDeep> {
        check(row)?;
        self.rows += 1;
        let Row { span, .. } = row;
        self.identity(row);
        self.intrinsics(span);
        self.conveniences(row);
        self.attributes(self.layout.attributes, &span.attributes, ROW, 0);
        self.set(
            self.layout.dropped_attributes_count,
            span.dropped_attributes_count,
        );
        self.resource(row.resource);
        self.scope(row.scope);
        self.events(&span.events);
        self.set(self.layout.dropped_events_count, span.dropped_events_count);
        self.links(&span.links);
        self.set(self.layout.dropped_links_count, span.dropped_links_count);
        Ok(())
    }

    pub(crate) fn buffers(&mut self) -> &mut [Buffer] {
        &mut self.buffers
    }

    /// To be called when all buffers are written.
    pub(crate) fn start_over(&mut self) {
        self.rows = 0;
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// The memory that the buffers take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.buffers.iter().map(Buffer::bytes).sum()
    }

    pub(crate) fn path(&self, leaf: usize) -> &str {
        &self.layout.leaves[leaf].path
    }

    fn identity(&mut self, row: Row<'_>) {
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let Row { span, .. } = row;
        self.set(self.layout.trace_id, Item::Bytes(&span.trace_id.to_hex()));
        self.set(self.layout.group_index, index(row.group_index));
        self.set(self.layout.span_index, index(row.span_index));
        self.set(self.layout.span_id, Item::Bytes(&span.span_id.to_hex()));
        let parent = span.parent_span_id.map(|id| id.to_hex());
        let parent = parent.as_ref().map(|hex| Item::Bytes(hex));
        self.set_optional(self.layout.parent_span_id, parent);
    }

    fn intrinsics(&mut self, span: &Span) {
        self.set(self.layout.name, &*span.name);
        self.set(self.layout.kind, kind_text(span.kind));
        self.set(self.layout.start_unix_nano, span.start_unix_nano);
        self.set(self.layout.end_unix_nano, span.end_unix_nano);
        self.set(self.layout.status_code, status_text(span.status.code));
        self.set(self.layout.status_message, &*span.status.message);
        self.set(self.layout.trace_state, &*span.trace_state);
        self.set(self.layout.flags, span.flags);
    }

    fn conveniences(&mut self, row: Row<'_>) {
        let Row { span, resource, .. } = row;
        self.set(self.layout.service_name, resource.service_name());
        let micros = span.start_unix_nano / 1_000;
        self.set(self.layout.start_time, micros);
        self.set(self.layout.duration_nano, span.duration_nano());
        let method = first(span, &["http.request.method", "http.method"]);
        let method = method.and_then(Value::as_str).map(Item::from);
        self.set_optional(self.layout.http_method, method);
        let status = first(span, &["http.response.status_code", "http.status_code"]);
        let status = status.and_then(|value| match value {
            Value::Int(n) => i32::try_from(*n).ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        self.set_optional(self.layout.http_status_code, status.map(Item::Int32));
    }

    fn resource(&mut self, resource: &Resource) {
        let at = self.layout.resource;
        self.attributes(at.attributes, &resource.attributes, ROW, 0);
        self.set(
            at.dropped_attributes_count,
            resource.dropped_attributes_count,
        );
        self.set(at.schema_url, &*resource.schema_url);
    }

    fn scope(&mut self, scope: &Scope) {
        let at = self.layout.scope;
        self.set(at.name, &*scope.name);
        self.set(at.version, &*scope.version);
        self.attributes(at.attributes, &scope.attributes, ROW, 0);
        self.set(at.dropped_attributes_count, scope.dropped_attributes_count);
        self.set(at.schema_url, &*scope.schema_url);
    }

    fn events(&mut self, events: &[Event]) {
        let at = self.layout.events;
        if events.is_empty() {
            self.nulls(at.all(), ROW);
        }
        for (i, event) in events.iter().enumerate() {
            let level = element(i, ROW, 0);
            self.put(at.time_unix_nano, event.time_unix_nano, level);
            self.put(at.name, &*event.name, level);
            self.attributes(at.attributes, &event.attributes, level, 1);
            let dropped = event.dropped_attributes_count;
            self.put(at.dropped_attributes_count, dropped, level);
        }
    }

    fn links(&mut self, links: &[Link]) {
        let at = self.layout.links;
        if links.is_empty() {
            self.nulls(at.all(), ROW);
        }
        for (i, link) in links.iter().enumerate() {
            let level = element(i, ROW, 0);
            self.put(at.trace_id, Item::Bytes(&link.trace_id.to_hex()), level);
            self.put(at.span_id, Item::Bytes(&link.span_id.to_hex()), level);
            self.put(at.trace_state, &*link.trace_state, level);
            self.put(at.flags, link.flags, level);
            self.attributes(at.attributes, &link.attributes, level, 1);
            let dropped = link.dropped_attributes_count;
            self.put(at.dropped_attributes_count, dropped, level);
        }
    }

    /// Attributes of what stands at this level, within this many lists.
    fn attributes(&mut self, at: AttributesAt, attributes: &[Attribute], of: Level, lists: i16) {
        if attributes.is_empty() {
            self.nulls(at.all(), of);
        }
        for (i, attribute) in attributes.iter().enumerate() {
            let level = element(i, of, lists);
            self.put(at.key, &*attribute.key, level);
            self.value(at, &attribute.value, level);
        }
    }

    fn value(&mut self, at: AttributesAt, value: &Value, level: Level) {
        let json;
        let (leaf, item) = match value {
            Value::Empty => (None, Item::Bool(false)),
            Value::String(v) => (Some(at.string), Item::from(&**v)),
            Value::Bool(v) => (Some(at.bool), Item::Bool(*v)),
            Value::Int(v) => (Some(at.int), Item::Int64(*v)),
            Value::Double(v) => (Some(at.double), Item::Double(*v)),
            Value::Bytes(v) => (Some(at.bytes), Item::Bytes(v)),
            Value::Array(_) | Value::Map(_) => {
                json = serde_json::to_vec(&Json(value)).expect("texts as keys, bounded depth");
                (Some(at.json), Item::Bytes(&json))
            }
        };
        for other in at.all().skip(1) {
            if Some(other) != leaf {
                self.buffers[other].null(level);
            }
        }
        if let Some(leaf) = leaf {
            let definition = level.definition + 1;
            self.buffers[leaf].push(
                item,
                Level {
                    definition,
                    ..level
                },
            );
        }
    }

    /// A column of the row itself, always there.
    fn set<'a>(&mut self, leaf: usize, item: impl Into<Item<'a>>) {
        self.put(leaf, item, ROW);
    }

    /// A column of the row itself.
    fn set_optional(&mut self, leaf: usize, item: Option<Item<'_>>) {
        match item {
            Some(item) => self.buffers[leaf].push(
                item,
                Level {
                    definition: 1,
                    ..ROW
                },
            ),
            None => self.buffers[leaf].null(ROW),
        }
    }

    fn put<'a>(&mut self, leaf: usize, item: impl Into<Item<'a>>, level: Level) {
        self.buffers[leaf].push(item.into(), level);
    }

    fn nulls(&mut self, leaves: impl Iterator<Item = usize>, level: Level) {
        leaves.for_each(|leaf| self.buffers[leaf].null(level));
    }
}

/// The level of the i-th element of a list that stands at this level, within this many lists.
const fn element(i: usize, of: Level, lists: i16) -> Level {
    Level {
        repetition: if i == 0 { of.repetition } else { lists + 1 },
        definition: of.definition + 1,
    }
}

fn first<'a>(span: &'a Span, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().find_map(|key| span.attribute(key))
}

pub(crate) const fn kind_text(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        said => said.as_str(),
    }
}

pub(crate) const fn status_text(code: StatusCode) -> &'static str {
    match code {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}

fn check(row: Row<'_>) -> Result<(), TooDeep> {
    let events = row.span.events.iter().map(|event| &event.attributes);
    let links = row.span.links.iter().map(|link| &link.attributes);
    let lists = [
        &row.span.attributes,
        &row.resource.attributes,
        &row.scope.attributes,
    ];
    let mut all = lists.into_iter().chain(events).chain(links).flatten();
    match all.find(|attribute| is_too_deep(&attribute.value)) {
        Some(attribute) => Err(TooDeep {
            key: attribute.key.clone(),
        }),
        None => Ok(()),
    }
}

impl std::fmt::Display for TooDeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "attribute {:?} has more than {MAX_DEPTH} arrays and maps within one another",
            self.key
        )
    }
}
