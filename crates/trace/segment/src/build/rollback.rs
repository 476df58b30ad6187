use super::Builder;
use super::children::ChildMark;
use super::spans::{NONE, earlier};
use super::table::TableMark;

/// How much a builder held: where [`Builder::rollback`] goes back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    spans: usize,
    traces: usize,
    names: usize,
    messages: usize,
    trace_states: usize,
    resources: usize,
    scopes: usize,
    attributes: TableMark,
    events: ChildMark,
    links: ChildMark,
}

impl Mark {
    /// How many spans it held.
    pub(super) fn span_count(&self) -> usize {
        self.spans
    }
}

impl Builder {
    /// What it holds now.
    pub fn mark(&self) -> Mark {
        Mark {
            spans: self.spans.len(),
            traces: self.traces.len(),
            names: self.names.len(),
            messages: self.messages.len(),
            trace_states: self.trace_states.len(),
            resources: self.resources.bytes.len(),
            scopes: self.scopes.bytes.len(),
            attributes: self.attributes.mark(),
            events: self.events.mark(),
            links: self.links.mark(),
        }
    }

    /// Forgets what has come since the mark. Marks that were made in between are no longer good.
    pub fn rollback(&mut self, to: Mark) {
        self.forget_in_traces(to);
        self.attributes.truncate(to.attributes);
        self.events.truncate(to.events);
        self.links.truncate(to.links);
        self.spans.truncate(to.spans);
        self.traces.truncate(to.traces);
        self.names.truncate(to.names);
        self.messages.truncate(to.messages);
        self.trace_states.truncate(to.trace_states);
        self.resources.truncate(to.resources);
        self.scopes.truncate(to.scopes);
    }

    /// Takes the spans behind the mark off the traces that were there before.
    fn forget_in_traces(&mut self, to: Mark) {
        let mut touched = Vec::new();
        for row in (to.spans..self.spans.trace.len()).rev() {
            let number = self.spans.trace[row] as usize;
            if number < to.traces {
                let trace = self.traces.get_mut(number);
                trace.last = self.spans.before[row];
                trace.spans -= 1;
                touched.push(number);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for trace in touched {
            let mut start = 0;
            let mut row = self.traces.get(trace).last;
            while row != NONE {
                start = earlier(start, self.spans.start[row as usize]);
                row = self.spans.before[row as usize];
            }
            self.traces.get_mut(trace).start = start;
        }
    }
}
