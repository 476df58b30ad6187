use std::collections::HashMap;

use periplus_model::{Span, SpanId, SpanKind};

use super::{Spans, identical};

/// Where each span hangs, and what is odd about that.
pub(super) struct Parents {
    /// The parent of each span; `None` on roots. Free of circles.
    pub(super) parent: Vec<Option<u32>>,
    /// What is odd about each span.
    pub(super) trouble: Vec<Trouble>,
}

/// What is odd about a span's ids: a set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Trouble(u8);

impl Trouble {
    pub(super) const PARENT_MISSING: Self = Self(1);
    pub(super) const SHARED_ID: Self = Self(2);
    pub(super) const DUPLICATE: Self = Self(4);
    const OWN_PARENT: Self = Self(8);
    const CIRCLE: Self = Self(16);
    /// The id is shared, and not by a client with its server.
    const REUSED_ID: Self = Self(32);

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds a sentence for each trouble that a reader could not guess from the flags.
    pub(super) fn warn(self, span: &Span, warnings: &mut Vec<String>) {
        if self.contains(Self::DUPLICATE) {
            warnings.push("an identical copy of this span arrived before".to_owned());
        }
        if self.contains(Self::REUSED_ID) {
            warnings.push(format!(
                "span id {} is used by another span too; spans that name it as their parent may be shown under the wrong one",
                span.span_id
            ));
        }
        if self.contains(Self::OWN_PARENT) {
            warnings.push("this span names itself as its parent; shown as a root".to_owned());
        }
        if self.contains(Self::CIRCLE) {
            warnings.push(format!(
                "parent span {} is a descendant of this span; shown as a root",
                span.parent_span_id.unwrap_or_default()
            ));
        }
    }
}

impl Parents {
    pub(super) fn find(spans: &Spans<'_>) -> Self {
        let mut trouble = vec![Trouble::default(); spans.len()];
        let ids = Ids::of(spans, &mut trouble);
        let mut parent: Vec<Option<u32>> = (0..spans.len())
            .map(|i| ids.parent_of(spans, i, &mut trouble[i]))
            .collect();
        break_circles(spans, &mut parent, &mut trouble);
        for &(copy, original) in &ids.copies {
            let (copy, original) = (copy as usize, original as usize);
            parent[copy] = parent[original];
            if trouble[original].contains(Trouble::PARENT_MISSING) {
                trouble[copy].set(Trouble::PARENT_MISSING);
            }
        }
        Self { parent, trouble }
    }
}

/// All spans by id.
struct Ids<'a> {
    /// Sorted by id; the spans of one id in the order of arrival, identical copies left out.
    by_id: Vec<(SpanId, u32)>,
    /// Identical copies, each with its original.
    copies: Vec<(u32, u32)>,
    /// The client half of each shared id that has one.
    clients: HashMap<SpanId, u32>,
    /// The name of each group's service.
    services: Vec<&'a str>,
}

impl<'a> Ids<'a> {
    fn of(spans: &Spans<'a>, trouble: &mut [Trouble]) -> Self {
        let mut sorted: Vec<(SpanId, u32)> = (0_u32..)
            .zip(0..spans.len())
            .map(|(i, at)| (spans.span(at).span_id, i))
            .collect();
        sorted.sort_unstable();
        let mut ids = Self {
            by_id: Vec::with_capacity(sorted.len()),
            copies: Vec::new(),
            clients: HashMap::new(),
            services: (spans.groups.iter())
                .map(|group| group.resource.service_name())
                .collect(),
        };
        for same in sorted.chunk_by(|a, b| a.0 == b.0) {
            let first = ids.by_id.len();
            if same.len() == 1 {
                ids.by_id.push(same[0]);
                continue;
            }
            for (&entry, original) in same.iter().zip(identical::originals(spans, same)) {
                match original {
                    Some(original) => {
                        trouble[entry.1 as usize].set(Trouble::DUPLICATE);
                        ids.copies.push((entry.1, original));
                    }
                    None => ids.by_id.push(entry),
                }
            }
            if let Some(client) = mark_shared(spans, &ids.by_id[first..], trouble) {
                ids.clients.insert(same[0].0, client);
            }
        }
        ids
    }

