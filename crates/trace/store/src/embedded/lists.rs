//! The keys and values of attributes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use periplus_model::{SpanGroup, Value};

use super::meter::Meter;
use super::search::{collect, or_default, traces_in};
use super::state::Snapshot;
use crate::attributes::{Listed, SCOPES, Smallest, visit};
use crate::{AttributeKey, Scope, StoreError, TimeRange};

/// Of segments from their schemas, in which keys that only a few spans of very many have are not
/// listed one by one; of tables from their spans.
pub(super) fn keys(
    snapshot: &Snapshot,
    (meter, cancelled): (&Meter, &AtomicBool),
    scope: Scope,
    prefix: &str,
    limit: usize,
) -> Result<Vec<AttributeKey>, StoreError> {
    let mut found = Smallest::new(limit);
    for part in snapshot.parts() {
        meter.check(cancelled)?;
        for scope in SCOPES
            .into_iter()
            .filter(|place| scope == Scope::Any || scope == *place)
        {
            let listed = part.attribute_keys(scope);
            for key in or_default(&*part, listed).into_iter().flatten() {
                if key.starts_with(prefix) {
                    found.insert(AttributeKey { scope, key });
                }
            }
        }
    }
    let tables = Snapshot {
        tables: snapshot.tables.clone(),
        ..Snapshot::default()
    };
    each_group(&tables, (meter, cancelled), |group| {
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
