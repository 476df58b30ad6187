//! The state-of-the-world form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

use super::form::{Answers, Asked, Due, Form, Keep, Meaning, control_plane, version_of};
use crate::type_url::is_full_state;
use crate::{Resource, ResourceSet};

/// What the client has been sent, asked for and said about one type.
#[derive(Debug)]
pub(super) struct Subscription {
    full_state: bool,
    interest: Interest,
    /// No request has been taken yet.
    fresh: bool,
    /// Whether the client has ever given names: from then on, no names no longer mean all.
    named: bool,
    /// What the client holds, as far as it was sent.
    sent: BTreeMap<String, Arc<Resource>>,
    answers: Answers,
    /// A response is owed whether or not anything changed.
    owed: bool,
    /// The next acknowledgement gets everything again: clusters that changed wait for their endpoints,
    /// and ask for them with a request that looks like an acknowledgement.
    respond_to_next_ack: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Interest {
    All,
    Named(BTreeSet<String>),
}

impl Form for Subscription {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    const RESUMES: bool = false;

    fn new(type_url: &str) -> Self {
        Self {
            full_state: is_full_state(type_url),
            interest: Interest::Named(BTreeSet::new()),
            fresh: true,
            named: false,
            sent: BTreeMap::new(),
            answers: Answers::default(),
            owed: false,
            respond_to_next_ack: false,
        }
    }

    fn asked(request: &DiscoveryRequest) -> Asked<'_> {
        Asked {
            type_url: &request.type_url,
            names: request.resource_names.len(),
            has_locators: !request.resource_locators.is_empty(),
            nonce: &request.response_nonce,
            error: request.error_detail.as_ref(),
        }
    }

    fn take_node(request: &mut DiscoveryRequest) -> Option<Node> {
        request.node.take()
    }

    /// Each request says again what is wanted.
    fn is_plain_answer(_: &DiscoveryRequest) -> bool {
        false
    }

    fn on_request(&mut self, request: &DiscoveryRequest) -> Meaning {
        let refused = request.error_detail.is_some();
        let interest = self.interest_of(request);
        let nothing_wanted = matches!(&interest, Interest::Named(names) if names.is_empty());
        if nothing_wanted && !refused {
            return Meaning::Unsubscribe;
        }

        let fresh = std::mem::take(&mut self.fresh);
        if (fresh || request.response_nonce.is_empty()) && !refused {
            self.set_interest(interest);
            self.sent.clear();
            self.owed = true;
            return Meaning::Subscribe;
        }
        if !self.answers.is_of_newest(&request.response_nonce) {
            return self.answers.take(&request.response_nonce, refused);
        }

        // A full-state type is sent whole when names were added, the others only what is new: that is
        // found by comparing with what was sent.
        self.set_interest(interest);
        let meaning = self.answers.take(&request.response_nonce, refused);
        if meaning == Meaning::Ack && std::mem::take(&mut self.respond_to_next_ack) {
            self.sent.clear();
            self.owed = true;
        }
        meaning
    }

    /// One that has just begun has accepted no version.
    fn comes_back(request: &DiscoveryRequest) -> bool {
        !request.version_info.is_empty()
    }

    fn resume(&mut self, had: Vec<Arc<Resource>>) {
        let had = had.into_iter();
        self.sent = had.map(|it| (it.name().to_owned(), it)).collect();
    }

    fn due(&self, available: &ResourceSet, keep: Keep<'_>) -> Option<Due> {
        let mut wanted: Vec<&Arc<Resource>> = match &self.interest {
            Interest::All => available.iter().collect(),
            Interest::Named(names) => names
                .iter()
                .filter_map(|name| available.find(name))
                .collect(),
        };
        if !keep.is_nothing() {
            let outdated = self.outdated(available);
            wanted.extend(outdated.filter(|resource| keep.keeps(resource.name())));
            wanted.sort_unstable_by_key(|resource| resource.name());
        }
        let is_news = |resource: &&Arc<Resource>| self.is_news(resource);

        let version = |wanted: &[&Arc<Resource>]| {
            version_of(wanted.iter().map(|it| (it.name(), it.version())))
        };
        let (resources, version) = if self.full_state {
            let changed = wanted.len() != self.sent.len() || wanted.iter().any(is_news);
            if !changed && !self.owed {
                return None;
            }
            let version = version(&wanted);
            (wanted.into_iter().cloned().collect(), version)
        } else {
            let news: Vec<_> = wanted.iter().copied().filter(is_news).cloned().collect();
            if news.is_empty() && !self.owed {
                return None;
            }
            (news, version(&wanted))
        };
        Some(Due {
            resources,
            removed: Vec::new(),
            version,
        })
    }

    fn sent(&mut self, due: &Due, nonce: &str) -> Vec<Arc<Resource>> {
        let news = due
            .resources
            .iter()
            .filter(|resource| self.is_news(resource));
        let news = news.cloned().collect();
        if self.full_state {
            self.sent.clear();
        }
        self.sent.extend(
            due.resources
                .iter()
                .map(|resource| (resource.name().to_owned(), Arc::clone(resource))),
        );
        self.answers.sent(nonce);
        self.owed = false;
        news
    }

    fn response(type_url: &str, nonce: &str, due: &Due) -> DiscoveryResponse {
        let resources = due.resources.iter();
        DiscoveryResponse {
            version_info: due.version.clone(),
            resources: resources.map(|resource| resource.body().clone()).collect(),
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            control_plane: control_plane(),
            ..DiscoveryResponse::default()
        }
    }

    fn clusters_changed(&mut self, _: &[Arc<Resource>]) {
        self.respond_to_next_ack = true;
    }

    fn has_outdated(&self, available: &ResourceSet) -> bool {
        self.outdated(available).next().is_some()
    }

    fn holds(&self, name: &str) -> bool {
        self.sent.contains_key(name)
    }

    fn answers(&self) -> &Answers {
        &self.answers
    }

    fn names(&self) -> Option<usize> {
        match &self.interest {
            Interest::All => None,
            Interest::Named(names) => Some(names.len()),
        }
    }

    fn kept_names(&self) -> usize {
        self.names().unwrap_or_default()
    }

    fn kept_bytes(&self) -> usize {
        match &self.interest {
            Interest::All => 0,
            Interest::Named(names) => names.iter().map(String::len).sum(),
        }
    }
}

impl Subscription {
    fn is_news(&self, resource: &Resource) -> bool {
        let sent = self.sent.get(resource.name());
        sent.is_none_or(|sent| sent.version() != resource.version())
    }

    /// What the client holds and `available` no longer has.
    fn outdated<'a>(
        &'a self,
        available: &'a ResourceSet,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.sent
            .values()
            .filter(|resource| available.find(resource.name()).is_none())
    }

    fn interest_of(&mut self, request: &DiscoveryRequest) -> Interest {
        let names = &request.resource_names;
        if !self.full_state {
            return Interest::Named(names.iter().cloned().collect());
        }
        if names.iter().any(|name| name == "*") {
            return Interest::All;
        }
        if names.is_empty() && !self.named {
            return Interest::All;
        }
        self.named = true;
        Interest::Named(names.iter().cloned().collect())
    }

    fn set_interest(&mut self, interest: Interest) {
        if let Interest::Named(names) = &interest
            && !self.full_state
        {
            self.sent.retain(|name, _| names.contains(name));
        }
        self.interest = interest;
    }
}

#[cfg(test)]
mod tests;
