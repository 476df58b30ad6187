//! What all workers have counted.

use std::collections::BTreeMap;
use std::fmt;

use super::Value;

/// What is counted, and of what: Envoy's name in its parts, of which Prometheus makes labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) scope: Scope,
    /// The last part, such as `upstream_rq_total`.
    pub(crate) stat: String,
}

/// What is counted of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    /// `cluster`, `http`, `listener`, `tcp` and others; may be empty.
    pub(crate) kind: &'static str,
    /// The name of the cluster, and so on; may be empty.
    pub(crate) of: String,
    /// The prefix of the connection managers of a listener.
    pub(crate) http: Option<String>,
}

impl Scope {
    /// Of the proxy itself.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    pub(crate) fn of(kind: &'static str, of: &str) -> Self {
        Self {
            kind,
            of: of.to_owned(),
            http: None,
        }
    }

    /// Takes the prefix of a connection manager out of the name of an RBAC filter's counts.
    pub(super) fn split(name: &str) -> (Self, String) {
        let of_manager = name.strip_prefix("http.");
        match of_manager.and_then(|rest| Some((rest, rest.find(".rbac.")?))) {
            Some((rest, at)) => (Self::of("http", &rest[..at]), rest[at + 1..].to_owned()),
            None => (Self::plain(), name.to_owned()),
        }
    }
}

impl fmt::Display for Name {
    /// Envoy's whole name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { kind, of, http } = &self.scope;
        for part in [kind, of.as_str()] {
            if !part.is_empty() {
                write!(f, "{part}.")?;
            }
        }
        if let Some(prefix) = http {
            write!(f, "http.{prefix}.")?;
        }
        f.write_str(&self.stat)
    }
}

/// The sums over all workers.
#[derive(Debug, Default)]
pub(crate) struct Sums(BTreeMap<Name, Value>);

impl Sums {
    /// Adds to what is counted under that name already.
    pub(crate) fn add(&mut self, scope: &Scope, stat: &str, value: Value) {
        let name = Name {
            scope: scope.clone(),
            stat: stat.to_owned(),
        };
        match (self.0.get_mut(&name), value) {
            (Some(Value::Counter(sum)), Value::Counter(more))
            | (Some(Value::Gauge(sum)), Value::Gauge(more)) => *sum = sum.wrapping_add(more),
            (Some(Value::Histogram(sum)), Value::Histogram(more)) => sum.merge(&more),
            (_, value) => {
                self.0.insert(name, value);
            }
        }
    }

    /// Adds a gauge of the proxy itself.
    pub(crate) fn gauge(&mut self, stat: &str, value: u64) {
        self.add(&Scope::plain(), stat, Value::Gauge(value));
    }

    /// Adds a counter of the proxy itself.
    pub(crate) fn counter(&mut self, stat: &str, value: u64) {
        self.add(&Scope::plain(), stat, Value::Counter(value));
    }

    /// Takes off what counters had been at some time. One that is less than it was then has begun anew since.
    pub(crate) fn subtract(&mut self, before: &Self) {
        for (name, then) in &before.0 {
            if let (Some(Value::Counter(now)), Value::Counter(then)) = (self.0.get_mut(name), then)
            {
                *now = now.checked_sub(*then).unwrap_or(*now);
            }
        }
    }

    pub(crate) fn retain(&mut self, keeps: impl Fn(&Name, &Value) -> bool) {
        self.0.retain(|name, value| keeps(name, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Value)> {
        self.0.iter()
    }

    /// The counters and gauges by their whole names, sorted.
    pub(crate) fn numbers(&self) -> Vec<(String, u64)> {
        let number = |(name, value): (&Name, &Value)| match value {
            Value::Counter(number) | Value::Gauge(number) => Some((name.to_string(), *number)),
            Value::Histogram(_) => None,
        };
        let mut all: Vec<_> = self.0.iter().filter_map(number).collect();
        all.sort_unstable();
        all
    }
}
