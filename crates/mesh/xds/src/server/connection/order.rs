//! What a client is sent next, so that what is named is there before those who name it, and as long as they do.

use super::secrets::available;
use super::{Connection, key};
use crate::server::form::{Due, Form, Keep};
use crate::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

impl<F: Form> Connection<F> {
    /// The first type in push order that differs from what the client holds.
    pub(super) fn next_due(&mut self) -> Option<(String, Due)> {
        let due = self.find_due();
        if due.is_none()
            && self.hold_until.is_none()
            && let Some(since) = self.converges.take()
            && std::mem::take(&mut self.has_sent)
        {
            self.measure(|measures| measures.convergence.took(since.elapsed()));
        }
        due
    }

    fn find_due(&mut self) -> Option<(String, Due)> {
        if self.hold_until.is_some() && self.clusters_are_warm() {
            self.hold_until = None;
        }
        let keeps_clusters = self.keeps_clusters();
        let is_held = self.hold_until.is_some();
        let mut subscriptions = self.subscriptions.iter_mut();
        subscriptions.find_map(|((_, type_url), subscription)| {
            if is_held && matches!(type_url.as_str(), LISTENER | ROUTE) {
                return None;
            }
            if type_url == SECRET && !subscription.form.answers().is_answered() {
                return None;
            }
            let keep = match keeps_clusters && type_url == CLUSTER {
                true => self.retired.keep(),
                false => Keep::Nothing,
            };
            let available = available(&self.snapshot, type_url, self.has_secrets);
            let mut due = subscription.due(available, keep)?;
            if type_url == SECRET {
                // One at a time: Envoy takes none of those that come with one that it refuses.
                due.resources.truncate(1);
                subscription.offered = None;
            }
            Some((type_url.clone(), due))
        })
    }

    /// Whether the client answered the newest clusters, and has the endpoints that it then asked for.
    fn clusters_are_warm(&mut self) -> bool {
        let is_answered = |type_url: &str| {
            self.subscriptions
                .get(&key(type_url))
                .is_none_or(|subscription| subscription.form.answers().is_answered())
        };
        is_answered(CLUSTER) && is_answered(ENDPOINT) && !self.is_due(ENDPOINT)
    }

    /// Whether the client keeps clusters that have gone: its routes may still name them.
    fn keeps_clusters(&mut self) -> bool {
        let current = self.snapshot.of_type(CLUSTER);
        let has_outdated = self
            .subscriptions
            .get(&key(CLUSTER))
            .is_some_and(|clusters| {
                !clusters.has_all_of(current) && clusters.form.has_outdated(current)
            });
        has_outdated && !self.runs_on_newest()
    }

    /// Whether the client has and accepted the newest of all that may name clusters.
    pub(super) fn runs_on_newest(&mut self) -> bool {
        self.is_settled(LISTENER) && self.is_settled(ROUTE) && self.is_back()
    }

    /// Whether a client that has come back has asked for all that may name what it holds, or has had the time to.
    fn is_back(&mut self) -> bool {
        let has_asked = |it: &str| self.subscriptions.contains_key(&key(it));
        if has_asked(LISTENER) && has_asked(ROUTE) {
            self.resumes_until = None;
        }
        self.resumes_until.is_none()
    }

    /// Whether the client has and accepted the newest state of this type, or does not ask for it.
    fn is_settled(&mut self, type_url: &str) -> bool {
        let subscription = self.subscriptions.get(&key(type_url));
        let has_taken = |form: &F| form.answers().is_acknowledged() && !form.refuses();
        subscription.is_none_or(|it| has_taken(&it.form)) && !self.is_due(type_url)
    }

    fn is_due(&mut self, type_url: &str) -> bool {
        let available = available(&self.snapshot, type_url, self.has_secrets);
        let subscription = self.subscriptions.get_mut(&key(type_url));
        subscription.is_some_and(|it| it.due(available, Keep::Nothing).is_some())
    }
}
