//! Which routes of a virtual host may be for a request, so that a thousand of them cost what ten do: by the text that
//! the path begins with, and of many with the same text by a header that each wants to have a value of its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::Mix;
use super::asking::Values;
use crate::snapshot::{FieldName, HeaderMatch, PathMatch, Route, ValueMatch};

/// Fewer routes are looked at one after the other.
const FEW: usize = 8;

/// The routes of a virtual host by the texts that their paths begin with.
#[derive(Debug)]
pub(super) struct Index {
    /// In order.
    texts: Vec<Text>,
    /// How many bytes all of them begin with in common.
    common: usize,
    /// The eight bytes of each behind those, as a number: what is compared first.
    keys: Vec<u64>,
    /// Routes whose condition has no such text.
    others: Routes,
}

/// Some routes.
#[derive(Debug, Default)]
struct Routes {
    /// In order.
    all: Vec<usize>,
    by_header: Option<Box<ByHeader>>,
}

/// Routes that want a header to have a value. They are not among the others.
#[derive(Debug)]
struct ByHeader {
    name: FieldName,
    /// In order.
    routes: HashMap<Box<[u8]>, Vec<usize>, BuildHasherDefault<Mix>>,
}

#[derive(Debug)]
struct Text {
    text: Box<[u8]>,
    /// The longest other text that this one begins with.
    parent: Option<usize>,
    routes: Routes,
}

impl Index {
    /// None if it would gain nothing.
    pub(super) fn new(routes: &[Arc<Route>]) -> Option<Self> {
        if routes.len() <= FEW {
            return None;
        }
        let mut others = Vec::new();
        let mut pairs: Vec<(Cow<'_, [u8]>, usize)> = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            match &route.path {
                PathMatch::Prefix(text)
                | PathMatch::Exact(text)
                | PathMatch::PathSeparatedPrefix(text) => {
                    pairs.push((Cow::Borrowed(text.as_bytes()), at));
                }
                PathMatch::Regex(pattern) => match pattern.prefix() {
                    none if none.is_empty() => others.push(at),
                    text => pairs.push((Cow::Owned(text.into_bytes()), at)),
                },
                PathMatch::Connect | PathMatch::IgnoringCase(_) => others.push(at),
            }
        }
        pairs.sort_unstable();
        let mut texts: Vec<Text> = Vec::new();
        for (text, at) in pairs {
            match texts.last_mut() {
                Some(last) if *last.text == *text => last.routes.all.push(at),
                _ => {
                    let parent = longest(&texts, texts.len().checked_sub(1), &text);
                    texts.push(Text {
                        text: text.into(),
                        parent,
                        routes: Routes {
                            all: vec![at],
                            by_header: None,
                        },
                    });
                }
            }
        }
        let mut others = Routes {
            all: others,
            by_header: None,
        };
        let lists = texts.iter_mut().map(|text| &mut text.routes);
        for list in lists.chain([&mut others]) {
            list.divide(routes);
        }
        let common = match (texts.first(), texts.last()) {
            (Some(first), Some(last)) => in_common(&first.text, &last.text),
            _ => 0,
        };
        Some(Self {
            keys: texts.iter().map(|text| key(&text.text[common..])).collect(),
            common,
            texts,
            others,
        })
    }

    /// The first route that `is_for` says is for the path; it is asked about those only that may be, and told whether
    /// the path begins with the text of the route's condition. `values` are those of a header of the request.
    pub(super) fn first<'a>(
        &self,
        path: &[u8],
        values: impl Fn(&FieldName) -> Values<'a>,
        is_for: impl Fn(usize, bool) -> bool,
    ) -> Option<usize> {
        let mut first = None;
        // Whatever the path begins with is this text, or one of its parents.
        let before = self.not_behind(path);
        let mut next = longest(&self.texts, before.checked_sub(1), path);
        while let Some(at) = next {
            let text = &self.texts[at];
            first = text.routes.earlier(first, &values, |at| is_for(at, true));
            next = text.parent;
        }
        self.others.earlier(first, &values, |at| is_for(at, false))
    }

    /// How many of the texts are not behind the path in order.
    #[inline]
    fn not_behind(&self, path: &[u8]) -> usize {
        if self.texts.len() <= FEW {
            return self.texts.partition_point(|text| *text.text <= *path);
        }
        let common = &self.texts[0].text[..self.common];
        let Some(rest) = path.strip_prefix(common) else {
            return if path < common { 0 } else { self.texts.len() };
        };
        // Texts whose keys differ from the path's are in the order of the keys.
        let wanted = key(rest);
        let less = self.keys.partition_point(|one| *one < wanted);
        let same = match self.keys.get(less) {
            Some(one) if *one == wanted => self.keys[less..].partition_point(|one| *one == wanted),
            _ => 0,
        };
        let same = &self.texts[less..less + same];
        less + same.partition_point(|text| *text.text <= *path)
    }
}

