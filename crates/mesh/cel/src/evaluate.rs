//! What expressions are worth.

use std::borrow::Cow;

use regex::Regex;

use crate::attribute::{Attribute, Headers, Type};
use crate::{Subject, Value};

/// A part of an expression, whose parts have the types that it needs.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Bool(bool),
    Int(i64),
    Text(String),
    Attribute(Attribute),
    Header(Headers, String),
    /// Whether there is one.
    Has(Box<Node>),
    Not(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    /// Whether the value is one of these.
    In(Box<Node>, Vec<Node>),
    /// Of numbers the sum, of texts one after the other.
    Plus(Box<[Node; 2]>),
    Minus(Box<[Node; 2]>),
    Ask(Question, Box<[Node; 2]>),
    Matches(Box<Node>, Regex),
    Size(Box<Node>),
    ToText(Box<Node>),
    ToInt(Box<Node>),
    /// The second if the first is true, else the third.
    Choose(Box<[Node; 3]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// What is asked about two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    StartsWith,
    EndsWith,
    Contains,
}

impl Node {
    pub(crate) fn of_type(&self) -> Type {
        match self {
            Self::Bool(_)
            | Self::Has(_)
            | Self::Not(_)
            | Self::And(_)
            | Self::Or(_)
            | Self::Compare(..)
            | Self::In(..)
            | Self::Ask(..)
            | Self::Matches(..) => Type::Bool,
            Self::Int(_) | Self::Minus(_) | Self::Size(_) | Self::ToInt(_) => Type::Int,
            Self::Text(_) | Self::Header(..) | Self::ToText(_) => Type::Text,
            Self::Attribute(attribute) => attribute.of_type(),
            Self::Plus(parts) => parts[0].of_type(),
            Self::Choose(parts) => parts[1].of_type(),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.of_type() == Type::Text
    }

    /// Its value; none is an error.
    pub(crate) fn value<'a>(&'a self, subject: &'a dyn Subject) -> Option<Value<'a>> {
        let is_true = |node: &'a Self| match node.value(subject)? {
            Value::Bool(value) => Some(value),
            Value::Int(_) | Value::Text(_) => None,
        };
        // An error on one side is none if the other side decides.
        let decided = |parts: &'a [Self; 2], by: bool| match parts.each_ref().map(is_true) {
            [Some(first), _] if first == by => Some(by),
            [_, Some(second)] if second == by => Some(by),
            [Some(_), Some(_)] => Some(!by),
            _ => None,
        };
        Some(match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Attribute(attribute) => subject.attribute(*attribute)?,
            Self::Header(of, name) => Value::Text(subject.header(*of, name)?),
            Self::Has(node) => Value::Bool(node.value(subject).is_some()),
            Self::Not(node) => Value::Bool(!is_true(node)?),
            Self::And(parts) => Value::Bool(decided(parts, false)?),
            Self::Or(parts) => Value::Bool(decided(parts, true)?),
            Self::Compare(comparison, parts) => {
                let [first, second] = both(parts, subject)?;
                Value::Bool(comparison.holds(&first, &second)?)
            }
            Self::In(node, list) => {
                let value = node.value(subject)?;
                let mut found = false;
                for one in list {
                    found |= one.value(subject)? == value;
                }
                Value::Bool(found)
            }
            Self::Plus(parts) => match both(parts, subject)? {
                [Value::Int(first), Value::Int(second)] => Value::Int(first.checked_add(second)?),
                [Value::Text(first), Value::Text(second)] => {
                    Value::Text(Cow::Owned(first.into_owned() + &second))
                }
                _ => return None,
            },
            Self::Minus(parts) => match both(parts, subject)? {
                [Value::Int(first), Value::Int(second)] => Value::Int(first.checked_sub(second)?),
                _ => return None,
            },
            Self::Ask(question, parts) => match both(parts, subject)? {
                [Value::Text(whole), Value::Text(part)] => {
                    Value::Bool(question.holds(&whole, &part))
                }
                _ => return None,
            },
            Self::Matches(node, pattern) => Value::Bool(pattern.is_match(&text(node, subject)?)),
            Self::Size(node) => {
                let count = text(node, subject)?.chars().count();
                Value::Int(i64::try_from(count).ok()?)
            }
            Self::ToText(node) => match node.value(subject)? {
                Value::Text(text) => Value::Text(text),
                other => Value::Text(Cow::Owned(other.to_string())),
            },
            Self::ToInt(node) => match node.value(subject)? {
                Value::Int(number) => Value::Int(number),
                Value::Text(text) => Value::Int(text.parse().ok()?),
                Value::Bool(_) => return None,
            },
            Self::Choose(parts) => {
                let [condition, then, otherwise] = &**parts;
                let chosen = if is_true(condition)? { then } else { otherwise };
                chosen.value(subject)?
            }
        })
    }

    /// Whether it, or a part of it, is one of these.
    pub(crate) fn any(&self, wanted: &dyn Fn(&Self) -> bool) -> bool {
        let within = match self {
            Self::Bool(_) | Self::Int(_) | Self::Text(_) => false,
            Self::Attribute(_) | Self::Header(..) => false,
            Self::Has(node)
            | Self::Not(node)
            | Self::Matches(node, _)
            | Self::Size(node)
            | Self::ToText(node)
            | Self::ToInt(node) => node.any(wanted),
            Self::And(parts)
            | Self::Or(parts)
            | Self::Compare(_, parts)
            | Self::Plus(parts)
            | Self::Minus(parts)
            | Self::Ask(_, parts) => parts.iter().any(|part| part.any(wanted)),
            Self::In(node, list) => node.any(wanted) || list.iter().any(|part| part.any(wanted)),
            Self::Choose(parts) => parts.iter().any(|part| part.any(wanted)),
        };
        within || wanted(self)
    }
}

fn both<'a>(parts: &'a [Node; 2], subject: &'a dyn Subject) -> Option<[Value<'a>; 2]> {
    let [first, second] = parts;
    Some([first.value(subject)?, second.value(subject)?])
}

fn text<'a>(node: &'a Node, subject: &'a dyn Subject) -> Option<Cow<'a, str>> {
    match node.value(subject)? {
        Value::Text(text) => Some(text),
        Value::Bool(_) | Value::Int(_) => None,
    }
}

impl Comparison {
    fn holds(self, first: &Value<'_>, second: &Value<'_>) -> Option<bool> {
        let order = match (first, second) {
            (Value::Bool(first), Value::Bool(second)) => first.cmp(second),
            (Value::Int(first), Value::Int(second)) => first.cmp(second),
            (Value::Text(first), Value::Text(second)) => first.cmp(second),
            _ => return None,
        };
        Some(match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}

impl Question {
    fn holds(self, whole: &str, part: &str) -> bool {
        match self {
            Self::StartsWith => whole.starts_with(part),
            Self::EndsWith => whole.ends_with(part),
            Self::Contains => whole.contains(part),
        }
    }
}
