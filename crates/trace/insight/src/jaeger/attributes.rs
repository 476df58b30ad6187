use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use periplus_model::{Attribute, Resource, Value};

use super::{AdjustedGroup, spans_mut};

/// Attributes by key, everywhere; events by name. Equal ones stay in the order of arrival.
pub(super) fn sort(groups: &mut [AdjustedGroup]) {
    change_shared(groups.iter_mut().map(|g| &mut g.resource), |resource| {
        sort_by_key(&mut resource.attributes);
    });
    change_shared(groups.iter_mut().map(|g| &mut g.scope), |scope| {
        sort_by_key(&mut scope.attributes);
    });
    for adjusted in spans_mut(groups) {
        let span = &mut adjusted.span;
        sort_by_key(&mut span.attributes);
        span.events.sort_by(|a, b| a.name.cmp(&b.name));
        for event in &mut span.events {
            sort_by_key(&mut event.attributes);
        }
        for link in &mut span.links {
            sort_by_key(&mut link.attributes);
        }
    }
}

fn sort_by_key(attributes: &mut [Attribute]) {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}

/// Old clients send IPv4 addresses as numbers.
pub(super) fn spell_out_addresses(groups: &mut [AdjustedGroup]) {
    change_shared(groups.iter_mut().map(|g| &mut g.resource), |resource| {
        spell_out(&mut resource.attributes);
    });
    for adjusted in spans_mut(groups) {
        spell_out(&mut adjusted.span.attributes);
    }
}

fn spell_out(attributes: &mut [Attribute]) {
    for attribute in attributes {
        if !matches!(attribute.key.as_str(), "ip" | "peer.ipv4") {
            continue;
        }
        let number = match attribute.value {
            // The low 32 bits: clients with signed integers send high addresses as negative ones.
            Value::Int(n) => n as u32,
            Value::Double(n) => n as i64 as u32,
            _ => continue,
        };
        attribute.value = Value::String(Ipv4Addr::from_bits(number).to_string());
    }
}

const LIBRARY_KEYS: [&str; 5] = [
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
    "telemetry.distro.name",
    "telemetry.distro.version",
];

/// Attributes that describe the library belong to the resource, where Jaeger's UI shows them under
/// "Process".
pub(super) fn move_to_resource(groups: &mut [AdjustedGroup]) {
    let mut resources: HashMap<*const Resource, Resource> = HashMap::new();
    for group in groups.iter_mut() {
        for adjusted in &mut group.spans {
            let attributes = &mut adjusted.span.attributes;
            if !attributes.iter().any(is_library) {
                continue;
            }
            let resource = resources
                .entry(Arc::as_ptr(&group.resource))
                .or_insert_with(|| Resource::clone(&group.resource));
            for attribute in attributes
                .extract_if(.., |a| is_library(a))
                .collect::<Vec<_>>()
            {
                match resource.attribute(&attribute.key) {
                    None => resource.attributes.push(attribute),
                    Some(known) if *known == attribute.value => {}
                    Some(_) => {
                        adjusted.warnings.push(format!(
                            "conflicting values between Span and Resource for attribute {}",
                            attribute.key
                        ));
                        attributes.push(attribute);
                    }
                }
            }
        }
    }
    let resources: HashMap<_, _> = resources
        .into_iter()
        .map(|(was, now)| (was, Arc::new(now)))
        .collect();
    for group in groups {
        if let Some(resource) = resources.get(&Arc::as_ptr(&group.resource)) {
            group.resource = resource.clone();
        }
    }
}

fn is_library(attribute: &Attribute) -> bool {
    LIBRARY_KEYS.contains(&attribute.key.as_str())
}

/// A link without a trace id leads nowhere.
pub(super) fn remove_empty_links(groups: &mut [AdjustedGroup]) {
    for adjusted in spans_mut(groups) {
        let links = &mut adjusted.span.links;
        let before = links.len();
        links.retain(|link| !link.trace_id.is_zero());
        let removed = before - links.len();
        let warning = || "Invalid span link removed".to_owned();
        adjusted
            .warnings
            .extend(std::iter::repeat_with(warning).take(removed));
    }
}

/// Changes each thing once, however many groups share it.
fn change_shared<'a, T: Clone + 'a>(
    shared: impl Iterator<Item = &'a mut Arc<T>>,
    change: impl Fn(&mut T),
) {
    let mut changed: HashMap<*const T, Arc<T>> = HashMap::new();
    let mut kept = Vec::new();
    for shared in shared {
        let new = changed.entry(Arc::as_ptr(shared)).or_insert_with(|| {
            let mut new = T::clone(shared);
            change(&mut new);
            Arc::new(new)
        });
        // Kept until the end: while it lives, nothing else can have its address.
        kept.push(std::mem::replace(shared, new.clone()));
    }
}
