use std::collections::HashMap;
use std::ops::Range;

use periplus_model::TraceId;

use super::{CallEdge, Calls, MINUTE_NANO};
use crate::build::Builder;
use crate::facts::Facts;
use crate::numbers::Numbers;

/// Looks at one trace after the other.
pub(crate) struct Collector<'b> {
    builder: &'b Builder,
    facts: Facts<'b>,
    /// Names of called sides that are no services of the builder; their numbers follow those of the
    /// services.
    peers: Vec<&'b str>,
    peer_numbers: HashMap<&'b str, u32>,
    /// Who called whom, by number: the caller above, the called below.
    pairs: Numbers,
    /// A minute above, a pair below.
    edges: Numbers,
    /// For each edge its calls and how many of them failed.
    counts: Vec<(u64, u64)>,
    unsettled: Vec<TraceId>,
    /// For each row of the trace the row of its parent, [`NONE`] for roots.
    parents: Vec<u32>,
    /// The rows of the trace, parents before their children.
    order: Vec<u32>,
    /// The nearest row upwards, itself included, that has a service.
    named: Vec<u32>,
    /// Whether the other side of the row's call is there.
    answered: Vec<bool>,
    /// The ids of the trace's spans.
    ids: Vec<u64>,
    row_of_id: HashMap<u64, u32>,
}

const NONE: u32 = u32::MAX;

/// With more spans a trace is looked through by hash.
const LARGE: usize = 32;

impl<'b> Collector<'b> {
    pub(crate) fn new(builder: &'b Builder) -> Self {
        Self {
            builder,
            facts: Facts::new(builder),
            peers: Vec::new(),
            peer_numbers: HashMap::new(),
            pairs: Numbers::default(),
            edges: Numbers::default(),
            counts: Vec::new(),
            unsettled: Vec::new(),
            parents: Vec::new(),
            order: Vec::new(),
            named: Vec::new(),
            answered: Vec::new(),
            ids: Vec::new(),
            row_of_id: HashMap::new(),
        }
    }

