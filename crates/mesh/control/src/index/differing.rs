//! What two lists of resources do not have in common.

use std::sync::Arc;

use periplus_resources::{Endpoints, Meta, ServiceEntry};

use super::{Entry, Service};

/// Whether anything but the endpoints differs.
pub(super) fn is_other_service(one: &Service, other: &Service) -> bool {
    let is_same_spec = one.is_of_machine == other.is_of_machine
        && (one.spec == other.spec
            || without_endpoints(&one.spec) == without_endpoints(&other.spec));
    !is_same_spec || !is_same_meta(&one.meta, &other.meta)
}

pub(super) fn has_same_endpoints(one: &Service, other: &Service) -> bool {
    Arc::ptr_eq(&one.endpoints, &other.endpoints) || one.endpoints == other.endpoints
}

/// The entries that are in one of the lists only, or not the same in both.
pub(super) fn differing<'a, T: PartialEq>(
    old: &'a [Entry<T>],
    new: &'a [Entry<T>],
) -> Vec<&'a Entry<T>> {
    // Most of them are the same, in the same places.
    let is_same = |(one, other): &(&Entry<T>, &Entry<T>)| is_same_entry(one, other);
    let first = old.iter().zip(new).take_while(is_same).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev());
    let last = last.take_while(is_same).count();
    let (old, new) = (&old[..old.len() - last], &new[..new.len() - last]);
    let key = |entry: &'a Entry<T>| (&entry.meta.namespace, &entry.meta.name);
    let by_name = |entries: &'a [Entry<T>]| {
        let mut entries: Vec<&Entry<T>> = entries.iter().collect();
        entries.sort_by(|one, other| key(one).cmp(&key(other)));
        entries.into_iter().peekable()
    };
    let (mut old, mut new) = (by_name(old), by_name(new));
    let mut found = Vec::new();
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(one), Some(other)) if key(one) == key(other) => {
                if !is_same_entry(one, other) {
                    found.extend([*one, *other]);
                }
                old.next();
                new.next();
            }
            (Some(one), Some(other)) if key(one) < key(other) => found.extend(old.next()),
            (Some(_), None) => found.extend(old.next()),
            (_, Some(_)) => found.extend(new.next()),
        }
    }
}

/// Whether both have the same in the same order.
pub(super) fn is_same<T: PartialEq>(one: &[Entry<T>], other: &[Entry<T>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same_entry(a, b))
}

fn is_same_entry<T: PartialEq>(one: &Entry<T>, other: &Entry<T>) -> bool {
    is_same_meta(&one.meta, &other.meta) && one.spec == other.spec
}

/// Wherever it was read: a line more before it changes nothing.
fn is_same_meta(one: &Meta, other: &Meta) -> bool {
    let Meta {
        kind,
        name,
        namespace,
        labels,
        annotations,
        created,
        generation,
        source: _,
    } = one;
    *kind == other.kind
        && *name == other.name
        && *namespace == other.namespace
        && *labels == other.labels
        && *annotations == other.annotations
        && *created == other.created
        && *generation == other.generation
}

fn without_endpoints(spec: &ServiceEntry) -> ServiceEntry {
    ServiceEntry {
        endpoints: Endpoints::Listed([].into()),
        ..spec.clone()
    }
}
