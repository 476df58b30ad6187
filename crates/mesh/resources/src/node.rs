//! A YAML or JSON document as a tree in which every key and value knows its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter, Spanned};

use crate::diagnostic::Position;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
}

/// A key of a mapping and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) at: Position,
}

/// YAML's data model, as far as JSON has it too.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

impl Value {
    /// What a reader would call it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Int(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::String(value) => format!("the text `{value}`"),
            Self::Sequence(_) => "a list".into(),
            Self::Mapping(_) => "a mapping".into(),
        }
    }
}

impl Node {
    /// Whether some key or text in it is like this.
    pub(crate) fn mentions(&self, is_like: &impl Fn(&str) -> bool) -> bool {
        match &self.value {
            Value::String(text) => is_like(text),
            Value::Sequence(items) => items.iter().any(|item| item.mentions(is_like)),
            Value::Mapping(entries) => {
                let mut entries = entries.iter();
                entries.any(|(key, value)| is_like(&key.text) || value.mentions(is_like))
            }
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
        }
    }
}

/// Reads all documents of a text; empty ones are left out.
pub(crate) fn read_documents(text: &str) -> Result<Vec<Node>, (Position, String)> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let at = error
            .location()
            .map_or(Position { line: 1, column: 1 }, position);
        let message = serde_saphyr::UserMessageFormatter
            .format_message(error)
            .into_owned();
        (at, message)
    })
}

fn position(location: serde_saphyr::Location) -> Position {
    let clamp = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Position {
        line: clamp(location.line()),
        column: clamp(location.column()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value,
            at: position(spanned.referenced),
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            text: spanned.value,
            at: position(spanned.referenced),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Value::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            nodes.push(entry);
        }
        Ok(Value::Mapping(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let nodes = read_documents("a: 1\nb:\n  - x\n---\n{\"c\": {\"d\": true}}\n").unwrap();
        let Value::Mapping(first) = &nodes[0].value else {
            panic!("{nodes:?}")
        };
        assert_eq!(nodes[0].at, at(1, 1));
        assert_eq!((first[0].0.at, first[0].1.at), (at(1, 1), at(1, 4)));
        let Value::Sequence(items) = &first[1].1.value else {
            panic!("{first:?}")
        };
        assert_eq!(items[0].at, at(3, 5));
        let Value::Mapping(second) = &nodes[1].value else {
            panic!("{nodes:?}")
        };
        assert_eq!(second[0].0.text, "c");
        assert_eq!(second[0].0.at, at(5, 2));
    }

    #[test]
    fn json_may_be_indented_with_tabs() {
        let nodes = read_documents("{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t]\n}\n").unwrap();
        assert_eq!(nodes.len(), 1);
    }

    #[test]
    fn a_broken_document_says_where() {
        for text in [
            "a: [1, 2",
            "a: 1\na: 2\n",
            "a: 'x",
            "a:\n\t- b\n",
            "a: b: c\n",
        ] {
            let (position, message) = read_documents(text).unwrap_err();
            assert!(position.line >= 1 && position.column >= 1);
            assert!(
                !message.is_empty() && !message.contains('\n'),
                "{text:?}: {message}"
            );
        }
    }
}