    /// Counts the calls of a trace. Its rows are sorted by start.
    pub(crate) fn add(&mut self, trace: u32, rows: &[u32]) {
        if self
            .find_parents(rows)
            .and_then(|()| self.find_order())
            .is_some()
        {
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
        self.ids.clear();
        (self.ids).extend(rows.iter().map(|row| spans.id[*row as usize]));
        let ids = &self.ids;
        let large = rows.len() > LARGE;
        if large {
            for (at, id) in (0..).zip(ids) {
                if self.row_of_id.insert(*id, at).is_some() {
                    return None;
                }
            }
        }
        for (at, row) in rows.iter().map(|row| *row as usize).enumerate() {
            if !large && ids[..at].contains(&ids[at]) {
                return None;
            }
            let find = |wanted: u64| match large {
                true => self.row_of_id.get(&wanted).copied(),
                false => (ids.iter().position(|id| *id == wanted)).map(|at| at as u32),
            };
            self.parents.push(match spans.parent[row] {
                0 => NONE,
                parent => find(parent)?,
            });
        }
        Some(())
    }

    /// Parents before their children: as they are sorted, unless clocks differ. `None` if some are
    /// below themselves.
    fn find_order(&mut self) -> Option<()> {
        let parents = &self.parents;
        self.order.clear();
        if (0..)
            .zip(parents)
            .all(|(at, parent)| *parent == NONE || *parent < at)
        {
            self.order.extend(0..parents.len() as u32);
            return Some(());
        }
        // The number of the walk upwards that came by first.
        let mut walked = vec![0_u32; parents.len()];
        for (walk, start) in (1..).zip(0..parents.len() as u32) {
            let first = self.order.len();
            let mut at = start;
            while at != NONE && walked[at as usize] == 0 {
                walked[at as usize] = walk;
                self.order.push(at);
                at = parents[at as usize];
            }
            if at != NONE && walked[at as usize] == walk {
                return None;
            }
            self.order[first..].reverse();
        }
        Some(())
    }

    fn between_rows(&mut self, rows: &[u32]) {
        let spans = &self.builder.spans;
        self.named.clear();
        self.named.resize(rows.len(), NONE);
        self.answered.clear();
        self.answered.resize(rows.len(), false);
        for next in 0..self.order.len() {
            let at = self.order[next] as usize;
            let row = rows[at];
            let service = self.facts.service(row);
            let caller = match self.parents[at] {
                NONE => NONE,
                parent => self.named[parent as usize],
            };
            if self.facts.service_name(service).is_empty() {
                self.named[at] = caller;
                continue;
            }
            self.named[at] = at as u32;
            let start = spans.start[row as usize];
            let kind = self.facts.kind(row);
            if caller == NONE {
                if kind.receives()
                    && !spans.has_parent(row as usize)
                    && let Some(peer) = self.facts.peer(row)
                {
                    let failed = self.facts.failed(row);
                    let peer = self.peer_number(peer);
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
        for next in (0..self.order.len()).rev() {
            let at = self.order[next] as usize;
            let row = rows[at];
            let service = self.facts.service(row);
            if !self.facts.kind(row).sends() || self.facts.service_name(service).is_empty() {
                continue;
            }
            if !self.answered[at]
                && let Some(peer) = self.facts.peer(row)
            {
                self.answered[at] = true;
                let failed = self.facts.failed(row);
                let start = self.builder.spans.start[row as usize];
                let peer = self.peer_number(peer);
                self.count(start, service, peer, failed);
            }
            let parent = self.parents[at];
            if parent != NONE && self.facts.service(rows[parent as usize]) == service {
                self.answered[parent as usize] |= self.answered[at];
            }
        }
    }

    /// The number of the service of this name, or one behind all services.
    fn peer_number(&mut self, name: &'b str) -> u32 {
        self.facts.service_named(name).unwrap_or_else(|| {
            let next = self.facts.service_count() + self.peers.len() as u32;
            let number = *self.peer_numbers.entry(name).or_insert(next);
            if number == next {
                self.peers.push(name);
            }
            number
        })
    }

    fn name_of(&self, number: u32) -> &'b str {
        match number.checked_sub(self.facts.service_count()) {
            Some(peer) => self.peers[peer as usize],
            None => self.facts.service_name(number),
        }
    }

    fn count(&mut self, start: u64, parent: u32, child: u32, failed: bool) {
        let pair = self.pairs.of(u64::from(parent) << 32 | u64::from(child));
        // The minutes of 64-bit times have 29 bits.
        let edge = self.edges.of((start / MINUTE_NANO) << 32 | u64::from(pair)) as usize;
        if edge == self.counts.len() {
            self.counts.push((0, 0));
        }
        let (calls, errors) = &mut self.counts[edge];
        *calls += 1;
        *errors += u64::from(failed);
    }

    pub(crate) fn finish(self) -> Calls {
        let edges = self.edges.keys.iter().zip(&self.counts);
        let mut edges: Vec<CallEdge> = edges
            .map(|(key, (calls, errors))| {
                let pair = self.pairs.keys[*key as u32 as usize];
                CallEdge {
                    start_unix_nano: (key >> 32) * MINUTE_NANO,
                    parent: self.name_of((pair >> 32) as u32).to_owned(),
                    child: self.name_of(pair as u32).to_owned(),
                    calls: *calls,
                    errors: *errors,
                }
            })
            .collect();
        edges.sort_unstable();
        Calls {
            edges,
            unsettled: self.unsettled,
        }
    }
}

impl Builder {
    /// The calls between services that these of its traces tell of, as far as its first `rows` spans
    /// say: what a segment of them would say.
    pub fn calls(&self, traces: Range<usize>, rows: usize) -> Calls {
        let mut collector = Collector::new(self);
        let mut of_trace = Vec::new();
        for trace in traces.start..traces.end.min(self.trace_count()) {
            of_trace.clear();
            self.rows_of_trace(trace, rows, &mut of_trace);
            of_trace.sort_by_key(|row| self.spans.start[*row as usize]);
            if !of_trace.is_empty() {
                collector.add(trace as u32, &of_trace);
            }
        }
        collector.finish()
    }
}
