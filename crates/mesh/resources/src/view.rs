//! Reading typed values out of a [`Node`] tree. A reader asks for what it needs; whatever is
//! wrong is noted with its place and path, and reading goes on, so that one run reports all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{At, Diagnostic, Position};
use crate::duration::parse_duration;
use crate::host::Host;
use crate::node::{Key, Node, Value};
use crate::suggest::{hint, nearest};

/// More complaints than this about one file help nobody.
const MAX_DIAGNOSTICS: usize = 50;

/// A field that may be there and changes nothing, and why.
pub(crate) type Idle = (&'static str, &'static str);

/// One that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its path.
    pub field: String,
    /// Why it changes nothing.
    pub reason: &'static str,
    /// Where it is written.
    pub at: At,
}

/// Collects what is wrong with a file.
#[derive(Debug)]
pub(crate) struct Log {
    file: Arc<str>,
    found: RefCell<Vec<Diagnostic>>,
    /// Those too that are not kept.
    count: Cell<usize>,
}

impl Log {
    pub(crate) fn new(file: Arc<str>) -> Self {
        Self {
            file,
            found: RefCell::default(),
            count: Cell::new(0),
        }
    }

    pub(crate) fn add(&self, position: Position, field: &str, message: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        self.count.set(self.count.get() + 1);
        let message = match found.len() {
            0..MAX_DIAGNOSTICS => message.into(),
            MAX_DIAGNOSTICS => "too many errors, the rest of them is not told".into(),
            _ => return,
        };
        found.push(Diagnostic {
            file: self.file.clone(),
            position,
            field: field.to_owned(),
            message,
        });
    }

    /// How many complaints there have been.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    pub(crate) fn file(&self) -> Arc<str> {
        self.file.clone()
    }

    /// What was found, in the order of the file.
    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| diagnostic.position);
        found
    }
}

/// The fields of a mapping: those that are read, and those that Istio has but this mesh cannot
/// honour yet, each with the reason or the way around.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) known: &'static [&'static str],
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

/// A node, its path, and where to complain.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    node: &'a Node,
    path: String,
    log: &'a Log,
}

/// A mapping with a known shape.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    view: View<'a>,
    /// Fields that unknown ones were probably meant to be: they are not missing too.
    misspelt: Vec<&'static str>,
    fields: Vec<(&'static str, View<'a>)>,
}

impl<'a> View<'a> {
    pub(crate) fn root(node: &'a Node, log: &'a Log) -> Self {
        Self {
            node,
            path: String::new(),
            log,
        }
    }

    pub(crate) fn at(&self) -> Position {
        self.node.at
    }