    fn parent_of(&self, spans: &Spans<'a>, i: usize, trouble: &mut Trouble) -> Option<u32> {
        if trouble.contains(Trouble::DUPLICATE) {
            return None;
        }
        let span = spans.span(i);
        if span.kind == SpanKind::Server
            && trouble.contains(Trouble::SHARED_ID)
            && let Some(&client) = self.clients.get(&span.span_id)
        {
            return Some(client);
        }
        let id = span.parent_span_id.filter(|id| !id.is_zero())?;
        if id == span.span_id {
            trouble.set(Trouble::OWN_PARENT);
            return None;
        }
        let parent = self.best_parent(spans, id, self.services[spans.group_of(i)]);
        if parent.is_none() {
            trouble.set(Trouble::PARENT_MISSING);
        }
        parent
    }

    /// Of the spans with this id, the one whose child a span of this service most likely is: its own
    /// service's server half, something else of its own service, any server half, the first.
    fn best_parent(&self, spans: &Spans<'a>, id: SpanId, service: &str) -> Option<u32> {
        // A trace with thousands of spans under one id is broken; looking at all of them for each
        // child would be quadratic.
        const LOOK_AT: usize = 16;
        let rank = |&(_, i): &(SpanId, u32)| {
            let own = self.services[spans.group_of(i as usize)] == service;
            let server = spans.span(i as usize).kind == SpanKind::Server;
            match (own, server) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            }
        };
        match self.with_id(id) {
            [only] => Some(only.1),
            several => (several.iter().take(LOOK_AT))
                .min_by_key(|entry| rank(entry))
                .map(|entry| entry.1),
        }
    }

    fn with_id(&self, id: SpanId) -> &[(SpanId, u32)] {
        let from = self.by_id.partition_point(|entry| entry.0 < id);
        let rest = &self.by_id[from..];
        match rest {
            // Nearly always: no search for the end.
            [first, second, ..] if first.0 == id && second.0 != id => &rest[..1],
            _ => &rest[..rest.partition_point(|entry| entry.0 == id)],
        }
    }
}

/// Marks different spans with the same id; finds the client among them. A client and its servers
/// are Zipkin's shared span; anything else is a mistake of the sender's.
fn mark_shared(
    spans: &Spans<'_>,
    same_id: &[(SpanId, u32)],
    trouble: &mut [Trouble],
) -> Option<u32> {
    if same_id.len() < 2 {
        return None;
    }
    let kind = |i: u32| spans.span(i as usize).kind;
    let client = (same_id.iter().map(|entry| entry.1)).find(|&i| kind(i) == SpanKind::Client);
    for &(_, i) in same_id {
        let is_half = client.is_some() && (client == Some(i) || kind(i) == SpanKind::Server);
        let trouble = &mut trouble[i as usize];
        trouble.set(Trouble::SHARED_ID);
        if !is_half {
            trouble.set(Trouble::REUSED_ID);
        }
    }
    client
}

/// Cuts every circle above its earliest span.
fn break_circles(spans: &Spans<'_>, parent: &mut [Option<u32>], trouble: &mut [Trouble]) {
    const NEW: u32 = 0;
    // The number of the walk that came by first.
    let mut walked = vec![NEW; parent.len()];
    for (walk, start) in (1_u32..).zip(0..parent.len()) {
        let mut at = start;
        while walked[at] == NEW {
            walked[at] = walk;
            match parent[at] {
                Some(above) => at = above as usize,
                None => break,
            }
        }
        let met_itself = walked[at] == walk && parent[at].is_some();
        if !met_itself {
            continue;
        }
        let next = |i: usize| parent[i].filter(|&above| above as usize != at);
        let circle = std::iter::successors(Some(at), |&i| next(i).map(|above| above as usize));
        let earliest = circle
            .min_by_key(|&i| (spans.span(i).start_unix_nano, i))
            .unwrap_or(at);
        parent[earliest] = None;
        trouble[earliest].set(Trouble::CIRCLE);
    }
}
