//! What filters find out about a request for those behind them (Envoy's dynamic metadata).

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value;

use crate::snapshot::ValueMatch;

/// Values by the filter that has left them and a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    filter: &'static str,
    key: Rc<str>,
    value: Rc<Value>,
}

impl Metadata {
    /// Adds a value, or replaces the one of this key.
    pub(crate) fn set(&mut self, filter: &'static str, key: &Rc<str>, value: Rc<Value>) {
        let is_it = |entry: &&mut Entry| entry.filter == filter && entry.key == *key;
        match self.0.iter_mut().find(is_it) {
            Some(entry) => entry.value = value,
            None => self.0.push(Entry {
                filter,
                key: key.clone(),
                value,
            }),
        }
    }

    /// Adds all values of another one.
    pub(crate) fn take_over(&mut self, other: Self) {
        for Entry { filter, key, value } in other.0 {
            self.set(filter, &key, value);
        }
    }

    /// Whether nothing was left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a filter has left, by key.
    pub(crate) fn of<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let entries = self.0.iter().filter(move |entry| entry.filter == filter);
        entries.map(|entry| (&*entry.key, &*entry.value))
    }

    /// The value at a path of keys as text: a text itself, anything else as JSON.
    pub(crate) fn text(&self, filter: &str, path: &[String]) -> Option<Cow<'_, str>> {
        Some(match self.get(filter, path)? {
            Value::Null => return None,
            Value::String(text) => text.into(),
            other => other.to_string().into(),
        })
    }

    /// The value at a path of keys.
    pub(crate) fn get(&self, filter: &str, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let of_key = |entry: &&Entry| entry.filter == filter && *entry.key == **first;
        let entry = self.0.iter().find(of_key)?;
        rest.iter()
            .try_fold(&*entry.value, |value, key| value.as_object()?.get(key))
    }
}

/// Envoy's `MetadataMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataMatch {
    pub(crate) filter: String,
    pub(crate) path: Vec<String>,
    pub(crate) value: ValueTest,
    pub(crate) invert: bool,
}

/// Envoy's `ValueMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValueTest {
    /// `null_match`.
    Null,
    /// `double_match`: exactly this number.
    Number(f64),
    /// `double_match`: from the first to, and without, the second.
    Range(f64, f64),
    /// `string_match`.
    Text(ValueMatch),
    /// `bool_match`.
    Bool(bool),
    /// `present_match`.
    Present,
    /// `list_match`: one of the elements.
    OneOf(Box<ValueTest>),
    /// `or_match`.
    Any(Vec<ValueTest>),
}

impl MetadataMatch {
    /// Whether it holds of what filters have left.
    pub(crate) fn holds(&self, metadata: &Metadata) -> bool {
        let value = metadata.get(&self.filter, &self.path);
        value.is_some_and(|value| self.value.holds(value)) != self.invert
    }
}

impl ValueTest {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, value) => value.is_null(),
            (Self::Number(number), Value::Number(is)) => is.as_f64() == Some(*number),
            (Self::Range(from, to), Value::Number(is)) => {
                is.as_f64().is_some_and(|is| (*from..*to).contains(&is))
            }
            (Self::Text(text), Value::String(is)) => text.matches(is.as_bytes()),
            (Self::Bool(expected), Value::Bool(is)) => expected == is,
            (Self::Present, _) => true,
            (Self::OneOf(test), Value::Array(elements)) => {
                elements.iter().any(|element| test.holds(element))
            }
            (Self::Any(tests), value) => tests.iter().any(|test| test.holds(value)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_by_path_and_tested_by_kind() {
        let mut metadata = Metadata::default();
        let payload = json!({
            "iss": "me", "n": 3, "yes": true, "nothing": null,
            "groups": ["a", "b"], "nested": {"scope": ["x"]}, "scope": "read",
        });
        metadata.set("jwt", &"payload".into(), Rc::new(json!({"iss": "before"})));
        metadata.set("jwt", &"payload".into(), Rc::new(payload));
        let exact = |text: &str| ValueTest::Text(ValueMatch::Exact(text.into()));
        let one_of = |text: &str| ValueTest::OneOf(Box::new(exact(text)));
        let cases: Vec<(&[&str], ValueTest, bool)> = vec![
            (&["payload", "iss"], exact("me"), true),
            (&["payload", "iss"], exact("before"), false),
            (&["payload", "iss", "deeper"], ValueTest::Present, false),
            (&["other", "iss"], exact("me"), false),
            (&["payload"], ValueTest::Present, true),
            (&["payload", "n"], ValueTest::Number(3.0), true),
            (&["payload", "n"], ValueTest::Range(1.0, 3.0), false),
            (&["payload", "n"], ValueTest::Range(3.0, 4.0), true),
            (&["payload", "n"], exact("3"), false),
            (&["payload", "yes"], ValueTest::Bool(true), true),
            (&["payload", "yes"], ValueTest::Bool(false), false),
            (&["payload", "nothing"], ValueTest::Null, true),
            (&["payload", "iss"], ValueTest::Null, false),
            (&["payload", "missing"], ValueTest::Present, false),
            (&["payload", "groups"], one_of("b"), true),
            (&["payload", "groups"], one_of("c"), false),
            (&["payload", "scope"], one_of("read"), false),
            (
                &["payload", "scope"],
                ValueTest::Any(vec![one_of("read"), exact("read")]),
                true,
            ),
            (&["payload", "nested", "scope"], one_of("x"), true),
        ];
        for (path, value, expected) in cases {
            let path = path.iter().map(|key| (*key).to_owned()).collect();
            for invert in [false, true] {
                let asked = MetadataMatch {
                    filter: "jwt".to_owned(),
                    path: Vec::clone(&path),
                    value: value.clone(),
                    invert,
                };
                assert_eq!(asked.holds(&metadata), expected != invert, "{asked:?}");
            }
        }
    }
}
