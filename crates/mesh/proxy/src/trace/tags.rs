//! A list of tags on the stack, as span encoders take it.

use std::borrow::Cow;

use periplus_wire::export::Tag;
use smallvec::SmallVec;

/// More than an ordinary span has; beyond it, the list moves to the heap.
const USUAL: usize = 48;

/// Tags in the order in which they are written; a later one of the same name replaces an earlier.
pub(super) struct Tags<'a>(SmallVec<[Tag<'a>; USUAL]>);

impl<'a> Tags<'a> {
    pub(super) fn new() -> Self {
        Self(SmallVec::new())
    }

    /// Adds a tag of a new name.
    #[inline]
    pub(super) fn push(&mut self, tag: Tag<'a>) {
        self.0.push(tag);
    }

    /// Adds a tag, or replaces the one of this name.
    pub(super) fn set(&mut self, name: &'a str, value: &'a str) {
        match self.0.iter_mut().find(|tag| tag.name() == name) {
            Some(tag) => *tag = tag.with(value),
            None => self.push(Tag::new(name, value)),
        }
    }

    pub(super) fn as_slice(&self) -> &[Tag<'a>] {
        &self.0
    }
}

/// A header value as text; bytes that are not UTF-8 become U+FFFD.
#[inline]
pub(crate) fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tags_are_kept_and_later_ones_replace_earlier() {
        let names: Vec<String> = (0..USUAL + 5).map(|i| format!("tag{i}")).collect();
        let mut tags = Tags::new();
        for name in &names[..USUAL] {
            tags.push(Tag::new(name, "a"));
        }
        tags.set("tag3", "b");
        assert_eq!(tags.as_slice().len(), USUAL);
        for name in &names[USUAL..] {
            tags.set(name, "a");
        }
        tags.set("tag4", "b");
        assert_eq!(tags.as_slice().len(), USUAL + 5);
        assert_eq!(tags.as_slice()[3], Tag::new("tag3", "b"));
        assert_eq!(tags.as_slice()[4], Tag::new("tag4", "b"));
    }
}
