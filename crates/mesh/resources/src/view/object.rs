//! Mappings whose fields are known.

use super::{Idle, Ignored, View};
use crate::diagnostic::At;
use crate::node::Value;
use crate::suggest::{hint, nearest};

/// The fields of a mapping: those that are read, and those that Istio has but this mesh cannot
/// honour yet, each with the reason or the way around.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) known: &'static [&'static str],
    pub(crate) refused: &'static [(&'static str, &'static str)],
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
