//! The builder: columns that grow.

pub(crate) mod children;
mod column;
mod intern;
mod model_door;
mod otlp_door;
mod rollback;
mod rows;
mod shape;
pub(crate) mod spans;
mod table;
mod tags;
mod traces;
mod turns;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use periplus_model::{Resource, Scope};

pub(crate) use children::{Events, Links};
pub(crate) use column::{Column, Strings, Values};
pub(crate) use intern::{Entry, Interner, Reject};
pub use rollback::Mark;
use shape::Attr;
pub(crate) use shape::Shape;
use spans::{HAS_PARENT, kind_status};
pub(crate) use spans::{Head, Spans};
pub(crate) use table::Table;
pub(crate) use traces::{Trace, Traces};
pub use turns::Turns;

use crate::BuildError;
use crate::limits::{MAX_HEAP_BYTES, MAX_SPANS};

/// Spans in columns, in memory: what a segment is made from.
///
/// Spans come in by two doors, [`Builder::append`] and [`Builder::append_otlp`], and can be searched
/// and read at once. Each append takes all or nothing.
///
/// Everything that repeats is kept once: names, texts, resources, and the lists of attribute keys
/// that spans from the same place of a program share.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) spans: Spans,
    pub(crate) traces: Traces,
    pub(crate) names: Interner,
    pub(crate) messages: Interner,
    pub(crate) trace_states: Interner,
    pub(crate) resources: Blobs<Resource>,
    pub(crate) scopes: Blobs<Scope>,
    pub(crate) attributes: Table,
    pub(crate) events: Events,
    pub(crate) links: Links,
    /// The resource and the scope of the spans that come next.
    resource: u32,
    scope: u32,
}

/// Resources or scopes: as bytes that tell them apart, and decoded.
#[derive(Clone, Debug)]
pub(crate) struct Blobs<T> {
    pub(crate) bytes: Interner,
    pub(crate) decoded: Vec<Arc<T>>,
    decoded_bytes: usize,
    /// The form in which they came through the OTLP door, and which one each is.
    seen: Interner,
    seen_codes: Vec<u32>,
    asked: Vec<u8>,
    scratch: Vec<u8>,
}

impl Builder {
    /// An empty one.
    pub fn new() -> Self {
        // Nobody outside can make values that all fall into one place of a table.
        Self::with_seed(RandomState::new().hash_one(0))
    }

    fn with_seed(seed: u64) -> Self {
        let mut messages = Interner::new(seed);
        let mut trace_states = Interner::new(seed);
        // Zero is the empty text, which most spans have.
        for interner in [&mut messages, &mut trace_states] {
            let _empty = interner.intern(b"");
        }
        Self {
            spans: Spans::default(),
            traces: Traces::new(seed),
            names: Interner::new(seed),
            messages,
            trace_states,
            resources: Blobs::new(seed),
            scopes: Blobs::new(seed),
            attributes: Table::new(seed),
            events: Events::new(seed),
            links: Links::new(seed),
            resource: 0,
            scope: 0,
        }
    }

    /// How many spans it holds.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// How many traces its spans belong to.
    pub fn trace_count(&self) -> usize {
        self.traces.len()
    }

    /// Whether it holds no spans.
    pub fn is_empty(&self) -> bool {
        self.span_count() == 0
    }

    /// The bytes of heap that it takes.
    pub fn heap_bytes(&self) -> usize {
        let interners = [&self.names, &self.messages, &self.trace_states];
        interners.map(Interner::heap_bytes).iter().sum::<usize>()
            + self.spans.heap_bytes()
            + self.traces.heap_bytes()
            + self.resources.heap_bytes()
            + self.scopes.heap_bytes()
            + self.attributes.heap_bytes()
            + self.events.heap_bytes()
            + self.links.heap_bytes()
    }

    fn check_room(&self) -> Result<(), BuildError> {
        if self.span_count() >= MAX_SPANS || self.heap_bytes() >= MAX_HEAP_BYTES {
            return Err(BuildError::Full);
        }
        Ok(())
    }

    /// Adds a span of the current resource and scope; its events and links must follow.
    #[inline]
    fn push_span<const CHECK: bool, A: Attr>(
        &mut self,
        head: &Head<'_>,
        attributes: &[A],
    ) -> Result<(), Reject> {
        let row = self.spans.len() as u32;
        let name = self.names.intern_text::<CHECK>(head.name)?;
        self.attributes.push::<CHECK, A>(name, attributes)?;
        let (trace, before) = (self.traces).add(head.trace_id, row, head.start_unix_nano);
        let spans = &mut self.spans;
        spans.before.push(before);
        let has_parent = match head.parent_span_id {
            Some(_) => HAS_PARENT,
            None => 0,
        };
        spans.trace.push(trace);
        spans.id.push(head.span_id.as_u64());
        (spans.parent).push(head.parent_span_id.map_or(0, |id| id.as_u64()));
        spans.start.push(head.start_unix_nano);
        spans.end.push(head.end_unix_nano);
        (spans.kind_status).push(kind_status(head.kind, head.status_code) | has_parent);
        spans.name.push(name);
        spans.resource.push(self.resource);
        spans.scope.push(self.scope);
        spans.flags.push(head.flags);
        if !head.trace_state.is_empty() {
            let state = self.trace_states.intern_text::<CHECK>(head.trace_state)?;
            spans.trace_state.push(row, state);
        }
        if !head.status_message.is_empty() {
            let message = self.messages.intern_text::<CHECK>(head.status_message)?;
            spans.message.push(row, message);
        }
        (spans.dropped_attributes).push(row, head.dropped_attributes_count);
        spans.dropped_events.push(row, head.dropped_events_count);
        spans.dropped_links.push(row, head.dropped_links_count);
        Ok(())
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Blobs<T> {
    fn new(seed: u64) -> Self {
        Self {
            bytes: Interner::new(seed),
            decoded: Vec::new(),
            decoded_bytes: 0,
            seen: Interner::new(seed),
            seen_codes: Vec::new(),
            asked: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The number of what these bytes stand for.
    fn intern(&mut self, bytes: &[u8], decoded: impl FnOnce() -> Arc<T>) -> Result<u32, Reject> {
        let code = self.bytes.intern(bytes)?;
        if code as usize == self.decoded.len() {
            self.decoded.push(decoded());
            // The model's form takes a few times the bytes of the compact one.
            self.decoded_bytes += size_of::<T>() + 4 * bytes.len();
        }
        Ok(code)
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.decoded.truncate(len);
        self.forget_seen();
    }

    fn forget_seen(&mut self) {
        self.seen.truncate(0);
        self.seen_codes.clear();
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.heap_bytes()
            + self.seen.heap_bytes()
            + self.decoded_bytes
            + self.decoded.capacity() * 8
            + self.seen_codes.capacity() * 4
    }
}
