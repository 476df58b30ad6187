use std::collections::HashMap;

use periplus_model::TraceId;

use super::{CallEdge, Calls, MINUTE_NANO};
use crate::build::Builder;
use crate::facts::Facts;

/// Looks at one trace after the other.
pub(crate) struct Collector<'b> {
    builder: &'b Builder,
    facts: Facts<'b>,
    edges: HashMap<(u64, &'b str, &'b str), (u64, u64)>,
    unsettled: Vec<TraceId>,
    /// For each row of the trace the row of its parent, [`NONE`] for roots.
    parents: Vec<u32>,
    /// The nearest row upwards, itself included, that has a service.
    named: Vec<u32>,
    /// Whether the other side of the row's call is there.
    answered: Vec<bool>,
    row_of_id: HashMap<u64, u32>,
}

const NONE: u32 = u32::MAX;

impl<'b> Collector<'b> {
    pub(crate) fn new(builder: &'b Builder) -> Self {
        Self {
            builder,
            facts: Facts::new(builder),
            edges: HashMap::new(),
            unsettled: Vec::new(),
            parents: Vec::new(),
            named: Vec::new(),
            answered: Vec::new(),
            row_of_id: HashMap::new(),
        }
    }

    /// Counts the calls of a trace. Its rows are sorted by start.
    pub(crate) fn add(&mut self, trace: u32, rows: &[u32]) {
        if self.find_parents(rows).is_some() {
            self.between_rows(rows);
            self.silent_peers(rows);
        } else {
            self.unsettled.push(self.builder.trace_id(trace as usize));
        }
    }

    /// `None` if the parents do not tell all.
    fn find_parents(&mut self, rows: &[u32]) -> Option<()> {
        let spans = &self.builder.spans;
        self.parents.clear();
        self.row_of_id.clear();
        let large = rows.len() > 32;
        for (at, row) in rows.iter().map(|row| *row as usize).enumerate() {
            let above = &rows[..at];
            let find = |of: &HashMap<u64, u32>, id: u64| match large {
                true => of.get(&id).copied(),
                false => (above.iter().rposition(|row| spans.id[*row as usize] == id))
                    .map(|at| at as u32),
            };
            let (id, parent) = (spans.id[row], spans.parent[row]);
            if find(&self.row_of_id, id).is_some() {
                return None;
            }
            self.parents.push(match parent {
                0 => NONE,
                parent => find(&self.row_of_id, parent)?,
            });
            if large {
                self.row_of_id.insert(id, at as u32);
            }
        }
        Some(())
    }

    fn between_rows(&mut self, rows: &[u32]) {
        let spans = &self.builder.spans;
        self.named.clear();
        self.answered.clear();
        self.answered.resize(rows.len(), false);
        for (at, &row) in rows.iter().enumerate() {
            let service = self.facts.service(row);
            let caller = match self.parents[at] {
                NONE => NONE,
                parent => self.named[parent as usize],
            };
            self.named.push(if service.is_empty() {
                caller
            } else {
                at as u32
            });
            if service.is_empty() {
                continue;
            }
            let start = spans.start[row as usize];
            let kind = self.facts.kind(row);
            if caller == NONE {
                if kind.receives()
                    && !spans.has_parent(row as usize)
                    && let Some(peer) = self.facts.peer(row)
                {
                    let failed = self.facts.failed(row);
                    self.count(start, peer, service, failed);
                }
                continue;
            }
            let caller_row = rows[caller as usize];
            let caller_sends = self.facts.kind(caller_row).sends();
            let caller_service = self.facts.service(caller_row);
            if caller_service == service && !(caller_sends && kind.receives()) {
                continue;
            }
            self.answered[caller as usize] = true;
            let failed = !kind.sends()
                && (self.facts.failed(row) || caller_sends && self.facts.failed(caller_row));
            self.count(start, caller_service, service, failed);
        }
    }

    fn silent_peers(&mut self, rows: &[u32]) {
        for (at, &row) in rows.iter().enumerate().rev() {
            let service = self.facts.service(row);
            if service.is_empty() || !self.facts.kind(row).sends() {
                continue;
            }
            if !self.answered[at]
                && let Some(peer) = self.facts.peer(row)
            {
                self.answered[at] = true;
                let failed = self.facts.failed(row);
                let start = self.builder.spans.start[row as usize];
                self.count(start, service, peer, failed);
            }
            let parent = self.parents[at];
            if parent != NONE && self.facts.service(rows[parent as usize]) == service {
                self.answered[parent as usize] |= self.answered[at];
            }
        }
    }

    fn count(&mut self, start: u64, parent: &'b str, child: &'b str, failed: bool) {
        let minute = start / MINUTE_NANO;
        let (calls, errors) = self.edges.entry((minute, parent, child)).or_default();
        *calls += 1;
        *errors += u64::from(failed);
    }

    pub(crate) fn finish(self) -> Calls {
        let edges = self.edges.into_iter();
        let mut edges: Vec<CallEdge> = edges
            .map(|((minute, parent, child), (calls, errors))| CallEdge {
                start_unix_nano: minute * MINUTE_NANO,
                parent: parent.to_owned(),
                child: child.to_owned(),
                calls,
                errors,
            })
            .collect();
        edges.sort_unstable();
        Calls {
            edges,
            unsettled: self.unsettled,
        }
    }
}
