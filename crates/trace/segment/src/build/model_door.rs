//! Spans of the model into columns.

use std::ops::Range;

use periplus_model::{Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, Value};

use super::shape::{Attr, Datum};
use super::turns::{SPANS_AT_ONCE, Turns};
use super::{Builder, Head, Reject};
use crate::schema::Type;
use crate::{BuildError, value};

impl Builder {
    /// Adds the spans of a batch.
    ///
    /// # Errors
    ///
    /// There is no room for them, or a value is nested too deep. None is added then.
    pub fn append(&mut self, batch: &Batch) -> Result<(), BuildError> {
        self.append_groups(&batch.groups)
    }

    /// Adds groups of spans.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_groups<'a>(
        &mut self,
        groups: impl IntoIterator<Item = &'a SpanGroup>,
    ) -> Result<(), BuildError> {
        Self::append_groups_by(&mut { self }, groups)
    }

    /// The same, some spans at a time.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_groups_by<'a>(
        turns: &mut impl Turns,
        groups: impl IntoIterator<Item = &'a SpanGroup>,
    ) -> Result<(), BuildError> {
        turns.builder().check_room()?;
        let mark = turns.builder().mark();
        let taken = groups.into_iter().try_for_each(|group| {
            turns.builder().set_resource(&group.resource)?;
            turns.builder().set_scope(&group.scope)?;
            for spans in group.spans.chunks(SPANS_AT_ONCE) {
                turns.pause();
                let builder = turns.builder();
                spans.iter().try_for_each(|span| builder.add_span(span))?;
            }
            Ok(())
        });
        taken.map_err(|reject| {
            turns.builder().rollback(mark);
            match reject {
                Reject::TooDeep => BuildError::TooDeep,
                // The model's texts are UTF-8.
                Reject::Full | Reject::NotUtf8 => BuildError::Full,
            }
        })
    }

    /// The resource of the spans that follow.
    pub(super) fn set_resource(&mut self, resource: &Resource) -> Result<(), Reject> {
        let mut bytes = std::mem::take(&mut self.resources.scratch);
        bytes.clear();
        let put = value::put_resource(&mut bytes, resource).ok_or(Reject::TooDeep);
        let code = put.and_then(|()| (self.resources).intern(&bytes, || resource.clone().into()));
        self.resources.scratch = bytes;
        self.resource = code?;
        Ok(())
    }

    /// The scope of the spans that follow.
    pub(super) fn set_scope(&mut self, scope: &Scope) -> Result<(), Reject> {
        let mut bytes = std::mem::take(&mut self.scopes.scratch);
        bytes.clear();
        let put = value::put_scope(&mut bytes, scope).ok_or(Reject::TooDeep);
        let code = put.and_then(|()| self.scopes.intern(&bytes, || scope.clone().into()));
        self.scopes.scratch = bytes;
        self.scope = code?;
        Ok(())
    }

    pub(super) fn add_span(&mut self, span: &Span) -> Result<(), Reject> {
        if self.span_count() >= crate::limits::MAX_SPANS {
            return Err(Reject::Full);
        }
        let head = Head {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            trace_state: span.trace_state.as_bytes(),
            flags: span.flags,
            name: span.name.as_bytes(),
            kind: span.kind,
            start_unix_nano: span.start_unix_nano,
            end_unix_nano: span.end_unix_nano,
            dropped_attributes_count: span.dropped_attributes_count,
            dropped_events_count: span.dropped_events_count,
            dropped_links_count: span.dropped_links_count,
            status_code: span.status.code,
            status_message: span.status.message.as_bytes(),
        };
        let row = self.spans.len() as u32;
        let mut nested = Vec::new();
        let attributes = cells(&span.attributes, &mut nested)?;
        self.push_span::<false, _>(&head, &bound(&attributes, &nested))?;
        for event in &span.events {
            self.add_event(row, event)?;
        }
        for link in &span.links {
            self.add_link(row, link)?;
        }
        Ok(())
    }

    fn add_event(&mut self, row: u32, event: &Event) -> Result<(), Reject> {
        let mut nested = Vec::new();
        let attributes = cells(&event.attributes, &mut nested)?;
        let events = &mut self.events;
        let name = events.names.intern(event.name.as_bytes())?;
        (events.attributes).push::<false, _>(name, &bound(&attributes, &nested))?;
        events.owner.push(row);
        events.time.push(event.time_unix_nano);
        events.name.push(name);
        events.dropped.push(event.dropped_attributes_count);
        Ok(())
    }

    fn add_link(&mut self, row: u32, link: &Link) -> Result<(), Reject> {
        let mut nested = Vec::new();
        let attributes = cells(&link.attributes, &mut nested)?;
        let state = self.trace_states.intern(link.trace_state.as_bytes())?;
        let links = &mut self.links;
        (links.attributes).push::<false, _>(0, &bound(&attributes, &nested))?;
        links.owner.push(row);
        links.trace_id.push(link.trace_id.as_u128());
        links.span_id.push(link.span_id.as_u64());
        links.trace_state.push(state);
        links.flags.push(link.flags);
        links.dropped.push(link.dropped_attributes_count);
        Ok(())
    }
}

/// An attribute whose array or map lies elsewhere as bytes.
struct Cell<'a> {
    attribute: &'a Attribute,
    nested: Range<usize>,
}

fn cells<'a>(attributes: &'a [Attribute], nested: &mut Vec<u8>) -> Result<Vec<Cell<'a>>, Reject> {
    attributes
        .iter()
        .map(|attribute| {
            let begin = nested.len();
            if matches!(attribute.value, Value::Array(_) | Value::Map(_)) {
                value::put_value(nested, &attribute.value).ok_or(Reject::TooDeep)?;
            }
            Ok(Cell {
                attribute,
                nested: begin..nested.len(),
            })
        })
        .collect()
}

/// A cell with its bytes.
struct Bound<'a> {
    attribute: &'a Attribute,
    nested: &'a [u8],
}

fn bound<'a>(cells: &'a [Cell<'a>], nested: &'a [u8]) -> Vec<Bound<'a>> {
    let bind = |cell: &'a Cell<'a>| Bound {
        attribute: cell.attribute,
        nested: &nested[cell.nested.clone()],
    };
    cells.iter().map(bind).collect()
}

impl Attr for Bound<'_> {
    fn key(&self) -> &[u8] {
        self.attribute.key.as_bytes()
    }

    fn ty(&self) -> Type {
        match self.attribute.value {
            Value::Empty => Type::Empty,
            Value::String(_) => Type::Text,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Double(_) => Type::Double,
            Value::Bytes(_) => Type::Bytes,
            Value::Array(_) | Value::Map(_) => Type::Nested,
        }
    }

    fn datum(&self) -> Datum<'_> {
        match &self.attribute.value {
            Value::Empty => Datum::Nothing,
            Value::String(text) => Datum::Bytes(text.as_bytes()),
            Value::Bool(value) => Datum::Word(u64::from(*value)),
            Value::Int(value) => Datum::Word(*value as u64),
            Value::Double(value) => Datum::Word(value.to_bits()),
            Value::Bytes(bytes) => Datum::Bytes(bytes),
            Value::Array(_) | Value::Map(_) => Datum::Bytes(self.nested),
        }
    }
}
