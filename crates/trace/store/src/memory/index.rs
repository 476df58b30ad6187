use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::size_of;
use std::sync::Arc;

use periplus_model::{Resource, Scope, Span, SpanGroup, SpanKind, TraceId};

use super::arrival::{Arrival, earlier};
use super::intern::Interner;
use super::size;
use crate::{Operation, StoreError, StoreStats};

/// Where a trace stands among all: by the start of its earliest span, then by id.
pub(super) type Place = (u64, TraceId);

/// The groups of a trace. Readers share it; a writer that meets a reader copies the pointers.
pub(super) type Groups = Arc<Vec<Arc<SpanGroup>>>;

/// Everything behind the lock.
#[derive(Debug)]
pub(super) struct Index {
    traces: HashMap<TraceId, Entry>,
    by_start: BTreeSet<Place>,
    by_arrival: BTreeMap<u64, TraceId>,
    services: BTreeMap<Arc<str>, Service>,
    resources: Interner<Resource>,
    scopes: Interner<Scope>,
    arrivals: u64,
    stats: StoreStats,
}

#[derive(Debug)]
struct Entry {
    groups: Groups,
    /// The start of its earliest span; of spans without one, if it has no others.
    start: u64,
    last_start: u64,
    /// When something last arrived for it, as a running number.
    arrival: u64,
    spans: u64,
    /// Without resources and scopes.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Service {
    traces: BTreeSet<Place>,
    /// How many spans have each operation.
    operations: BTreeMap<Operation, u64>,
}

/// What one trace takes besides its groups: an entry here, in both orders, and its vector.
pub(super) const TRACE_BYTES: usize = size::table_entry(size_of::<(TraceId, Entry)>())
    + size::tree_entry(size_of::<Place>())
    + size::tree_entry(size_of::<(u64, TraceId)>())
    + 2 * size_of::<usize>()
    + size_of::<Vec<Arc<SpanGroup>>>();

/// What a trace takes in the index of each of its services.
pub(super) const PLACE_BYTES: usize = size::tree_entry(size_of::<Place>());

/// A trace that a search may want.
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) groups: Groups,
    pub(super) last_start: u64,
    /// Without resources and scopes.
    pub(super) bytes: u64,
}

