//! An OTLP request into columns, without the model between.

use periplus_model::Span;
use periplus_wire::otlp::{
    AttributeRef, DecodeError, EventRef, LinkRef, Refused, ResourceRef, ScopeRef, Sink, SpanRef,
    Taken, ValueRef, walk_protobuf,
};

use super::shape::{Attr, Datum};
use super::turns::{SPANS_AT_ONCE, Turns};
use super::{Blobs, Builder, Entry, Head, Reject};
use crate::bytes::put_bytes;
use crate::limits::MAX_SPANS;
use crate::schema::Type;
use crate::{BuildError, OtlpError};

/// The most forms of resources and scopes that are remembered, in number and in bytes.
const MAX_SEEN: usize = 4096;
const MAX_SEEN_BYTES: usize = 4 * 1024 * 1024;

impl Builder {
    /// Adds the spans of an `ExportTraceServiceRequest`, and says which ones were refused: the same
    /// as `periplus_wire::otlp::decode_protobuf` would.
    ///
    /// # Errors
    ///
    /// The bytes are no such request, or there is no room for the spans. None is added then.
    pub fn append_otlp(&mut self, body: &[u8]) -> Result<Refused, OtlpError> {
        Self::append_otlp_by(&mut { self }, body)
    }

    /// The same, some spans at a time.
    ///
    /// # Errors
    ///
    /// As [`Self::append_otlp`].
    pub fn append_otlp_by(turns: &mut impl Turns, body: &[u8]) -> Result<Refused, OtlpError> {
        turns.builder().check_room()?;
        let mark = turns.builder().mark();
        let mut door = Door {
            turns,
            spans: 0,
            first_of_scope: mark.span_count(),
        };
        let walked = walk_protobuf(body, &mut door);
        walked.map_err(|stop| {
            turns.builder().rollback(mark);
            match stop {
                Stop::Decode(error) => OtlpError::Decode(error),
                Stop::Reject(Reject::TooDeep) => BuildError::TooDeep.into(),
                Stop::Reject(Reject::Full | Reject::NotUtf8) => BuildError::Full.into(),
            }
        })
    }
}

/// Why the walk ended early.
enum Stop {
    Decode(DecodeError),
    Reject(Reject),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// Keeps the sink's methods off the builder.
struct Door<'t, T> {
    turns: &'t mut T,
    /// Those of this turn.
    spans: usize,
    /// The row of the scope's first span.
    first_of_scope: usize,
}

impl<T: Turns> Sink for Door<'_, T> {
    type Error = Stop;

    fn resource(&mut self, resource: &ResourceRef<'_>) -> Result<(), Stop> {
        let builder = self.turns.builder();
        match (builder.resources).seen_as(resource.messages, resource.schema_url) {
            Some(code) => builder.resource = code,
            None => {
                builder.set_resource(&resource.decode()?)?;
                builder.resources.remember(builder.resource)?;
            }
        }
        Ok(())
    }

    fn scope(&mut self, scope: &ScopeRef<'_>) -> Result<(), Stop> {
        let builder = self.turns.builder();
        match builder.scopes.seen_as(scope.messages, scope.schema_url) {
            Some(code) => builder.scope = code,
            None => {
                builder.set_scope(&scope.decode()?)?;
                builder.scopes.remember(builder.scope)?;
            }
        }
        self.first_of_scope = builder.span_count();
        Ok(())
    }

    fn scope_of_spans(&mut self, scope: &ScopeRef<'_>) -> Result<(), Stop> {
        let first = self.first_of_scope;
        self.scope(scope)?;
        let builder = self.turns.builder();
        builder.spans.scope[first..].fill(builder.scope);
        Ok(())
    }

    #[inline]
    fn span(&mut self, span: &SpanRef<'_, '_>) -> Result<Taken, Stop> {
        self.spans += 1;
        if self.spans > SPANS_AT_ONCE {
            self.spans = 1;
            self.turns.pause();
        }
        match self.turns.builder().add_ref(span) {
            Ok(()) => Ok(Taken::Yes),
            Err(Reject::NotUtf8) => Ok(Taken::NotUtf8),
            Err(reject) => Err(reject.into()),
        }
    }

    fn decoded_span(&mut self, span: Span) -> Result<(), Stop> {
        Ok(self.turns.builder().add_span(&span)?)
    }
}

