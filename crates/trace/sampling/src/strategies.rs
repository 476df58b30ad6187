//! Jaeger's file of sampling strategies.

mod file;

use std::collections::HashMap;

use periplus_wire::sampling::{Base, OperationProbability, OperationSampling, Strategy};

use crate::{ConfigError, Warning};
use file::{File, Kind, OperationEntry, ServiceEntry};

/// What a file of strategies says, with all inheritance resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategies {
    default: Strategy,
    services: HashMap<String, Strategy>,
}

impl Strategies {
    /// Without a file: this share of everything.
    pub fn probabilistic(probability: f64) -> Self {
        Self {
            default: Strategy::probabilistic(probability),
            services: HashMap::new(),
        }
    }

    /// Reads a file. `file` is its name for the messages; `default_probability` is what holds where
    /// the file says nothing.
    ///
    /// * A service gets the default strategy's operations as well as its own; its own win.
    /// * A service's own probability is that of its operations that are not listed.
    /// * A service without a type has the default strategy's.
    /// * A type that is neither `probabilistic` nor `ratelimiting`, and a `ratelimiting` operation
    ///   (which no client understands), are left out with a warning, as Jaeger does.
    ///
    /// # Errors
    ///
    /// If it is no JSON of that shape, a probability is not between 0 and 1, or a service is there
    /// twice: with the line and the column.
    pub fn parse(
        file: &str,
        text: &str,
        default_probability: f64,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let parsed = File::parse(file, text)?;
        let mut reader = Reader {
            default_probability,
            warnings: Vec::new(),
        };
        let fallback = Base::Probabilistic(default_probability);
        let default = match &parsed.default_strategy {
            Some(entry) => reader.strategy("the default strategy", entry, fallback),
            None => Strategy::probabilistic(default_probability),
        };
        let mut services = HashMap::new();
        for entry in &parsed.service_strategies {
            let who = format!("service '{}'", entry.service);
            let own = reader.strategy(&who, entry, default.base);
            let inherited = inherit(own, default.operations.as_ref());
            services.insert(entry.service.clone(), inherited);
        }
        Ok((Self { default, services }, reader.warnings))
    }

    /// What a service is told; those that nobody has named get the default.
    pub fn of(&self, service: &str) -> &Strategy {
        self.services.get(service).unwrap_or(&self.default)
    }

    /// How many services have a strategy of their own.
    pub fn services(&self) -> usize {
        self.services.len()
    }
}

/// Adds the default strategy's operations to a service's own.
fn inherit(mut own: Strategy, default: Option<&OperationSampling>) -> Strategy {
    let Some(default) = default else {
        return own;
    };
    match &mut own.operations {
        Some(operations) => {
            for theirs in &default.per_operation {
                let known = |ours: &OperationProbability| ours.operation == theirs.operation;
                if !operations.per_operation.iter().any(known) {
                    operations.per_operation.push(theirs.clone());
                }
            }
        }
        None => {
            let mut operations = default.clone();
            if let Base::Probabilistic(probability) = own.base {
                operations.default_probability = probability;
            }
            own.operations = Some(operations);
        }
    }
    own
}

struct Reader {
    default_probability: f64,
    warnings: Vec<Warning>,
}

impl Reader {
    fn strategy(&mut self, who: &str, entry: &ServiceEntry, inherited: Base) -> Strategy {
        let base = match &entry.kind {
            Kind::Absent => inherited,
            Kind::Probabilistic => Base::Probabilistic(entry.param),
            Kind::RateLimiting => Base::RateLimiting(truncate(entry.param)),
            Kind::Unknown(found) => {
                self.unknown_type(who, found);
                Base::Probabilistic(self.default_probability)
            }
        };
        if entry.operation_strategies.is_empty() {
            return Strategy {
                base,
                operations: None,
            };
        }
        let default_probability = match base {
            Base::Probabilistic(probability) => probability,
            Base::RateLimiting(_) => self.default_probability,
        };
        let per_operation = (entry.operation_strategies.iter())
            .filter_map(|entry| self.operation(who, entry))
            .collect();
        Strategy {
            base,
            operations: Some(OperationSampling {
                default_probability,
                per_operation,
                ..OperationSampling::default()
            }),
        }
    }

    fn operation(&mut self, who: &str, entry: &OperationEntry) -> Option<OperationProbability> {
        let probability = match &entry.kind {
            Kind::Probabilistic => entry.param,
            Kind::RateLimiting => {
                self.warnings.push(Warning(format!(
                    "{who}: operation '{}' cannot be ratelimiting, clients know probabilities of \
                     operations only: it gets the service's",
                    entry.operation
                )));
                return None;
            }
            Kind::Absent | Kind::Unknown(_) => {
                let found = match &entry.kind {
                    Kind::Unknown(found) => found.as_str(),
                    _ => "",
                };
                self.unknown_type(&format!("{who}: operation '{}'", entry.operation), found);
                self.default_probability
            }
        };
        Some(OperationProbability {
            operation: entry.operation.clone(),
            probability,
        })
    }

    fn unknown_type(&mut self, who: &str, found: &str) {
        self.warnings.push(Warning(format!(
            "{who}: '{found}' is no type of strategy: use probabilistic or ratelimiting; until \
             then its probability is {}",
            self.default_probability
        )));
    }
}

/// As Go turns a float into an int32, except that what is too large stays the largest.
fn truncate(param: f64) -> i32 {
    param as i32
}

#[cfg(test)]
mod tests;
