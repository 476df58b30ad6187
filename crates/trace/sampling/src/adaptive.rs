//! Adaptive sampling: probabilities by service and operation that bring about the same number of
//! sampled traces per second, whatever the traffic.
//!
//! Jaeger's algorithm, with two differences. Roots of clients that do not say how they were sampled
//! (OpenTelemetry's SDKs) count too, with the probability that their service was told last: what
//! never asked is not sampled by us. And operations are forgotten once no root of theirs has come for
//! as long as buckets are kept.

mod tables;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use periplus_wire::sampling::{Base, OperationProbability, OperationSampling, Strategy};
use serde::{Deserialize, Serialize};

use tables::{Bucket, Counted, Table};

/// Parameters; names and defaults are Jaeger's.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveOptions {
    /// Sampled traces per second of each operation.
    pub target_samples_per_second: f64,
    /// How far from the target nothing is changed, as a share of it.
    pub delta_tolerance: f64,
    /// How long a bucket is, and how often probabilities are computed.
    pub calculation_interval: Duration,
    /// Buckets that are kept.
    pub aggregation_buckets: usize,
    /// Buckets that are used.
    pub calculation_buckets: usize,
    /// How old a bucket is before it is used: spans come late.
    pub calculation_delay: Duration,
    /// The probability of an operation that was never seen.
    pub initial_sampling_probability: f64,
    /// The least probability.
    pub min_sampling_probability: f64,
    /// Traces per second that a client samples of each operation in any case.
    pub min_samples_per_second: f64,
    /// Ours: services at most.
    pub max_services: usize,
    /// Ours: operations of one service at most.
    pub max_operations: usize,
}

impl Default for AdaptiveOptions {
    fn default() -> Self {
        Self {
            target_samples_per_second: 1.0,
            delta_tolerance: 0.3,
            calculation_interval: Duration::from_secs(60),
            aggregation_buckets: 10,
            calculation_buckets: 1,
            calculation_delay: Duration::from_secs(120),
            initial_sampling_probability: 0.001,
            min_sampling_probability: 1e-5,
            min_samples_per_second: 1.0 / 60.0,
            max_services: 1_000,
            max_operations: 500,
        }
    }
}

/// How a root span says that it was sampled: `sampler.type` and `sampler.param`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// `probabilistic`.
    Probabilistic(f64),
    /// `lowerbound`: in vain for the count, but the client obeys this probability.
    LowerBound(f64),
    /// `const`, `ratelimiting` and all others: not sampled as we told.
    Other,
    /// It does not say.
    Untold,
}

/// Counts roots, and computes probabilities from the counts.
#[derive(Debug)]
pub struct Adaptive {
    options: AdaptiveOptions,
    /// By service, then by operation.
    probabilities: Table<Probability>,
    current: Bucket,
    /// The newest last, each with its end.
    buckets: VecDeque<(u64, Bucket)>,
    /// When the current bucket ends.
    ends_unix_nano: Option<u64>,
    stats: AdaptiveStats,
}

/// What is known of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Probability {
    /// What clients are to be told.
    probability: f64,
    /// What they were told last; `None` if nobody has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<f64>,
    /// Buckets since its last root.
    #[serde(default)]
    idle: usize,
}

/// What it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdaptiveStats {
    /// Roots counted.
    pub roots: u64,
    /// Roots that were not sampled as we told, and so not counted.
    pub foreign_roots: u64,
    /// Roots of services and operations beyond the limits.
    pub overflow_roots: u64,
    /// How often probabilities were computed.
    pub calculations: u64,
    /// Services known.
    pub services: u64,
    /// Operations known.
    pub operations: u64,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveState {
    /// By service, then by operation.
    services: BTreeMap<String, BTreeMap<String, Probability>>,
    /// The services that have asked.
    #[serde(default)]
    asked: BTreeMap<String, f64>,
}

impl Adaptive {
    /// Without memories.
    pub fn new(options: AdaptiveOptions) -> Self {
        Self::resume(options, AdaptiveState::default())
    }

    /// With what another knew, within the limits.
    pub fn resume(options: AdaptiveOptions, state: AdaptiveState) -> Self {
        let mut probabilities = Table::new(options.max_services, options.max_operations);
        for (service, operations) in state.services {
            for (operation, known) in operations {
                let sound = (0.0..=1.0).contains(&known.probability);
                if sound && let Some(entry) = probabilities.entry(&service, &operation) {
                    *entry = Some(known);
                }
            }
        }
        for (service, told) in state.asked {
            probabilities.ask(&service, told);
        }
        Self {
            current: Bucket::new(options.max_services, options.max_operations),
            options,
            probabilities,
            buckets: VecDeque::new(),
            ends_unix_nano: None,
            stats: AdaptiveStats::default(),
        }
    }

    /// Counts a root span.
    pub fn record(&mut self, service: &str, operation: &str, sampler: Sampler) {
        if service.is_empty() || operation.is_empty() {
            return;
        }
        let (probability, counts) = match sampler {
            Sampler::Probabilistic(probability) => (probability, true),
            Sampler::LowerBound(probability) => (probability, false),
            Sampler::Untold => match self.told(service, operation) {
                Some(told) => (told, true),
                None => return self.stats.foreign_roots += 1,
            },
            Sampler::Other => return self.stats.foreign_roots += 1,
        };
        let Some(entry) = self.current.entry(service, operation) else {
            self.stats.overflow_roots += 1;
            return;
        };
        self.stats.roots += 1;
        entry
            .get_or_insert_with(Counted::default)
            .add(probability, counts);
    }

