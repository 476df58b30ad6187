//! Clusters that have gone while the routes that a client runs on may still name them.

use std::collections::{BTreeSet, VecDeque};

use super::form::Keep;
use crate::ResourceSet;
use crate::resource::Difference;

/// Which of the clusters that have gone stay with a client that has refused the newest listeners or routes, or not
/// answered. What it runs on may name those that there were when it last accepted all, which stay as long as that is so,
/// and those of the states between, of which it may have taken parts: as many of them as are allowed, the newest.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// The clusters there were when the client had accepted everything, or came back.
    accepted: ResourceSet,
    /// Others that the client has and that have gone since, in that order.
    between: VecDeque<String>,
    /// What it has and is to have no longer, until it has been told.
    let_go: BTreeSet<String>,
}

impl Retired {
    /// The client has accepted all of a state with these clusters.
    pub(super) fn accept(&mut self, clusters: &ResourceSet, has: impl Fn(&str) -> bool) {
        self.let_go.extend(self.between.drain(..));
        for difference in self.accepted.differences(clusters) {
            if let Difference::Gone(one) = difference
                && has(one.name())
            {
                self.let_go.insert(one.name().to_owned());
            }
        }
        self.accepted = clusters.clone();
    }

    /// The state is another one. Says how many clusters the client loses although its routes may name them.
    pub(super) fn change(
        &mut self,
        (old, new): (&ResourceSet, &ResourceSet),
        has: impl Fn(&str) -> bool,
        most: usize,
    ) -> usize {
        let is_there = |name: &String| new.find(name).is_some();
        self.between.retain(|name| !is_there(name));
        self.let_go.retain(|name| !is_there(name));
        for difference in old.differences(new) {
            if let Difference::Gone(one) = difference
                && self.accepted.find(one.name()).is_none()
                && has(one.name())
            {
                self.between.push_back(one.name().to_owned());
            }
        }
        let too_many = self.between.len().saturating_sub(most);
        self.let_go.extend(self.between.drain(..too_many));
        too_many
    }

    /// The client has been told of what there is.
    pub(super) fn told(&mut self) {
        self.let_go.clear();
    }

    /// What stays although it has gone.
    pub(super) fn keep(&self) -> Keep<'_> {
        Keep::AllBut(&self.let_go)
    }
}
