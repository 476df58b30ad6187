//! The incremental form: each response is what has changed for the client, with names of what has gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Sent,
};

use super::form::{Answers, Asked, Due, Form, Keep, Meaning, control_plane, version_text};
use crate::resource::Difference;
use crate::type_url::is_full_state;
use crate::{Resource, ResourceSet};

/// How many responses of a type are remembered for their answers.
const MAX_UNANSWERED: usize = 16;
/// How much of an error is searched for names. Envoy's have 4 KiB at most, and those of our proxy little more than 8.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// What the client has been sent, asked for and said about one type.
#[derive(Debug)]
pub(super) struct Delta {
    /// Whether a first request without names means all.
    has_wildcard: bool,
    all: bool,
    names: BTreeSet<String>,
    /// Those of the names, and of what the client said at first that it holds.
    bytes: usize,
    /// No request has been taken yet.
    fresh: bool,
    held: BTreeMap<String, Held>,
    answers: Answers,
    /// A response is owed whether or not anything changed.
    owed: bool,
    /// The nonces of responses that are not answered yet, and the names in them.
    unanswered: VecDeque<(String, BTreeSet<String>)>,
    /// What the client refused by name, as long as it was not taken since.
    refused: BTreeSet<String>,
    /// Those in a response that was refused without a name, as long as none of them was taken since: any may be it.
    suspected: BTreeSet<String>,
}

/// What the client knows of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    /// It has this version.
    Version(u64),
    /// It has a version that is none of ours, of a stream before this one.
    Other,
    /// It asked for it by name and was told that there is none.
    Absent,
}

impl Delta {
    fn wants(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }

    fn subscribe(&mut self, name: &str) {
        if name == "*" {
            self.all = true;
            return;
        }
        if self.names.insert(name.to_owned()) {
            self.bytes += name.len();
        }
        // Whoever asks again has forgotten it, and is sent it again.
        self.held.remove(name);
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.all = false;
            let names = &self.names;
            self.held.retain(|name, _| names.contains(name));
            self.refused.retain(|name| names.contains(name));
            self.suspected.retain(|name| names.contains(name));
            return;
        }
        if self.names.remove(name) {
            self.bytes -= name.len();
        }
        // If all are wanted too, it is sent again: the client no longer has it.
        self.held.remove(name);
        self.refused.remove(name);
        self.suspected.remove(name);
    }

    /// Notes what an answer says about the names in its response.
    fn take_answer(&mut self, nonce: &str, error: Option<&str>) {
        let mut all = self.unanswered.iter();
        let Some(at) = all.position(|(other, _)| other == nonce) else {
            return;
        };
        // Those before it are answered with it.
        let answered = self.unanswered.drain(..=at).next_back();
        let names = answered.map(|(_, names)| names).unwrap_or_default();
        let Some(error) = error else {
            self.refused.retain(|name| !names.contains(name));
            if !self.suspected.is_disjoint(&names) {
                self.suspected.clear();
            }
            return;
        };
        let (error, is_whole) = beginning(error);
        let is_named = |name: &String| mentions(error, name);
        let (mut named, mut others): (BTreeSet<_>, BTreeSet<_>) =
            names.into_iter().partition(is_named);
        // Envoy takes clusters and listeners that come with one that it refuses, and names all of these.
        let takes_others = self.has_wildcard && !named.is_empty() && is_whole;
        for names in [&mut named, &mut others] {
            names.retain(|name| self.wants(name));
        }
        if takes_others {
            self.refused.retain(|name| !others.contains(name));
        } else {
            self.suspected.append(&mut others);
        }
        self.refused.append(&mut named);
    }

    fn is_news(&self, resource: &Resource) -> bool {
        self.held.get(resource.name()) != Some(&Held::Version(resource.version()))
    }
}

