use std::collections::{BTreeMap, BTreeSet};

use super::Probability;

/// Values by service and operation, within limits.
#[derive(Debug)]
pub(super) struct Table<T> {
    max_services: usize,
    max_operations: usize,
    services: BTreeMap<String, BTreeMap<String, Option<T>>>,
    /// The services that have asked, and what they were told of operations that were not known.
    asked: BTreeMap<String, f64>,
}

impl<T> Table<T> {
    pub(super) const fn new(max_services: usize, max_operations: usize) -> Self {
        Self {
            max_services,
            max_operations,
            services: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The place of an operation; `None` if there is no room for it.
    pub(super) fn entry(&mut self, service: &str, operation: &str) -> Option<&mut Option<T>> {
        if !self.services.contains_key(service) {
            if self.services.len() >= self.max_services {
                return None;
            }
            self.services.insert(service.to_owned(), BTreeMap::new());
        }
        let operations = self.services.get_mut(service)?;
        if !operations.contains_key(operation) {
            if operations.len() >= self.max_operations {
                return None;
            }
            operations.insert(operation.to_owned(), None);
        }
        operations.get_mut(operation)
    }

    pub(super) fn get(&self, service: &str, operation: &str) -> Option<&T> {
        self.services.get(service)?.get(operation)?.as_ref()
    }

    pub(super) fn operations_mut(
        &mut self,
        service: &str,
    ) -> Option<&mut BTreeMap<String, Option<T>>> {
        self.services.get_mut(service)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, Option<T>>)> {
        self.services.iter()
    }

    /// Somebody of this service has asked.
    pub(super) fn ask(&mut self, service: &str, default: f64) {
        if self.asked.len() < self.max_services || self.asked.contains_key(service) {
            self.asked.insert(service.to_owned(), default);
        }
    }

    pub(super) const fn asked(&self) -> &BTreeMap<String, f64> {
        &self.asked
    }
}

impl Table<Probability> {
    /// Everything is a bucket older; what is idle for longer than that is forgotten.
    pub(super) fn age(&mut self, max_idle: usize) {
        for operations in self.services.values_mut() {
            operations.retain(|_, known| match known {
                Some(known) => {
                    known.idle += 1;
                    known.idle <= max_idle
                }
                None => false,
            });
        }
        self.services.retain(|_, operations| !operations.is_empty());
    }
}

/// The roots of one interval.
pub(super) type Bucket = Table<Counted>;

/// The most probabilities that are told apart in one bucket.
const MAX_PROBABILITIES: usize = 10;

/// The roots of one operation.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) count: u64,
    /// The probabilities that they were sampled with, in millionths.
    millionths: Vec<u64>,
}

impl Counted {
    pub(super) fn add(&mut self, probability: f64, counts: bool) {
        self.count += u64::from(counts);
        let rounded = millionths(probability);
        if !self.millionths.contains(&rounded) && self.millionths.len() < MAX_PROBABILITIES {
            self.millionths.push(rounded);
        }
    }

    /// Whether some root was sampled with this probability.
    pub(super) fn has(&self, probability: f64) -> bool {
        self.millionths.contains(&millionths(probability))
    }
}

/// As Jaeger compares probabilities.
fn millionths(probability: f64) -> u64 {
    (probability * 1e6).round() as u64
}

impl Bucket {
    /// Every operation in one of the buckets.
    pub(super) fn keys<'a>(buckets: &[&'a Self]) -> BTreeSet<(&'a str, &'a str)> {
        (buckets.iter())
            .flat_map(|bucket| bucket.iter())
            .flat_map(|(service, operations)| {
                operations
                    .keys()
                    .map(move |operation| (service.as_str(), operation.as_str()))
            })
            .collect()
    }
}
