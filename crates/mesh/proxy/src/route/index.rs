//! Which routes of a virtual host may be for a path, so that a thousand of them cost what ten do.

use std::sync::Arc;

use crate::snapshot::{PathMatch, Route};

/// Fewer routes are looked at one after the other.
const FEW: usize = 8;

/// The routes of a virtual host by the texts that their paths begin with.
#[derive(Debug)]
pub(super) struct Index {
    /// In order.
    texts: Vec<Text>,
    /// Routes whose condition has no such text, in order.
    others: Vec<usize>,
}

#[derive(Debug)]
struct Text {
    text: Box<[u8]>,
    /// The longest other text that this one begins with.
    parent: Option<usize>,
    /// In order.
    routes: Vec<usize>,
}

impl Index {
    /// None if it would gain nothing.
    pub(super) fn new(routes: &[Arc<Route>]) -> Option<Self> {
        if routes.len() <= FEW {
            return None;
        }
        let mut others = Vec::new();
        let mut pairs = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            match &route.path {
                PathMatch::Prefix(text)
                | PathMatch::Exact(text)
                | PathMatch::PathSeparatedPrefix(text) => pairs.push((text.as_bytes(), at)),
                PathMatch::Regex(_) | PathMatch::Connect | PathMatch::IgnoringCase(_) => {
                    others.push(at);
                }
            }
        }
        pairs.sort_unstable();
        let mut texts: Vec<Text> = Vec::new();
        for (text, at) in pairs {
            match texts.last_mut() {
                Some(last) if *last.text == *text => last.routes.push(at),
                _ => {
                    let parent = longest(&texts, texts.len().checked_sub(1), text);
                    texts.push(Text {
                        text: text.into(),
                        parent,
                        routes: vec![at],
                    });
                }
            }
        }
        Some(Self { texts, others })
    }

    /// The first route that `is_for` says is for the path; it is asked about those only that may be, and told whether
    /// the path begins with the text of the route's condition.
    pub(super) fn first(&self, path: &[u8], is_for: impl Fn(usize, bool) -> bool) -> Option<usize> {
        let mut first = None;
        // Whatever the path begins with is this text, or one of its parents.
        let before = self.texts.partition_point(|text| *text.text <= *path);
        let mut next = longest(&self.texts, before.checked_sub(1), path);
        while let Some(at) = next {
            let text = &self.texts[at];
            first = earlier(&text.routes, first, |at| is_for(at, true));
            next = text.parent;
        }
        earlier(&self.others, first, |at| is_for(at, false))
    }
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
