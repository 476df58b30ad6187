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
mod tests {
    use envoy_types::pb::google::protobuf::Any;
    use envoy_types::pb::google::rpc;

    use super::*;
    use crate::type_url::{CLUSTER, ENDPOINT};

    fn resource(name: &str, content: &str) -> Resource {
        Resource::from_any(
            name,
            Any {
                type_url: ENDPOINT.to_owned(),
                value: content.as_bytes().to_vec(),
            },
        )
    }

    fn set(resources: &[(&str, &str)]) -> ResourceSet {
        resources
            .iter()
            .map(|(name, content)| resource(name, content))
            .collect()
    }

    fn request(nonce: &str, names: &[&str]) -> Box<DiscoveryRequest> {
        Box::new(DiscoveryRequest {
            response_nonce: nonce.to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DiscoveryRequest::default()
        })
    }

    fn refusal(nonce: &str, names: &[&str]) -> Box<DiscoveryRequest> {
        Box::new(DiscoveryRequest {
            error_detail: Some(rpc::Status {
                code: 3,
                message: "no".to_owned(),
                details: Vec::new(),
            }),
            ..*request(nonce, names)
        })
    }

    /// What is due, as `name=content` texts; sends it under the nonce.
    fn push(subscription: &mut Subscription, available: &ResourceSet, nonce: &str) -> Vec<String> {
        let Some(due) = subscription.due(available, Keep::Nothing) else {
            return vec!["nothing".to_owned()];
        };
        subscription.sent(&due, nonce);
        due.resources
            .iter()
            .map(|r| format!("{}={}", r.name(), String::from_utf8_lossy(&r.body().value)))
            .collect()
    }

    enum Step<'a> {
        Request(Box<DiscoveryRequest>, Meaning),
        Push(&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]),
        AnswerNextAck,
    }
    use Step::{AnswerNextAck, Push, Request};

    #[test]
    fn the_decision_table() {
        const AB: &[(&str, &str)] = &[("a", "1"), ("b", "1")];
        const A2B: &[(&str, &str)] = &[("a", "2"), ("b", "1")];
        const NOTHING: &[&str] = &["nothing"];
        let cases: Vec<(&str, &str, Vec<Step<'_>>)> = vec![
            (
                "a wildcard type without names gets everything, and only changes after that",
                CLUSTER,
                vec![
                    Request(request("", &[]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1", "b=1"]),
                    Request(request("1", &[]), Meaning::Ack),
                    Push(AB, "", NOTHING),
                    Push(A2B, "2", &["a=2", "b=1"]),
                    Request(request("2", &[]), Meaning::Ack),
                    Push(&[("a", "2")], "3", &["a=2"]),
                ],
            ),
            (
                "a wildcard type with names gets those, and none of them is an unsubscription",
                CLUSTER,
                vec![
                    Request(request("", &["b"]), Meaning::Subscribe),
                    Push(AB, "1", &["b=1"]),
                    Request(request("1", &["a", "b"]), Meaning::Ack),
                    Push(AB, "2", &["a=1", "b=1"]),
                    Request(request("2", &[]), Meaning::Unsubscribe),
                ],
            ),
            (
                "a star among the names is the wildcard",
                CLUSTER,
                vec![
                    Request(request("", &["*"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1", "b=1"]),
                ],
            ),
            (
                "other types get what they name, then only what is new",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Request(request("1", &["a"]), Meaning::Ack),
                    Push(AB, "", NOTHING),
                    Request(request("1", &["a", "b"]), Meaning::Ack),
                    Push(AB, "2", &["b=1"]),
                    Request(request("2", &["a", "b"]), Meaning::Ack),
                    Push(A2B, "3", &["a=2"]),
                ],
            ),
            (
                "names that were taken away get no response, and are sent again when they come back",
                ENDPOINT,
                vec![
                    Request(request("", &["a", "b"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1", "b=1"]),
                    Request(request("1", &["b"]), Meaning::Ack),
                    Push(A2B, "", NOTHING),
                    Request(request("1", &["a", "b"]), Meaning::Ack),
                    Push(A2B, "2", &["a=2"]),
                ],
            ),
            (
                "a type without a wildcard and without names is unsubscribed",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Request(request("1", &[]), Meaning::Unsubscribe),
                ],
            ),
            (
                "a name that does not exist is answered with nothing, and pushed once it does",
                ENDPOINT,
                vec![
                    Request(request("", &["c"]), Meaning::Subscribe),
                    Push(AB, "1", &[]),
                    Push(AB, "", NOTHING),
                    Push(&[("c", "1")], "2", &["c=1"]),
                ],
            ),
            (
                "a refusal gets no response until something changes",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Request(refusal("1", &["a"]), Meaning::Nack),
                    Push(AB, "", NOTHING),
                    Push(A2B, "2", &["a=2"]),
                ],
            ),
            (
                "an answer to an older response changes nothing, not even the names",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Push(A2B, "2", &["a=2"]),
                    Request(request("1", &["a", "b"]), Meaning::Stale),
                    Push(A2B, "", NOTHING),
                    Request(request("2", &["a", "b"]), Meaning::Ack),
                    Push(A2B, "3", &["b=1"]),
                ],
            ),
            (
                "the first request after a reconnect may carry an old nonce and gets everything",
                ENDPOINT,
                vec![
                    Request(request("77", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                ],
            ),
            (
                "an empty nonce starts over",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Request(request("", &["a", "b"]), Meaning::Subscribe),
                    Push(AB, "2", &["a=1", "b=1"]),
                ],
            ),
            (
                "endpoints of clusters that changed are sent again although they look acknowledged",
                ENDPOINT,
                vec![
                    Request(request("", &["a"]), Meaning::Subscribe),
                    Push(AB, "1", &["a=1"]),
                    Request(request("1", &["a"]), Meaning::Ack),
                    AnswerNextAck,
                    Push(AB, "", NOTHING),
                    Request(request("1", &["a"]), Meaning::Ack),
                    Push(AB, "2", &["a=1"]),
                    Request(request("2", &["a"]), Meaning::Ack),
                    Push(AB, "", NOTHING),
                ],
            ),
        ];

        for (case, type_url, steps) in cases {
            let mut subscription = Subscription::new(type_url);
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Request(request, meaning) => {
                        assert_eq!(
                            subscription.on_request(&request),
                            meaning,
                            "{case}: step {at}"
                        );
                    }
                    Push(available, nonce, expected) => {
                        let pushed = push(&mut subscription, &set(available), nonce);
                        assert_eq!(pushed, expected, "{case}: step {at}");
                    }
                    AnswerNextAck => subscription.clusters_changed(&[]),
                }
            }
        }
    }

    #[test]
    fn the_version_depends_on_content_and_names_alone() {
        let mut wildcard = Subscription::new(CLUSTER);
        wildcard.on_request(&request("", &[]));
        let version = |set: &ResourceSet| wildcard.due(set, Keep::Nothing).expect("owed").version;

        let one = version(&set(&[("a", "1"), ("b", "1")]));
        assert_eq!(one, version(&set(&[("b", "1"), ("a", "1")])));
        assert_ne!(one, version(&set(&[("a", "1"), ("b", "2")])));
        assert_ne!(one, version(&set(&[("a", "1")])));
    }
}