    pub(crate) fn log(&self) -> &'a Log {
        self.log
    }

    /// Whether some key or text in it is like this.
    pub(crate) fn mentions(&self, is_like: &impl Fn(&str) -> bool) -> bool {
        self.node.mentions(is_like)
    }

    /// Notes that something is wrong here.
    pub(crate) fn fail(&self, message: impl Into<String>) {
        self.log.add(self.node.at, &self.path, message);
    }

    fn expected(&self, what: &str) {
        self.fail(format!(
            "expected {what}, found {}",
            self.node.value.describe()
        ));
    }

    /// The mapping's fields; unknown and refused ones are complained about.
    pub(crate) fn object(&self, shape: &Shape) -> Option<Object<'a>> {
        self.object_besides(shape, &[]).map(|(object, _)| object)
    }

    /// The same, and those of `idle` that are there, which change nothing.
    pub(crate) fn object_besides(
        &self,
        shape: &Shape,
        idle: &[Idle],
    ) -> Option<(Object<'a>, Vec<Ignored>)> {
        let Value::Mapping(entries) = &self.node.value else {
            self.expected("a mapping");
            return None;
        };
        let mut fields = Vec::with_capacity(entries.len());
        let mut misspelt = Vec::new();
        let mut ignored = Vec::new();
        for (key, node) in entries {
            let path = self.join(&key.text);
            if let Some((_, reason)) = idle.iter().find(|(name, _)| *name == key.text) {
                ignored.push(Ignored {
                    field: path,
                    reason,
                    at: At(key.at),
                });
            } else if let Some(name) = shape.find(&key.text) {
                if !matches!(node.value, Value::Null) {
                    fields.push((name, self.child(node, path)));
                }
            } else if let Some(reason) = shape.refusal(&key.text) {
                let message = format!("`{}` is not supported: {reason}", key.text);
                self.log.add(key.at, &path, message);
            } else {
                misspelt.extend(nearest(&key.text, shape.known.iter().copied()));
                let hint = hint(&key.text, shape.known);
                self.log
                    .add(key.at, &path, format!("unknown field `{}`{hint}", key.text));
            }
        }
        let object = Object {
            view: self.clone(),
            misspelt,
            fields,
        };
        Some((object, ignored))
    }

    /// Those of some fields that are there; others are passed over.
    pub(crate) fn loose_object(&self, known: &[&'static str]) -> Option<Object<'a>> {
        if !matches!(self.node.value, Value::Mapping(_)) {
            self.expected("a mapping");
            return None;
        }
        let field = |name: &&'static str| Some((*name, self.loose(name)?));
        Some(Object {
            view: self.clone(),
            misspelt: Vec::new(),
            fields: known.iter().filter_map(field).collect(),
        })
    }

    /// A field of a mapping of which not all fields are known here.
    pub(crate) fn loose(&self, name: &str) -> Option<View<'a>> {
        let Value::Mapping(entries) = &self.node.value else {
            return None;
        };
        let mut entries = entries.iter();
        let (_, node) =
            entries.find(|(key, node)| key.text == name && !matches!(node.value, Value::Null))?;
        Some(self.child(node, self.join(name)))
    }

    /// Whether it is a text.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.node.value, Value::String(_))
    }

    /// Whether it is a number.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.node.value, Value::Int(_))
    }

    /// Whether it is a text without characters.
    pub(crate) fn is_empty_text(&self) -> bool {
        matches!(&self.node.value, Value::String(text) if text.is_empty())
    }

    /// Whether it is a mapping of one key to one text.
    pub(crate) fn is_mapping_of(&self, key: &str, text: &str) -> bool {
        match &self.node.value {
            Value::Mapping(entries) => matches!(entries.as_slice(), [(only, node)]
                if only.text == key && matches!(&node.value, Value::String(value) if value == text)),
            _ => false,
        }
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Vec<View<'a>> {
        let Value::Sequence(nodes) = &self.node.value else {
            self.expected("a list");
            return Vec::new();
        };
        let item = |(i, node)| self.child(node, format!("{}[{i}]", self.path));
        nodes.iter().enumerate().map(item).collect()
    }

    /// The entries of a mapping whose keys are the user's own.
    pub(crate) fn entries(&self) -> Vec<(&'a Key, View<'a>)> {
        let Value::Mapping(entries) = &self.node.value else {
            self.expected("a mapping");
            return Vec::new();
        };
        entries
            .iter()
            .map(|(key, node)| (key, self.child(node, self.join(&key.text))))
            .collect()
    }

    pub(crate) fn text(&self) -> Option<String> {
        match &self.node.value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                let found = self.node.value.describe();
                self.fail(format!("expected a text, found {found}: put it in quotes"));
                None
            }
            _ => {
                self.expected("a text");
                None
            }
        }
    }

    /// A text that says something.
    pub(crate) fn some_text(&self) -> Option<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.fail("must not be empty");
            return None;
        }
        Some(text)
    }

    /// A text that may stand in an HTTP head.
    pub(crate) fn some_ascii(&self) -> Option<String> {
        let text = self.some_text()?;
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            self.fail("may hold printable ASCII characters only");
            return None;
        }
        Some(text)
    }

    /// The name of a header, in lower case.
    pub(crate) fn header_name(&self) -> Option<String> {
        let name = self.some_text()?;
        if !is_token(&name) {
            self.fail(format!("`{name}` is no header name"));
            return None;
        }
        Some(name.to_ascii_lowercase())
    }

    /// The value of a header; it may be empty.
    pub(crate) fn header_value(&self) -> Option<String> {
        let value = self.text()?;
        if value.contains(['\r', '\n', '\0']) {
            self.fail("the value of a header has no line breaks");
            return None;
        }
        Some(value)
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                self.expected("`true` or `false`");
                None
            }
        }
    }

    /// A whole number between two bounds; as in proto JSON it may be written as a text.
    pub(crate) fn number(&self, from: i64, to: i64) -> Option<i64> {
        let value = match &self.node.value {
            Value::Int(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if value.is_none_or(|value| !(from..=to).contains(&value)) {
            self.expected(&format!("a whole number from {from} to {to}"));
            return None;
        }
        value
    }

    pub(crate) fn u32(&self) -> Option<u32> {
        let value = self.number(0, i64::from(u32::MAX))?;
        u32::try_from(value).ok()
    }

    pub(crate) fn port(&self) -> Option<u16> {
        let value = self.number(1, i64::from(u16::MAX))?;
        u16::try_from(value).ok()
    }

    /// A number between 0 and 100.
    pub(crate) fn percent(&self) -> Option<f64> {
        self.float_in(0.0, 100.0, "a percentage from 0 to 100")
    }

    /// A number between two bounds, which are `what`.
    pub(crate) fn float_in(&self, from: f64, to: f64, what: &str) -> Option<f64> {
        let value = match &self.node.value {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        };
        if value.is_none_or(|value| !(from..=to).contains(&value)) {
            self.expected(what);
            return None;
        }
        value
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        let Value::String(text) = &self.node.value else {
            self.expected("a duration such as `0.5s`, `100ms` or `1h`");
            return None;
        };
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                self.fail(format!("`{text}` is no duration: {reason}"));
                None
            }
        }
    }

    /// One of the given words.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(value.clone());
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        self.fail(format!("unknown value `{text}`{}", hint(&text, &names)));
        None
    }

    pub(crate) fn host(&self) -> Option<Host> {
        let text = self.text()?;
        match Host::parse(&text) {
            Ok(host) => Some(host),
            Err(reason) => {
                self.fail(format!("`{text}` is no host name: {reason}"));
                None
            }
        }
    }

    pub(crate) fn ip(&self) -> Option<std::net::IpAddr> {
        let text = self.text()?;
        let ip = text.parse().ok();
        if ip.is_none() {
            self.fail(format!("`{text}` is no IP address"));
        }
        ip
    }

    /// A mapping of texts, such as labels.
    pub(crate) fn text_map(&self) -> BTreeMap<String, String> {
        let entries = self.entries();
        let text = |(key, view): (&Key, View<'_>)| Some((key.text.clone(), view.text()?));
        entries.into_iter().filter_map(text).collect()
    }

    fn child(&self, node: &'a Node, path: String) -> Self {
        Self {
            node,
            path,
            log: self.log,
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

impl<'a> Object<'a> {
    pub(crate) fn view(&self) -> &View<'a> {
        &self.view
    }

    pub(crate) fn fail(&self, message: impl Into<String>) {
        self.view.fail(message);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&View<'a>> {
        let mut fields = self.fields.iter();
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, view)| view)
    }

    /// A field that may be left out: `Some(None)` when it is, `None` when it is there and wrong.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&View<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            Some(view) => read(view).map(Some),
            None => Some(None),
        }
    }

    /// The field, or a complaint that it is missing.
    pub(crate) fn require(&self, name: &str) -> Option<&View<'a>> {
        let field = self.get(name);
        if field.is_none() && !self.misspelt.contains(&name) {
            let path = self.view.join(name);
            let message = format!("missing field `{name}`");
            self.view.log.add(self.view.node.at, &path, message);
        }
        field
    }

    /// Those of the given fields that are there.
    pub(crate) fn present(&self, names: &[&'static str]) -> Vec<&'static str> {
        let there = |name: &&'static str| self.get(name).is_some();
        names.iter().copied().filter(there).collect()
    }

    pub(crate) fn items(&self, name: &str) -> Vec<View<'a>> {
        self.get(name).map(View::items).unwrap_or_default()
    }
}

impl Shape {
    /// The field that a key stands for: proto JSON also knows each by its `snake_case` name.
    fn find(&self, key: &str) -> Option<&'static str> {
        let same = |name: &&&'static str| **name == key || snake_case(name) == key;
        self.known.iter().find(same).copied()
    }

    fn refusal(&self, key: &str) -> Option<&'static str> {
        let same = |(name, _): &&(&'static str, _)| *name == key || snake_case(name) == key;
        self.refused.iter().find(same).map(|(_, reason)| *reason)
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(valid)
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The first element that equals an earlier one, compared by `key`; of lists that are never long.
pub(crate) fn first_duplicate<T, K: PartialEq>(items: &[T], key: impl Fn(&T) -> K) -> Option<&T> {
    let keys: Vec<K> = items.iter().map(key).collect();
    let at = (0..keys.len()).find(|at| keys[..*at].contains(&keys[*at]))?;
    items.get(at)
}

/// The first element that is an earlier one too, of a list of any length.
pub(crate) fn first_repeated<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}
