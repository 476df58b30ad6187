use std::collections::BTreeMap;

use periplus_model::{SpanKind, Value};

use crate::{Flags, Row, Trace};

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
///   (`service.peer.name` or `peer.service`): a call to something that reports no spans;
/// * a server or consumer without a parent that names its peer: a call by something that reports
///   none.
///
/// A call failed if the called side's span did; of a client and its server, if either did. Where a
/// client appears below a foreign service, whatever came between reported nothing: such a call is
/// never a failure, as in Zipkin's linker, since the client's own call may be what failed.
pub fn dependencies(trace: &Trace) -> Vec<Dependency> {
    let rows = &trace.rows;
    let mut edges = Edges::default();
    let services: Vec<&str> = trace
        .groups
        .iter()
        .map(|g| g.resource.service_name())
        .collect();
    // The nearest row, itself included, that has a service; and whether the other side of a
    // client's or producer's call is in the trace.
    let mut named: Vec<Option<usize>> = vec![None; rows.len()];
    let mut answered = vec![false; rows.len()];
    for (i, row) in rows.iter().enumerate() {
        let caller = row.parent.and_then(|parent| named[parent]);
        let service = services[row.group];
        named[i] = if service.is_empty() { caller } else { Some(i) };
        if service.is_empty() || row.flags.contains(Flags::DUPLICATE) {
            continue;
        }
        let kind = trace.span(row).kind;
        let Some(caller) = caller else {
            if receives(kind)
                && row.parent.is_none()
                && trace.span(row).parent_span_id.is_none()
                && let Some(peer) = peer(trace, row)
            {
                edges.add(peer, service, row.flags.contains(Flags::ERROR));
            }
            continue;
        };
        let caller_kind = trace.span(&rows[caller]).kind;
        let caller_service = services[rows[caller].group];
        let is_call = caller_service != service || (sends(caller_kind) && receives(kind));
        if !is_call {
            continue;
        }
        if let Some(parent) = row.parent {
            answered[parent] = true;
        }
        answered[caller] = true;
        let failed = !sends(kind)
            && (row.flags.contains(Flags::ERROR)
                || (sends(caller_kind) && rows[caller].flags.contains(Flags::ERROR)));
        edges.add(caller_service, service, failed);
    }
    for (i, row) in rows.iter().enumerate() {
        let service = services[row.group];
        if !answered[i]
            && !service.is_empty()
            && !row.flags.contains(Flags::DUPLICATE)
            && sends(trace.span(row).kind)
            && let Some(peer) = peer(trace, row)
        {
            edges.add(service, peer, row.flags.contains(Flags::ERROR));
        }
    }
    edges.into_sorted()
}

const fn sends(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Client | SpanKind::Producer)
}

const fn receives(kind: SpanKind) -> bool {
    matches!(kind, SpanKind::Server | SpanKind::Consumer)
}

fn peer<'a>(trace: &'a Trace, row: &Row) -> Option<&'a str> {
    let span = trace.span(row);
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