    /// What a service is told; from now on its roots count with that.
    pub fn strategy(&mut self, service: &str) -> Strategy {
        let initial = self.options.initial_sampling_probability;
        self.probabilities.ask(service, initial);
        let mut per_operation = Vec::new();
        if let Some(operations) = self.probabilities.operations_mut(service) {
            for (operation, known) in operations.iter_mut() {
                if let Some(known) = known {
                    known.told = Some(known.probability);
                    per_operation.push(OperationProbability {
                        operation: operation.clone(),
                        probability: known.probability,
                    });
                }
            }
        }
        Strategy {
            base: Base::Probabilistic(initial),
            operations: Some(OperationSampling {
                default_probability: initial,
                lower_bound_per_second: self.options.min_samples_per_second,
                upper_bound_per_second: 0.0,
                per_operation,
            }),
        }
    }

    /// Closes the current bucket if it is over, and computes the probabilities then; whether it was.
    pub fn tick(&mut self, now_unix_nano: u64) -> bool {
        let interval = nanos(self.options.calculation_interval).max(1);
        let Some(ends) = self.ends_unix_nano else {
            self.ends_unix_nano = Some(now_unix_nano.saturating_add(interval));
            return false;
        };
        if now_unix_nano < ends {
            return false;
        }
        let fresh = Bucket::new(self.options.max_services, self.options.max_operations);
        let closed = std::mem::replace(&mut self.current, fresh);
        self.buckets.push_back((now_unix_nano, closed));
        while self.buckets.len() > self.options.aggregation_buckets.max(1) {
            self.buckets.pop_front();
        }
        self.ends_unix_nano = Some(now_unix_nano.saturating_add(interval));
        self.calculate(now_unix_nano);
        true
    }

    /// When the current bucket ends; `None` before the first [`Self::tick`].
    pub fn next_tick_unix_nano(&self) -> Option<u64> {
        self.ends_unix_nano
    }

    /// What is to survive a restart.
    pub fn state(&self) -> AdaptiveState {
        let mut state = AdaptiveState::default();
        for (service, operations) in self.probabilities.iter() {
            let known = (operations.iter())
                .filter_map(|(operation, known)| Some((operation.clone(), (*known)?)));
            state.services.insert(service.clone(), known.collect());
        }
        state.asked = self.probabilities.asked().clone();
        state
    }

    /// What it has done.
    pub fn stats(&self) -> AdaptiveStats {
        AdaptiveStats {
            services: self.probabilities.iter().count() as u64,
            operations: (self.probabilities.iter())
                .map(|(_, operations)| operations.len() as u64)
                .sum(),
            ..self.stats
        }
    }

    /// What the client of a root that says nothing obeys: what its service was told last.
    fn told(&self, service: &str, operation: &str) -> Option<f64> {
        let default = self.probabilities.asked().get(service).copied()?;
        let known = self.probabilities.get(service, operation);
        Some(known.and_then(|known| known.told).unwrap_or(default))
    }

    fn calculate(&mut self, now_unix_nano: u64) {
        let delay = nanos(self.options.calculation_delay);
        let due = |ends: u64| ends.saturating_add(delay) <= now_unix_nano;
        let used: Vec<&Bucket> = (self.buckets.iter().rev())
            .filter(|(ends, _)| due(*ends))
            .map(|(_, bucket)| bucket)
            .take(self.options.calculation_buckets.max(1))
            .collect();
        let Some(newest) = used.first() else {
            return;
        };
        self.stats.calculations += 1;
        let seconds = self.options.calculation_interval.as_secs_f64().max(1e-9);
        let weights = weights(used.len());
        let mut next = Vec::new();
        for (service, operation) in Bucket::keys(&used) {
            let qps: f64 = (used.iter().zip(&weights))
                .map(|(bucket, weight)| {
                    let counted = bucket.get(service, operation);
                    counted.map_or(0.0, |counted| counted.count as f64) / seconds * weight
                })
                .sum();
            let known = self.probabilities.get(service, operation);
            let old = known.map_or(self.options.initial_sampling_probability, |known| {
                known.probability
            });
            let obeys = match newest.get(service, operation) {
                Some(counted) => counted.has(old) || known.is_none(),
                None => known.is_some_and(|known| known.idle == 0),
            };
            next.push((
                service.to_owned(),
                operation.to_owned(),
                if obeys { self.adapt(old, qps) } else { old },
                known.and_then(|known| known.told),
            ));
        }
        self.probabilities.age(self.options.aggregation_buckets);
        for (service, operation, probability, told) in next {
            if let Some(entry) = self.probabilities.entry(&service, &operation) {
                *entry = Some(Probability {
                    probability,
                    told,
                    idle: 0,
                });
            } else {
                self.stats.overflow_roots += 1;
            }
        }
    }

    fn adapt(&self, old: f64, qps: f64) -> f64 {
        let target = self.options.target_samples_per_second;
        if (qps - target).abs() / target < self.options.delta_tolerance {
            return old;
        }
        // Up to twice as much at once, since what is not sampled cannot be measured.
        let factor = if qps > 0.0 {
            (target / qps).min(2.0)
        } else {
            2.0
        };
        (old * factor).clamp(self.options.min_sampling_probability, 1.0)
    }
}

/// Weights of so many buckets, the newest first: the fourth powers of n, n - 1, …, 1, with the sum 1.
fn weights(n: usize) -> Vec<f64> {
    let powers: Vec<f64> = (1..=n).rev().map(|i| (i as f64).powi(4)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
