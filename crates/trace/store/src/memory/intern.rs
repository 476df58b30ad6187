use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use periplus_model::{Attribute, Resource, Scope, Value};

/// Keeps one copy of equal things. Senders repeat their resource in every batch.
#[derive(Debug)]
pub(super) struct Interner<T> {
    by_hash: HashMap<u64, Interned<T>>,
}

#[derive(Debug)]
struct Interned<T> {
    shared: Arc<T>,
    uses: usize,
}

impl<T: Content> Interner<T> {
    pub(super) fn new() -> Self {
        Self {
            by_hash: HashMap::new(),
        }
    }

    /// The copy to use, and whether it is one more in memory. Of different things with the same
    /// hash, which is a rarity or an attack, the first is shared and the others are not.
    pub(super) fn take(&mut self, new: Arc<T>) -> (Arc<T>, bool) {
        match self.by_hash.entry(hash(&*new)) {
            Entry::Vacant(slot) => {
                slot.insert(Interned {
                    shared: new.clone(),
                    uses: 1,
                });
                (new, true)
            }
            Entry::Occupied(mut slot) => {
                let known = slot.get_mut();
                if Arc::ptr_eq(&known.shared, &new) || *known.shared == *new {
                    known.uses += 1;
                    (known.shared.clone(), false)
                } else {
                    (new, true)
                }
            }
        }
    }

    /// Used once less; whether it is one less in memory.
    pub(super) fn release(&mut self, shared: &Arc<T>) -> bool {
        let Entry::Occupied(mut slot) = self.by_hash.entry(hash(&**shared)) else {
            return true;
        };
        let known = slot.get_mut();
        if !Arc::ptr_eq(&known.shared, shared) {
            return true;
        }
        known.uses -= 1;
        if known.uses > 0 {
            return false;
        }
        slot.remove();
        true
    }
}

/// What can be interned.
pub(super) trait Content: PartialEq {
    /// Feeds the hash; equal things feed the same.
    fn feed(&self, h: &mut DefaultHasher);
}

fn hash(content: &impl Content) -> u64 {
    let mut h = DefaultHasher::new();
    content.feed(&mut h);
    h.finish()
}

impl Content for Resource {
    fn feed(&self, h: &mut DefaultHasher) {
        feed_attributes(&self.attributes, h);
    }
}

impl Content for Scope {
    fn feed(&self, h: &mut DefaultHasher) {
        (&self.name, &self.version).hash(h);
        feed_attributes(&self.attributes, h);
    }
}

fn feed_attributes(attributes: &[Attribute], h: &mut DefaultHasher) {
    attributes.len().hash(h);
    for attribute in attributes {
        attribute.key.hash(h);
        feed_value(&attribute.value, h);
    }
}

/// Doubles are left to equality, since different bits can be equal numbers.
fn feed_value(value: &Value, h: &mut DefaultHasher) {
    match value {
        Value::String(v) => v.hash(h),
        Value::Int(v) => v.hash(h),
        Value::Bool(v) => v.hash(h),
        Value::Bytes(v) => v.hash(h),
        Value::Array(values) => values.iter().for_each(|value| feed_value(value, h)),
        Value::Map(attributes) => feed_attributes(attributes, h),
        Value::Empty | Value::Double(_) => {}
    }
}
