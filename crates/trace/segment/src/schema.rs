//! What the attribute columns of a builder and of a segment are.

use periplus_filter::Scope;
use periplus_model::{Attribute, Value};

/// An attribute's key and the type of its values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeKey {
    /// The key.
    pub key: String,
    /// The type.
    pub ty: AttributeType,
}

/// The type of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeType {
    /// Nothing set.
    Empty,
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// Integers.
    Int,
    /// Doubles.
    Double,
    /// Raw bytes.
    Bytes,
    /// Arrays or maps.
    Nested,
}

impl AttributeKey {
    /// Of a column; `None` for one without a key.
    pub(crate) fn of(key: &str, ty: Type) -> Option<Self> {
        let ty = match ty {
            Type::Empty => AttributeType::Empty,
            Type::Text => AttributeType::Text,
            Type::Bool => AttributeType::Bool,
            Type::Int => AttributeType::Int,
            Type::Double => AttributeType::Double,
            Type::Bytes => AttributeType::Bytes,
            Type::Nested => AttributeType::Nested,
            Type::Residual => return None,
        };
        let key = key.to_owned();
        Some(Self { key, ty })
    }

    pub(crate) fn of_attribute(attribute: &Attribute) -> Self {
        let ty = match attribute.value {
            Value::Empty => AttributeType::Empty,
            Value::String(_) => AttributeType::Text,
            Value::Bool(_) => AttributeType::Bool,
            Value::Int(_) => AttributeType::Int,
            Value::Double(_) => AttributeType::Double,
            Value::Bytes(_) => AttributeType::Bytes,
            Value::Array(_) | Value::Map(_) => AttributeType::Nested,
        };
        let key = attribute.key.clone();
        Self { key, ty }
    }
}

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Type {
    /// Nothing set.
    Empty = 0,
    Text = 1,
    Bool = 2,
    Int = 3,
    Double = 4,
    Bytes = 5,
    /// An array or a map.
    Nested = 6,
    /// Attribute lists that have no columns of their own; it has no key.
    Residual = 7,
}

impl Type {
    pub(crate) const fn from_number(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Empty,
            1 => Self::Text,
            2 => Self::Bool,
            3 => Self::Int,
            4 => Self::Double,
            5 => Self::Bytes,
            6 => Self::Nested,
            7 => Self::Residual,
            _ => return None,
        })
    }
}

/// The places whose attributes have columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Place {
    Span = 0,
    Event = 1,
    Link = 2,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Span, Self::Event, Self::Link];

    /// Whether a search in this scope looks here.
    pub(crate) const fn is_in(self, scope: Scope) -> bool {
        matches!(
            (self, scope),
            (_, Scope::Any)
                | (Self::Span, Scope::Span)
                | (Self::Event, Scope::Event)
                | (Self::Link, Scope::Link)
        )
    }
}
