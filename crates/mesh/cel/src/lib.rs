//! Expressions over the attributes of requests: the part of CEL (the Common Expression Language) that Istio's Telemetry
//! resources and Envoy's filters of access logs are written in.
//!
//! An expression has a type, and so has each of its parts: what could only be an error for every request is
//! refused where it is read. What a request does not have, such as a header, is an error at that request as in CEL; it
//! spreads, except that `false && …` is false and `true || …` is true whatever the other side is.

mod attribute;
mod evaluate;
mod lex;
mod parse;
pub mod re2;

use std::borrow::Cow;
use std::fmt;

pub use attribute::{Attribute, Headers, Type};
use evaluate::Node;
pub use parse::Refused;

/// The longest expression, in bytes.
pub const LONGEST: usize = 4096;

/// An expression that makes sense.
#[derive(Clone)]
pub struct Expression {
    text: String,
    node: Node,
    of_type: Type,
}

/// What an expression is asked about.
pub trait Subject {
    /// The value of an attribute, of the attribute's type; none if there is none.
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>>;

    /// The value of a header, whose name is in lower case.
    fn header(&self, of: Headers, name: &str) -> Option<Cow<'_, str>>;
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A truth.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(Cow<'a, str>),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let (node, of_type) = parse::parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            node,
            of_type,
        })
    }

    /// The same if it is true or false.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that it has values of another type.
    pub fn condition(text: &str) -> Result<Self, Refused> {
        let parsed = Self::parse(text)?;
        match parsed.of_type {
            Type::Bool => Ok(parsed),
            other => Err(Refused::of(format!(
                "it is {other}, and not true or false as a condition has to be"
            ))),
        }
    }

    /// It as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its values.
    pub fn of_type(&self) -> Type {
        self.of_type
    }

    /// Its value; none is an error, such as a header that is not there.
    pub fn value<'a>(&'a self, subject: &'a dyn Subject) -> Option<Value<'a>> {
        self.node.value(subject)
    }

    /// Whether it is true; an error is not.
    pub fn holds(&self, subject: &dyn Subject) -> bool {
        self.value(subject) == Some(Value::Bool(true))
    }

    /// Whether it makes texts of something else, or longer ones: Envoy does that only if it is told to.
    pub fn makes_texts(&self) -> bool {
        self.node.any(&|node| {
            matches!(node, Node::ToText(_))
                || matches!(node, Node::Plus(parts) if parts[0].is_text())
        })
    }

    /// Whether it asks for something of these.
    pub fn asks(&self, wanted: impl Fn(Asked<'_>) -> bool) -> bool {
        self.node.any(&|node| match node {
            Node::Attribute(attribute) => wanted(Asked::Attribute(*attribute)),
            Node::Header(of, name) => wanted(Asked::Header(*of, name)),
            _ => false,
        })
    }
}

/// Something that an expression asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// An attribute.
    Attribute(Attribute),
    /// A header of this name.
    Header(Headers, &'a str),
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl PartialOrd for Expression {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Expression {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

#[cfg(test)]
mod tests;
