use std::collections::HashSet;

use periplus_model::{SpanGroup, TraceId, Value};

use super::MemoryStore;
use super::search::{Cursor, SPANS_AT_ONCE, let_others_run};
use crate::attributes::{Listed, Smallest, visit};
use crate::{AttributeKey, Scope, TimeRange};

pub(super) async fn keys(
    store: &MemoryStore,
    scope: Scope,
    prefix: &str,
    limit: usize,
) -> Vec<AttributeKey> {
    let mut found = Smallest::new(limit);
    each_group(store, TimeRange::ALL, |group| {
        visit(group, scope, |scope, attribute| {
            if attribute.key.starts_with(prefix) {
                let key = attribute.key.clone();
                found.insert(AttributeKey { scope, key });
            }
        });
    })
    .await;
    found.into_sorted().collect()
}

pub(super) async fn values(
    store: &MemoryStore,
    key: &str,
    scope: Scope,
    prefix: &str,
    limit: usize,
) -> Vec<Value> {
    let mut found = Smallest::new(limit);
    each_group(store, TimeRange::ALL, |group| {
        visit(group, scope, |_, attribute| {
            if attribute.key == key
                && let Some(value) = Listed::of(&attribute.value, prefix)
            {
                found.insert(value);
            }
        });
    })
    .await;
    found.into_sorted().map(Listed::into_value).collect()
}

/// Looks at all groups of all traces with a span in the range, giving others a turn now and then.
pub(super) async fn each_group(
    store: &MemoryStore,
    range: TimeRange,
    mut look_at: impl FnMut(&SpanGroup),
) {
    let mut cursor = Cursor::new(store, range, None);
    // A trace to which an earlier span arrives meanwhile comes by again.
    let mut seen: HashSet<TraceId> = HashSet::new();
    let mut spans = 0;
    while let Some((candidate, last_of_chunk)) = cursor.next() {
        spans += candidate.spans();
        if seen.insert(candidate.place.1) {
            candidate.groups.iter().for_each(|group| look_at(group));
        }
        if last_of_chunk || spans >= SPANS_AT_ONCE {
            spans = 0;
            let_others_run().await;
        }
    }
}
