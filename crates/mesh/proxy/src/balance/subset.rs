//! Subsets: the endpoints that have certain labels.

use std::collections::BTreeMap;

use crate::snapshot::{Endpoint, Fallback, Labels, Subsets};

/// What a route asks of the endpoints of a cluster, worked out beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Criteria {
    /// The labels as one text; none if the route asks for nothing.
    pub(super) text: Option<Box<str>>,
    /// What serves it if no endpoint has them.
    pub(super) fallback: Fallback,
}

impl Criteria {
    /// What is asked of a cluster with these subsets by a route with these labels, sorted by name.
    pub(crate) fn new(labels: &Labels, subsets: &Subsets) -> Self {
        let mut asked: Vec<&(String, String)> = labels.iter().collect();
        if subsets.allows_redundant_keys {
            let names = |key: &String| labels.iter().any(|(name, _)| name == key);
            let mut selectors = subsets.selectors.iter();
            if let Some(selector) = selectors.find(|selector| selector.keys.iter().all(names)) {
                asked.retain(|(name, _)| selector.keys.contains(name));
            }
        }
        let mut selectors = subsets.selectors.iter();
        let own = selectors.find(|selector| {
            let keys = selector.keys.iter();
            keys.eq(asked.iter().map(|(name, _)| name))
        });
        Self {
            text: (!asked.is_empty()).then(|| text(asked.iter().copied())),
            fallback: own
                .and_then(|selector| selector.fallback)
                .unwrap_or(subsets.fallback),
        }
    }
}

/// The members of each subset that has any, by its text.
pub(super) fn members_by_text(
    subsets: &Subsets,
    endpoints: &[Endpoint],
) -> BTreeMap<Box<str>, Vec<u32>> {
    let mut found: BTreeMap<Box<str>, Vec<u32>> = BTreeMap::new();
    for selector in &subsets.selectors {
        for (index, endpoint) in endpoints.iter().enumerate() {
            let of_key = |key: &String| endpoint.labels.iter().find(|(name, _)| name == key);
            let labels: Option<Vec<_>> = selector.keys.iter().map(of_key).collect();
            let Some(labels) = labels else {
                continue;
            };
            let members = found.entry(text(labels)).or_default();
            // Two selectors may have the same keys.
            if members.last() != Some(&(index as u32)) {
                members.push(index as u32);
            }
        }
    }
    found
}

/// The endpoints of the default subset.
pub(super) fn default_members(subsets: &Subsets, endpoints: &[Endpoint]) -> Vec<u32> {
    let has_all = |endpoint: &Endpoint| {
        let mut wanted = subsets.default_subset.iter();
        wanted.all(|label| endpoint.labels.contains(label))
    };
    let indexed = (0..).zip(endpoints);
    let fitting = indexed.filter(|(_, endpoint)| has_all(endpoint));
    fitting.map(|(index, _)| index).collect()
}

/// Labels as one text. Names have no NUL, and neither has JSON.
fn text<'a>(labels: impl IntoIterator<Item = &'a (String, String)>) -> Box<str> {
    let mut text = String::new();
    for (name, value) in labels {
        text.push_str(name);
        text.push('\0');
        text.push_str(value);
        text.push('\0');
    }
    text.into()
}