/// The number of bytes that both begin with.
fn in_common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The first eight bytes as a number; zeros stand for those that there are not, which come before all others.
#[inline]
fn key(text: &[u8]) -> u64 {
    if let Some(first) = text.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..text.len()].copy_from_slice(text);
    u64::from_be_bytes(bytes)
}

impl Routes {
    /// Puts those aside that want one and the same header to have a value, if they are many.
    fn divide(&mut self, routes: &[Arc<Route>]) {
        if self.all.len() <= FEW {
            return;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (name, _) in self.all.iter().flat_map(|at| wanted(&routes[*at])) {
            *counts.entry(&**name).or_default() += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(name, count)| (*count, *name));
        let Some((most, _)) = most.filter(|(_, count)| *count > FEW) else {
            return;
        };
        let mut found = None;
        let mut by_value = HashMap::<Box<[u8]>, Vec<usize>, BuildHasherDefault<Mix>>::default();
        self.all.retain(|at| {
            let mut all = wanted(&routes[*at]);
            let Some((name, value)) = all.find(|(name, _)| ***name == *most) else {
                return true;
            };
            found = Some(name.clone());
            by_value
                .entry(value.as_bytes().into())
                .or_default()
                .push(*at);
            false
        });
        self.by_header = found.map(|name| {
            Box::new(ByHeader {
                name,
                routes: by_value,
            })
        });
    }

    /// The first of these routes, if it comes before the one that was found.
    #[inline]
    fn earlier<'a>(
        &self,
        found: Option<usize>,
        values: impl Fn(&FieldName) -> Values<'a>,
        is_for: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let found = earlier(&self.all, found, &is_for);
        let Some(by_header) = &self.by_header else {
            return found;
        };
        let of = |value: &[u8]| by_header.routes.get(value).map_or(&[][..], Vec::as_slice);
        let merged: Vec<usize>;
        let routes = match values(&by_header.name) {
            Values::One(value) => of(value),
            Values::Several(values) => {
                let mut all = values.into_iter().flat_map(of).copied().collect::<Vec<_>>();
                all.sort_unstable();
                merged = all;
                &merged
            }
        };
        earlier(routes, found, is_for)
    }
}

/// The headers that a route wants to have a value of its own.
fn wanted(route: &Route) -> impl Iterator<Item = (&FieldName, &String)> {
    route
        .headers
        .iter()
        .filter_map(|condition| match condition {
            HeaderMatch {
                name,
                value: ValueMatch::Exact(value),
                invert: false,
                missing_is_empty: false,
            } => Some((name, value)),
            _ => None,
        })
}

/// The first of these routes, if it comes before the one that was found.
fn earlier(
    routes: &[usize],
    found: Option<usize>,
    is_for: impl Fn(usize) -> bool,
) -> Option<usize> {
    let before = |at: &usize| found.is_none_or(|found| *at < found);
    let mut routes = routes.iter().copied().take_while(before);
    routes.find(|at| is_for(*at)).or(found)
}

/// The longest text that this one begins with, of the one at `from` and its parents.
fn longest(texts: &[Text], from: Option<usize>, text: &[u8]) -> Option<usize> {
    let mut next = from;
    while let Some(at) = next {
        let candidate = &texts[at];
        if text.starts_with(&candidate.text) {
            break;
        }
        next = candidate.parent;
    }
    next
}

#[cfg(test)]
mod tests;
