use std::cmp::Reverse;
use std::collections::HashMap;

use crate::{Segment, Trace};

/// A service's or an operation's part of the critical path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The service.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// How long the request waited for it.
    pub nano: u64,
    /// In how many of its spans.
    pub spans: u64,
}

/// What the request waited for: the time on the critical path by service and operation, the
/// largest first. The sum is the duration of the trace's root.
pub fn breakdown(trace: &Trace, path: &[Segment]) -> Vec<Share> {
    let mut by_operation: HashMap<(&str, &str), Vec<(usize, u64)>> = HashMap::new();
    for segment in path {
        let row = &trace.rows[segment.row];
        let operation = (trace.service(row), trace.span(row).name.as_str());
        let nano = segment.end_unix_nano - segment.start_unix_nano;
        by_operation
            .entry(operation)
            .or_default()
            .push((segment.row, nano));
    }
    let mut shares: Vec<Share> = by_operation
        .into_iter()
        .map(|((service, operation), mut parts)| {
            let nano = parts.iter().map(|(_, nano)| nano).sum();
            parts.sort_unstable();
            parts.dedup_by_key(|(row, _)| *row);
            Share {
                service: service.to_owned(),
                operation: operation.to_owned(),
                nano,
                spans: parts.len() as u64,
            }
        })
        .collect();
    shares.sort_unstable_by(|a, b| {
        let key = |share: &Share| Reverse(share.nano);
        (key(a), &a.service, &a.operation).cmp(&(key(b), &b.service, &b.operation))
    });
    shares
}
