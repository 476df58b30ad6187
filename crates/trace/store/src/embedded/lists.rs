//! The keys and values of attributes: from schemas, dictionaries and columns, never from spans.

use std::collections::HashSet;

use periplus_filter::Scalar;
use periplus_model::Value;

use super::meter::Meter;
use super::search::or_default;
use super::state::Snapshot;
use crate::attributes::{Listed, SCOPES, Smallest};
use crate::{AttributeKey, Scope, StoreError};

/// Keys that are remembered, so that they are not looked at again.
const MAX_SEEN: usize = 4096;

pub(super) fn keys(
    snapshot: &Snapshot,
    meter: &Meter,
    scope: Scope,
    prefix: &str,
    limit: usize,
) -> Result<Vec<AttributeKey>, StoreError> {
    let mut found = Smallest::new(limit);
    let parts: Vec<_> = snapshot.parts().collect();
    let mut scopes = SCOPES.to_vec();
    scopes.retain(|place| scope == Scope::Any || scope == *place);
    for scope in scopes {
        let mut seen: HashSet<String> = HashSet::new();
        for part in &parts {
            meter.check()?;
            let listed = part.attribute_keys(scope, meter, &mut |key| {
                if !key.starts_with(prefix) || seen.contains(key) {
                    return;
                }
                if seen.len() < MAX_SEEN {
                    seen.insert(key.to_owned());
                }
                let key = key.to_owned();
                let bytes = size_of::<AttributeKey>() + key.len();
                if found.insert(AttributeKey { scope, key }) {
                    meter.take(bytes as u64);
                }
            });
            or_default(&**part, listed);
        }
    }
    meter.check()?;
    Ok(found.into_sorted().collect())
}

pub(super) fn values(
    snapshot: &Snapshot,
    meter: &Meter,
    (key, scope): (&str, Scope),
    prefix: &str,
    limit: usize,
) -> Result<Vec<Value>, StoreError> {
    let mut found = Smallest::new(limit);
    for part in snapshot.parts() {
        meter.check()?;
        let mut see = |value: Scalar<'_>| {
            // Most are known, or behind the last that is wanted: no need to copy them.
            if let Scalar::Text(text) = value
                && found.is_behind(|last: &Listed| last.text() < text)
            {
                return;
            }
            if let Some(value) = Listed::of_scalar(value, prefix) {
                let bytes = value.bytes();
                if found.insert(value) {
                    meter.take(bytes as u64);
                }
            }
        };
        let listed = part.attribute_values((scope, key), (prefix, limit), meter, &mut see);
        or_default(&*part, listed);
    }
    meter.check()?;
    Ok(found.into_sorted().map(Listed::into_value).collect())
}
