//! Reading typed values out of a [`Node`] tree. A reader asks for what it needs; whatever is
//! wrong is noted with its place and path, and reading goes on, so that one run reports all.

mod object;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{At, Diagnostic, Position};
use crate::duration::parse_duration;
use crate::host::Host;
use crate::node::{Key, Node, Value};
use crate::suggest::hint;
use crate::values;

pub(crate) use self::object::{Object, Shape};

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

/// A node, its path, and where to complain.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    node: &'a Node,
    path: String,
    log: &'a Log,
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

    /// That it changes nothing, and why.
    pub(crate) fn ignored(&self, reason: &'static str) -> Ignored {
        Ignored {
            field: self.path.clone(),
            reason,
            at: At(self.node.at),
        }
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
        let name = self.checked(self.some_text()?, values::check_header_name)?;
        Some(name.to_ascii_lowercase())
    }

    /// The name of a header that is changed, in lower case.
    pub(crate) fn changed_header(&self) -> Option<String> {
        let name = self.checked(self.some_text()?, values::check_changed_header)?;
        Some(name.to_ascii_lowercase())
    }

    /// The value of a header, with Envoy's commands in it; it may be empty.
    pub(crate) fn header_value(&self) -> Option<String> {
        self.checked(self.text()?, values::check_format)
    }

    /// A part of an URI.
    pub(crate) fn some_graphic(&self) -> Option<String> {
        self.checked(self.some_text()?, values::check_graphic)
    }

    /// A host with a port or without.
    pub(crate) fn authority(&self) -> Option<String> {
        self.checked(self.some_text()?, values::check_authority)
    }

    /// A text that was read here, if nothing is wrong with it.
    pub(crate) fn checked(
        &self,
        text: String,
        check: fn(&str) -> Result<(), String>,
    ) -> Option<String> {
        let wrong = check(&text).err();
        if let Some(reason) = wrong {
            self.fail(reason);
            return None;
        }
        Some(text)
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