impl Form for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    const RESUMES: bool = true;

    fn new(type_url: &str) -> Self {
        Self {
            has_wildcard: is_full_state(type_url),
            all: false,
            names: BTreeSet::new(),
            bytes: 0,
            fresh: true,
            held: BTreeMap::new(),
            answers: Answers::default(),
            owed: false,
            unanswered: VecDeque::new(),
            refused: BTreeSet::new(),
            suspected: BTreeSet::new(),
        }
    }

    fn asked(request: &DeltaDiscoveryRequest) -> Asked<'_> {
        let locators = [
            &request.resource_locators_subscribe,
            &request.resource_locators_unsubscribe,
        ];
        Asked {
            type_url: &request.type_url,
            names: (request.resource_names_subscribe.len())
                .max(request.initial_resource_versions.len()),
            has_locators: locators.iter().any(|locators| !locators.is_empty()),
            nonce: &request.response_nonce,
            error: request.error_detail.as_ref(),
        }
    }

    fn take_node(request: &mut DeltaDiscoveryRequest) -> Option<Node> {
        request.node.take()
    }

    fn is_plain_answer(request: &DeltaDiscoveryRequest) -> bool {
        !request.response_nonce.is_empty()
            && request.resource_names_subscribe.is_empty()
            && request.resource_names_unsubscribe.is_empty()
            && request.initial_resource_versions.is_empty()
    }

    fn on_request(&mut self, request: &DeltaDiscoveryRequest) -> Meaning {
        let fresh = std::mem::take(&mut self.fresh);
        let (added, gone) = (
            &request.resource_names_subscribe,
            &request.resource_names_unsubscribe,
        );
        for name in added {
            self.subscribe(name);
        }
        for name in gone {
            self.unsubscribe(name);
        }
        if fresh {
            self.all |= self.has_wildcard && added.is_empty();
            for (name, version) in &request.initial_resource_versions {
                self.bytes += name.len();
                // Who names nothing has what it holds in mind.
                if added.is_empty() && !self.all {
                    self.names.insert(name.clone());
                }
                if self.wants(name) {
                    let version =
                        u64::from_str_radix(version, 16).map_or(Held::Other, Held::Version);
                    self.held.insert(name.clone(), version);
                }
            }
            self.owed = true;
        }
        let error = request.error_detail.as_ref();
        let is_answer = error.is_some() || !request.response_nonce.is_empty();
        // Unlike in the other form, an answer to an older response says what is wanted all the same:
        // nobody says it again.
        let nonce = &request.response_nonce;
        let answer = is_answer.then(|| self.answers.take(nonce, error.is_some()));
        self.take_answer(nonce, error.map(|error| &*error.message));
        match answer {
            // A nonce of a stream that has ended.
            Some(Meaning::Stale) if fresh => Meaning::Subscribe,
            Some(meaning) => meaning,
            None => Meaning::Subscribe,
        }
    }

    fn due(&self, available: &ResourceSet, keep: Keep<'_>) -> Option<Due> {
        let resources: Vec<Arc<Resource>> = if self.all {
            let all = available.iter();
            all.filter(|it| self.is_news(it)).cloned().collect()
        } else {
            let named = self.names.iter().filter_map(|name| available.find(name));
            named.filter(|it| self.is_news(it)).cloned().collect()
        };
        let is_there = |name: &str| available.find(name).is_some();
        let held = self.held.iter();
        let gone = held.filter(|(name, held)| **held != Held::Absent && !is_there(name));
        let gone = gone.map(|(name, _)| name.clone());
        let mut removed: Vec<String> = gone.filter(|name| !keep.keeps(name)).collect();
        // Who asks for what does not exist is told, once.
        let unknown = |name: &&String| !self.held.contains_key(*name) && !is_there(name);
        removed.extend(self.names.iter().filter(unknown).cloned());
        if resources.is_empty() && removed.is_empty() && !self.owed {
            return None;
        }
        Some(Due {
            version: version_text(available.version()),
            resources,
            removed,
        })
    }

    fn due_after(&self, had: &ResourceSet, available: &ResourceSet, keep: Keep<'_>) -> Option<Due> {
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        for difference in had.differences(available) {
            match difference {
                Difference::News(it) if self.wants(it.name()) && self.is_news(it) => {
                    resources.push(Arc::clone(it));
                }
                Difference::Gone(it) if self.holds(it.name()) && !keep.keeps(it.name()) => {
                    removed.push(it.name().to_owned());
                }
                Difference::News(_) | Difference::Gone(_) => {}
            }
        }
        let is_due = !resources.is_empty() || !removed.is_empty() || self.owed;
        is_due.then(|| Due {
            version: version_text(available.version()),
            resources,
            removed,
        })
    }

    fn sent(&mut self, due: &Due, nonce: &str) -> Vec<Arc<Resource>> {
        for name in &due.removed {
            if self.names.contains(name) {
                self.held.insert(name.clone(), Held::Absent);
            } else {
                self.held.remove(name);
            }
        }
        for resource in &due.resources {
            let version = Held::Version(resource.version());
            self.held.insert(resource.name().to_owned(), version);
        }
        let names = due.resources.iter().map(|resource| resource.name());
        let names = names.chain(due.removed.iter().map(String::as_str));
        let names = names.map(str::to_owned).collect();
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((nonce.to_owned(), names));
        self.answers.sent(nonce);
        self.owed = false;
        due.resources.clone()
    }

    fn response(type_url: &str, nonce: &str, due: &Due) -> DeltaDiscoveryResponse {
        let resources = due.resources.iter().map(|resource| Sent {
            name: resource.name().to_owned(),
            version: version_text(resource.version()),
            resource: Some(resource.body().clone()),
            ..Sent::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: due.version.clone(),
            resources: resources.collect(),
            type_url: type_url.to_owned(),
            removed_resources: due.removed.clone(),
            nonce: nonce.to_owned(),
            control_plane: control_plane(),
            ..DeltaDiscoveryResponse::default()
        }
    }

    fn clusters_changed(&mut self, clusters: &[Arc<Resource>]) {
        for cluster in clusters {
            self.held.remove(cluster.name());
        }
    }

    fn has_outdated(&self, available: &ResourceSet) -> bool {
        let mut held = self.held.iter();
        held.any(|(name, held)| *held != Held::Absent && available.find(name).is_none())
    }

    fn holds(&self, name: &str) -> bool {
        let held = self.held.get(name);
        held.is_some_and(|held| *held != Held::Absent)
    }

    fn answers(&self) -> &Answers {
        &self.answers
    }

    fn refuses(&self) -> bool {
        !self.refused.is_empty() || !self.suspected.is_empty()
    }

    fn names(&self) -> Option<usize> {
        (!self.all).then_some(self.names.len())
    }

    fn kept_names(&self) -> usize {
        self.names.len()
    }

    fn kept_bytes(&self) -> usize {
        self.bytes
    }
}

/// As much of an error as is looked at, and whether there was no more to it: Envoy and our proxy say so.
fn beginning(error: &str) -> (&str, bool) {
    let most = error.floor_char_boundary(MAX_ERROR_BYTES);
    let is_cut = most < error.len() || error.ends_with("(truncated)") || error.ends_with('…');
    (&error[..most], !is_cut)
}

/// Whether an error names a resource, rather than another whose name has this one in it.
fn mentions(error: &str, name: &str) -> bool {
    let is_end =
        |next: char| !next.is_alphanumeric() && !matches!(next, '|' | '.' | '_' | '-' | '/');
    error.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&error[..at], &error[at + name.len()..]);
        before.chars().next_back().is_none_or(is_end) && behind.chars().next().is_none_or(is_end)
    })
}

#[cfg(test)]
mod tests;