impl Builder {
    #[inline]
    fn add_ref(&mut self, span: &SpanRef<'_, '_>) -> Result<(), Reject> {
        let row = self.spans.len() as u32;
        if row as usize >= MAX_SPANS {
            return Err(Reject::Full);
        }
        let head = Head {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            trace_state: span.trace_state,
            flags: span.flags,
            name: span.name,
            kind: span.kind,
            start_unix_nano: span.start_unix_nano,
            end_unix_nano: span.end_unix_nano,
            dropped_attributes_count: span.dropped_attributes_count,
            dropped_events_count: span.dropped_events_count,
            dropped_links_count: span.dropped_links_count,
            status_code: span.status_code,
            status_message: span.status_message,
        };
        self.push_span::<true, _>(&head, span.attributes)?;
        for event in span.events {
            self.add_event_ref(row, event, span.event_attributes(event))?;
        }
        for link in span.links {
            self.add_link_ref(row, link, span.link_attributes(link))?;
        }
        Ok(())
    }

    fn add_event_ref(
        &mut self,
        row: u32,
        event: &EventRef<'_>,
        attributes: &[AttributeRef<'_>],
    ) -> Result<(), Reject> {
        let events = &mut self.events;
        let name = events.names.intern_text::<true>(event.name)?;
        events.attributes.push::<true, _>(name, attributes)?;
        events.owner.push(row);
        events.time.push(event.time_unix_nano);
        events.name.push(name);
        events.dropped.push(event.dropped_attributes_count);
        Ok(())
    }

    fn add_link_ref(
        &mut self,
        row: u32,
        link: &LinkRef<'_>,
        attributes: &[AttributeRef<'_>],
    ) -> Result<(), Reject> {
        let state = self.trace_states.intern_text::<true>(link.trace_state)?;
        let links = &mut self.links;
        links.attributes.push::<true, _>(0, attributes)?;
        links.owner.push(row);
        links.trace_id.push(link.trace_id.as_u128());
        links.span_id.push(link.span_id.as_u64());
        links.trace_state.push(state);
        links.flags.push(link.flags);
        links.dropped.push(link.dropped_attributes_count);
        Ok(())
    }
}

impl<T> Blobs<T> {
    /// Which one has come in this form before. What is asked for is kept for [`Self::remember`].
    fn seen_as(&mut self, messages: &[&[u8]], schema_url: &str) -> Option<u32> {
        self.scratch.clear();
        put_bytes(&mut self.scratch, schema_url.as_bytes());
        for message in messages {
            put_bytes(&mut self.scratch, message);
        }
        match self.seen.find(&self.scratch) {
            Entry::Known(seen) => Some(self.seen_codes[seen as usize]),
            Entry::Vacant(_) => {
                std::mem::swap(&mut self.scratch, &mut self.asked);
                None
            }
        }
    }

    /// Which one the form is that was asked for last.
    fn remember(&mut self, code: u32) -> Result<(), Reject> {
        if self.seen.len() >= MAX_SEEN || self.seen.text_bytes() >= MAX_SEEN_BYTES {
            self.forget_seen();
        }
        let asked = std::mem::take(&mut self.asked);
        self.seen.intern(&asked)?;
        self.seen_codes.push(code);
        self.asked = asked;
        Ok(())
    }
}

impl Attr for AttributeRef<'_> {
    #[inline]
    fn key(&self) -> &[u8] {
        self.key
    }

    #[inline]
    fn ty(&self) -> Type {
        match self.value {
            ValueRef::Empty => Type::Empty,
            ValueRef::Text(_) => Type::Text,
            ValueRef::Bool(_) => Type::Bool,
            ValueRef::Int(_) => Type::Int,
            ValueRef::Double(_) => Type::Double,
            ValueRef::Bytes(_) => Type::Bytes,
        }
    }

    #[inline]
    fn datum(&self) -> Datum<'_> {
        match self.value {
            ValueRef::Empty => Datum::Nothing,
            ValueRef::Text(bytes) | ValueRef::Bytes(bytes) => Datum::Bytes(bytes),
            ValueRef::Bool(value) => Datum::Word(u64::from(value)),
            ValueRef::Int(value) => Datum::Word(value as u64),
            ValueRef::Double(value) => Datum::Word(value.to_bits()),
        }
    }
}