impl Index {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            traces: HashMap::new(),
            by_start: BTreeSet::new(),
            by_arrival: BTreeMap::new(),
            services: BTreeMap::new(),
            resources: Interner::new(),
            scopes: Interner::new(),
            arrivals: 0,
            stats: StoreStats {
                max_bytes,
                ..StoreStats::default()
            },
        }
    }

    /// Takes what has arrived and evicts what no longer fits. Returns the evicted groups, so that
    /// the caller can drop them when the lock is free.
    pub(super) fn insert(&mut self, arrivals: Vec<Arrival>) -> Result<Vec<Groups>, StoreError> {
        self.check(&arrivals)?;
        for arrival in arrivals {
            let held = self.traces.get(&arrival.id).map_or(0, |entry| entry.bytes);
            if held + arrival.bytes > self.most_bytes_of_trace() {
                self.stats.refused_spans += arrival.spans;
            } else {
                self.stats.accepted_spans += arrival.spans;
                self.add(arrival);
            }
        }
        let mut evicted = Vec::new();
        while self.stats.bytes > self.stats.max_bytes
            && let Some((_, id)) = self.by_arrival.pop_first()
        {
            evicted.extend(self.evict(id));
        }
        Ok(evicted)
    }

    pub(super) fn groups(&self, id: TraceId) -> Option<Groups> {
        self.traces.get(&id).map(|entry| entry.groups.clone())
    }

    /// At most `count` traces below this place, the newest first; of one service only, if one is
    /// given.
    pub(super) fn below(
        &self,
        place: Place,
        service: Option<&str>,
        count: usize,
    ) -> Vec<Candidate> {
        let places = match service {
            None => &self.by_start,
            Some(service) => match self.services.get(service) {
                Some(service) => &service.traces,
                None => return Vec::new(),
            },
        };
        places
            .range(..place)
            .rev()
            .take(count)
            .filter_map(|&place| {
                let entry = self.traces.get(&place.1)?;
                Some(Candidate {
                    place,
                    groups: entry.groups.clone(),
                    last_start: entry.last_start,
                    bytes: entry.bytes,
                })
            })
            .collect()
    }

    pub(super) fn services(&self) -> Vec<String> {
        (self.services.keys())
            .filter(|name| !name.is_empty())
            .map(|name| String::from(&**name))
            .collect()
    }

    pub(super) fn operations(&self, service: &str, kind: Option<SpanKind>) -> Vec<Operation> {
        (self.services.get(service).into_iter())
            .flat_map(|service| service.operations.keys())
            .filter(|operation| kind.is_none_or(|kind| operation.kind == kind))
            .cloned()
            .collect()
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.stats
    }

    fn most_bytes_of_trace(&self) -> u64 {
        self.stats.max_bytes / 2
    }

    fn check(&self, arrivals: &[Arrival]) -> Result<(), StoreError> {
        let found_bytes = arrivals.iter().map(Arrival::most_bytes).sum();
        if found_bytes > self.stats.max_bytes {
            return Err(StoreError::TooLarge {
                what: "in all",
                found_bytes,
                max_bytes: self.stats.max_bytes,
            });
        }
        let largest = arrivals.iter().map(|arrival| arrival.bytes).max();
        match largest {
            Some(found_bytes) if found_bytes > self.most_bytes_of_trace() => {
                Err(StoreError::TooLarge {
                    what: "for one trace",
                    found_bytes,
                    max_bytes: self.most_bytes_of_trace(),
                })
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, arrival: Arrival) {
        let id = arrival.id;
        self.arrivals += 1;
        self.grow(arrival.bytes);
        let (start, last_start, was) = match self.traces.get(&id) {
            Some(entry) => (
                earlier(entry.start, arrival.start),
                entry.last_start.max(arrival.last_start),
                Some((entry.start, entry.arrival)),
            ),
            None => (arrival.start, arrival.last_start, None),
        };
        let groups: Vec<Arc<SpanGroup>> = (arrival.groups.into_iter())
            .map(|group| Arc::new(self.intern(group)))
            .collect();
        match was {
            None => {
                self.stats.traces += 1;
                self.grow(TRACE_BYTES as u64);
            }
            Some((was_start, was_arrival)) => {
                self.by_arrival.remove(&was_arrival);
                if start != was_start {
                    self.move_trace(id, was_start, start);
                }
            }
        }
        self.by_start.insert((start, id));
        self.by_arrival.insert(self.arrivals, id);
        for group in &groups {
            self.index_group((start, id), group);
        }
        self.stats.spans += arrival.spans;
        let entry = self.traces.entry(id).or_insert_with(|| Entry {
            groups: Groups::default(),
            start,
            last_start,
            arrival: 0,
            spans: 0,
            bytes: 0,
        });
        entry.start = start;
        entry.last_start = last_start;
        entry.arrival = self.arrivals;
        entry.spans += arrival.spans;
        entry.bytes += arrival.bytes;
        Arc::make_mut(&mut entry.groups).extend(groups);
    }

    fn evict(&mut self, id: TraceId) -> Option<Groups> {
        let entry = self.traces.remove(&id)?;
        self.by_start.remove(&(entry.start, id));
        for group in entry.groups.iter() {
            self.forget_group((entry.start, id), group);
        }
        self.shrink(entry.bytes + TRACE_BYTES as u64);
        self.stats.traces -= 1;
        self.stats.spans -= entry.spans;
        self.stats.evicted_traces += 1;
        self.stats.evicted_spans += entry.spans;
        Some(entry.groups)
    }

    fn intern(&mut self, group: SpanGroup) -> SpanGroup {
        let (resource, new_resource) = self.resources.take(group.resource);
        let (scope, new_scope) = self.scopes.take(group.scope);
        if new_resource {
            self.grow(size::resource(&resource) as u64);
        }
        if new_scope {
            self.grow(size::scope(&scope) as u64);
        }
        SpanGroup {
            resource,
            scope,
            spans: group.spans,
        }
    }

    fn index_group(&mut self, place: Place, group: &SpanGroup) {
        let name = group.resource.service_name();
        let mut bytes = 0;
        let service = match self.services.get_mut(name) {
            Some(service) => service,
            None => {
                bytes += service_bytes(name);
                self.services.entry(name.into()).or_default()
            }
        };
        if service.traces.insert(place) {
            bytes += PLACE_BYTES;
        }
        for span in &group.spans {
            let operation = operation(span);
            *service.operations.entry(operation).or_insert_with(|| {
                bytes += operation_bytes(span);
                0
            }) += 1;
        }
        self.grow(bytes as u64);
    }

    /// Undoes what [`Self::index_group`] and [`Self::intern`] did.
    fn forget_group(&mut self, place: Place, group: &SpanGroup) {
        let name = group.resource.service_name();
        let mut bytes = 0;
        if let Some(service) = self.services.get_mut(name) {
            if service.traces.remove(&place) {
                bytes += PLACE_BYTES;
            }
            for span in &group.spans {
                let operation = operation(span);
                if let Some(count) = service.operations.get_mut(&operation) {
                    *count -= 1;
                    if *count == 0 {
                        bytes += operation_bytes(span);
                        service.operations.remove(&operation);
                    }
                }
            }
            if service.traces.is_empty() && service.operations.is_empty() {
                bytes += service_bytes(name);
                self.services.remove(name);
            }
        }
        if self.resources.release(&group.resource) {
            bytes += size::resource(&group.resource);
        }
        if self.scopes.release(&group.scope) {
            bytes += size::scope(&group.scope);
        }
        self.shrink(bytes as u64);
    }

    fn move_trace(&mut self, id: TraceId, from: u64, to: u64) {
        self.by_start.remove(&(from, id));
        let Some(entry) = self.traces.get(&id) else {
            return;
        };
        for group in entry.groups.iter() {
            if let Some(service) = self.services.get_mut(group.resource.service_name())
                && service.traces.remove(&(from, id))
            {
                service.traces.insert((to, id));
            }
        }
    }

    fn grow(&mut self, bytes: u64) {
        self.stats.bytes += bytes;
    }

    fn shrink(&mut self, bytes: u64) {
        self.stats.bytes -= bytes;
    }
}

fn operation(span: &Span) -> Operation {
    Operation {
        name: span.name.clone(),
        kind: span.kind,
    }
}

/// What an operation takes, if its service has no other span with it.
pub(super) fn operation_bytes(span: &Span) -> usize {
    size::tree_entry(size_of::<(Operation, u64)>()) + size::owned_text(&span.name)
}

/// What a service takes, if no other trace has it.
pub(super) fn service_bytes(name: &str) -> usize {
    size::tree_entry(size_of::<(Arc<str>, Service)>()) + size::owned_text(name)
}
