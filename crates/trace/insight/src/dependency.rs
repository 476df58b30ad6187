use std::collections::BTreeMap;

use periplus_model::{Span, SpanKind, Value};

use crate::{Flags, Trace};

/// Calls from one service to another, within one trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The calling service.
    pub parent: String,
    /// The called service.
    pub child: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
}

/// Who called whom, sorted by caller, then by callee. One call is counted once, no matter whether
/// the client, the server or both reported it. It is
///
/// * a span below a span of another service (spans without a service are looked through);
/// * a server or consumer below a client or producer of the same service: a call to oneself;
/// * a client or producer below which no other side appears, if it names its peer
///   (`service.peer.name` or `peer.service`): a call to something that reports no spans. Where a
///   client of a service lies below another one, as with a sidecar below an app, they are one call;
/// * a server or consumer without a parent that names its peer: a call by something that reports
///   none.
///
/// A call failed if the called side's span did; of a client and its server, if either did. Where a
/// client appears below a foreign service, whatever came between reported nothing: such a call is
/// never a failure, as in Zipkin's linker, since the client's own call may be what failed.
pub fn dependencies(trace: &Trace) -> Vec<Dependency> {
    dependencies_where(trace, |_| true)
}

/// As [`dependencies`], but only of calls whose span counts: that of the called side, or of the
/// caller where the called side reports none.
pub fn dependencies_where(trace: &Trace, counts: impl Fn(&Span) -> bool) -> Vec<Dependency> {
    let groups = trace.groups.iter();
    let calls = Calls {
        trace,
        services: groups.map(|group| group.resource.service_name()).collect(),
        counts,
    };
    let mut edges = Edges::default();
    let answered = calls.between_rows(&mut edges);
    calls.to_silent_peers(answered, &mut edges);
    edges.into_sorted()
}

struct Calls<'a, F> {
    trace: &'a Trace,
    /// The name of each group's service.
    services: Vec<&'a str>,
    counts: F,
}

impl<'a, F: Fn(&Span) -> bool> Calls<'a, F> {
    /// Adds the calls of which both sides are in the trace, and those of silent callers. Returns for
    /// each row whether the other side of its call is in the trace.
    fn between_rows(&self, edges: &mut Edges<'a>) -> Vec<bool> {
        let rows = &self.trace.rows;
        // The nearest row, itself included, that has a service.
        let mut named: Vec<Option<usize>> = vec![None; rows.len()];
        let mut answered = vec![false; rows.len()];
        for (i, row) in rows.iter().enumerate() {
            let caller = row.parent.and_then(|parent| named[parent]);
            let service = self.services[row.group];
            named[i] = if service.is_empty() { caller } else { Some(i) };
            if service.is_empty() || row.flags.contains(Flags::DUPLICATE) {
                continue;
            }
            let span = self.trace.span(row);
            let failed = row.flags.contains(Flags::ERROR);
            let Some(caller) = caller else {
                if receives(span.kind)
                    && span.parent_span_id.is_none()
                    && (self.counts)(span)
                    && let Some(peer) = peer(span)
                {
                    edges.add(peer, service, failed);
                }
                continue;
            };
            let caller_sends = sends(self.trace.span(&rows[caller]).kind);
            let caller_service = self.services[rows[caller].group];
            if caller_service == service && !(caller_sends && receives(span.kind)) {
                continue;
            }
            answered[caller] = true;
            if (self.counts)(span) {
                let caller_failed = caller_sends && rows[caller].flags.contains(Flags::ERROR);
                let failed = !sends(span.kind) && (failed || caller_failed);
                edges.add(caller_service, service, failed);
            }
        }
        answered
    }

    /// Adds the calls whose other side reports nothing but has a name.
    fn to_silent_peers(&self, mut answered: Vec<bool>, edges: &mut Edges<'a>) {
        // Children come after their parents, so backwards the innermost client comes first.
        for (i, row) in self.trace.rows.iter().enumerate().rev() {
            let service = self.services[row.group];
            let span = self.trace.span(row);
            if service.is_empty() || row.flags.contains(Flags::DUPLICATE) || !sends(span.kind) {
                continue;
            }
            if !answered[i]
                && let Some(peer) = peer(span)
            {
                answered[i] = true;
                if (self.counts)(span) {
                    edges.add(service, peer, row.flags.contains(Flags::ERROR));
                }
            }
            if let Some(parent) = row.parent
                && self.services[self.trace.rows[parent].group] == service
            {
                answered[parent] |= answered[i];
            }
        }
    }
}

const fn sends(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Client | SpanKind::Producer)
}

const fn receives(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Server | SpanKind::Consumer)
}

fn peer(span: &Span) -> Option<&str> {
    ["service.peer.name", "peer.service"]
        .into_iter()
        .find_map(|key| span.attribute(key).and_then(Value::as_str))
        .filter(|name| !name.is_empty())
}

#[derive(Default)]
struct Edges<'a>(BTreeMap<(&'a str, &'a str), (u64, u64)>);

impl<'a> Edges<'a> {
    fn add(&mut self, parent: &'a str, child: &'a str, failed: bool) {
        let (calls, errors) = self.0.entry((parent, child)).or_default();
        *calls += 1;
        *errors += u64::from(failed);
    }

    fn into_sorted(self) -> Vec<Dependency> {
        self.0
            .into_iter()
            .map(|((parent, child), (calls, errors))| Dependency {
                parent: parent.to_owned(),
                child: child.to_owned(),
                calls,
                errors,
            })
            .collect()
    }
}
