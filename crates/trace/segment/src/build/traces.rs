//! The traces of a builder, by running numbers.

use periplus_model::TraceId;

use super::intern::{Entry, HashIndex};
use super::spans::{NONE, earlier};
use crate::hash::hash;

/// The traces of a builder.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    seed: u64,
    all: Vec<Trace>,
    numbers: HashIndex,
}

/// What is known of a trace. All of it is wanted for each span, and lies in one place: most of the time
/// that it takes to find a trace, the processor waits for memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    /// The earliest start that is known; zero if none is.
    pub(crate) start: u64,
    /// The newest span, from which [`super::Spans::before`] leads to all others.
    pub(crate) last: u32,
    pub(crate) spans: u32,
}

impl Traces {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            all: Vec::new(),
            numbers: HashIndex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them; their places are their numbers.
    pub(crate) fn all(&self) -> &[Trace] {
        &self.all
    }

    #[inline]
    pub(crate) fn get(&self, trace: usize) -> &Trace {
        &self.all[trace]
    }

    pub(super) fn get_mut(&mut self, trace: usize) -> &mut Trace {
        &mut self.all[trace]
    }

    #[inline]
    pub(crate) fn find(&self, id: TraceId) -> Entry {
        let hash = hash(self.seed, &id.to_bytes());
        (self.numbers).find(hash, |trace| self.all[trace as usize].id == id)
    }

    /// Adds a span in this row to its trace: the trace's number, and the row of its span before this one, or
    /// [`NONE`].
    #[inline]
    pub(super) fn add(&mut self, id: TraceId, row: u32, start: u64) -> (u32, u32) {
        match self.find(id) {
            Entry::Known(number) => {
                let trace = &mut self.all[number as usize];
                trace.start = earlier(trace.start, start);
                trace.spans += 1;
                (number, std::mem::replace(&mut trace.last, row))
            }
            Entry::Vacant(slot) => {
                let number = self.numbers.insert(slot);
                self.all.push(Trace {
                    id,
                    start,
                    last: row,
                    spans: 1,
                });
                (number, NONE)
            }
        }
    }

    /// Forgets all traces from this number on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.all.truncate(len);
        self.numbers.truncate(len);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Trace>() + self.numbers.heap_bytes()
    }
}
