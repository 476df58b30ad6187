//! The keys and values of attributes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use periplus_model::{SpanGroup, Value};

use super::meter::Meter;
use super::search::{collect, traces_in};
use super::state::Snapshot;
use crate::attributes::{Listed, Smallest, visit};
use crate::{AttributeKey, Scope, StoreError, TimeRange};

pub(super) fn keys(
    snapshot: &Snapshot,
    (meter, cancelled): (&Meter, &AtomicBool),
    scope: Scope,
    prefix: &str,
    limit: usize,
) -> Result<Vec<AttributeKey>, StoreError> {
    let mut found = Smallest::new(limit);
    each_group(snapshot, (meter, cancelled), |group| {
        visit(group, scope, |scope, attribute| {
            if attribute.key.starts_with(prefix) {
                let key = attribute.key.clone();
                found.insert(AttributeKey { scope, key });
            }
        });
    })?;
    Ok(found.into_sorted().collect())
}

pub(super) fn values(
    snapshot: &Snapshot,
    (meter, cancelled): (&Meter, &AtomicBool),
    (key, scope): (&str, Scope),
    prefix: &str,
    limit: usize,
) -> Result<Vec<Value>, StoreError> {
    let mut found = Smallest::new(limit);
    each_group(snapshot, (meter, cancelled), |group| {
        visit(group, scope, |_, attribute| {
            if attribute.key == key
                && let Some(value) = Listed::of(&attribute.value, prefix)
            {
                found.insert(value);
            }
        });
    })?;
    Ok(found.into_sorted().map(Listed::into_value).collect())
}

fn each_group(
    snapshot: &Snapshot,
    (meter, cancelled): (&Meter, &AtomicBool),
    mut look_at: impl FnMut(&SpanGroup),
) -> Result<(), StoreError> {
    let (parts, ids) = traces_in(snapshot, TimeRange::ALL);
    for id in ids {
        meter.check(cancelled)?;
        let groups: Vec<Arc<SpanGroup>> = collect(&parts, id);
        groups.iter().for_each(|group| look_at(group));
    }
    Ok(())
}
