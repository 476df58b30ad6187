use std::cmp::Ordering;
use std::collections::BTreeSet;

use periplus_filter::Scalar;
use periplus_model::{Attribute, Span, SpanGroup, Value};

use crate::Scope;

/// A key under which some span has an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeKey {
    /// Where it is; never [`Scope::Any`].
    pub scope: Scope,
    /// The key.
    pub key: String,
}

/// The scopes that a span has attributes in, in the order in which keys are listed.
pub(crate) const SCOPES: [Scope; 5] = [
    Scope::Span,
    Scope::Resource,
    Scope::Instrumentation,
    Scope::Event,
    Scope::Link,
];

/// The smallest of many, each once.
pub(crate) struct Smallest<T> {
    found: BTreeSet<T>,
    limit: usize,
}

impl<T: Ord> Smallest<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            found: BTreeSet::new(),
            limit,
        }
    }

    /// Whether it was new, and small enough.
    pub(crate) fn insert(&mut self, item: T) -> bool {
        if self.is_behind(|last| *last <= item) {
            return false;
        }
        let is_new = self.found.insert(item);
        if self.found.len() > self.limit {
            self.found.pop_last();
        }
        is_new
    }

    /// Whether there are enough already, and something comes behind the last of them.
    pub(crate) fn is_behind(&self, last: impl FnOnce(&T) -> bool) -> bool {
        self.found.len() >= self.limit && self.found.last().is_none_or(last)
    }

    pub(crate) fn into_sorted(self) -> impl Iterator<Item = T> {
        self.found.into_iter()
    }
}

/// A scalar value, in the order in which values are listed: by text, then by type.
pub(crate) struct Listed {
    text: String,
    value: Value,
}

impl Listed {
    /// Nothing if it is no scalar, or its text does not begin like this.
    pub(crate) fn of(value: &Value, prefix: &str) -> Option<Self> {
        Self::of_scalar(Scalar::of(value)?, prefix)
    }

    /// Nothing if its text does not begin like this.
    pub(crate) fn of_scalar(value: Scalar<'_>, prefix: &str) -> Option<Self> {
        let (text, value) = match value {
            Scalar::Text(text) if !text.starts_with(prefix) => return None,
            Scalar::Text(text) => (text.to_owned(), Value::from(text)),
            Scalar::Int(number) => (number.to_string(), number.into()),
            Scalar::Double(number) => (number.to_string(), number.into()),
            Scalar::Bool(value) => (value.to_string(), value.into()),
        };
        text.starts_with(prefix).then_some(Self { text, value })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of heap that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * self.text.len()
    }

    pub(crate) fn into_value(self) -> Value {
        self.value
    }

    fn order(&self) -> (&str, u8) {
        let kind = match self.value {
            Value::String(_) => 0,
            Value::Int(_) => 1,
            Value::Double(_) => 2,
            _ => 3,
        };
        (&self.text, kind)
    }
}

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Listed {}

/// Calls `found` for every attribute in these scopes of a group.
pub(crate) fn visit<'a>(
    group: &'a SpanGroup,
    scope: Scope,
    mut found: impl FnMut(Scope, &'a Attribute),
) {
    for place in SCOPES {
        if scope != Scope::Any && scope != place {
            continue;
        }
        let mut all = |attributes: &'a [Attribute]| {
            for attribute in attributes {
                found(place, attribute);
            }
        };
        let each_span = |visit: &mut dyn FnMut(&'a Span)| group.spans.iter().for_each(visit);
        match place {
            Scope::Resource => all(&group.resource.attributes),
            Scope::Instrumentation => all(&group.scope.attributes),
            Scope::Event => each_span(&mut |span| {
                span.events.iter().for_each(|event| all(&event.attributes));
            }),
            Scope::Link => each_span(&mut |span| {
                span.links.iter().for_each(|link| all(&link.attributes));
            }),
            Scope::Span | Scope::Any => each_span(&mut |span| all(&span.attributes)),
        }
    }
}
