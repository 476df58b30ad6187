//! What a stream is sent of one type, looked at no more often than needed.

use std::sync::Arc;

use super::form::{Due, Form, Keep, Meaning};
use crate::{Resource, ResourceSet};

/// One type of a stream.
pub(super) struct Subscription<F> {
    pub(super) form: F,
    /// Nothing of this set is due: nobody needs to look again until it or the subscription is another one.
    has: Option<ResourceSet>,
    /// What was last found to be due is all that is due of this set.
    pub(super) offered: Option<ResourceSet>,
}

impl<F: Form> Subscription<F> {
    pub(super) fn new(type_url: &str) -> Self {
        Self {
            form: F::new(type_url),
            has: None,
            offered: None,
        }
    }

    pub(super) fn due(&mut self, available: &ResourceSet, keep: Keep<'_>) -> Option<Due> {
        if self.has_all_of(available) {
            return None;
        }
        let due = match &self.has {
            Some(had) => self.form.due_after(had, available, keep),
            None => self.form.due(available, keep),
        };
        debug_assert_eq!(due, self.form.due(available, keep), "whoever looks at all");
        let whole = keep.is_nothing().then(|| available.clone());
        match due.is_some() {
            true => self.offered = whole,
            false => self.has = whole,
        }
        due
    }

    /// Notes that a response goes out. Says what in it is new to the client or other than before.
    pub(super) fn sent(&mut self, due: &Due, nonce: &str) -> Vec<Arc<Resource>> {
        let news = self.form.sent(due, nonce);
        self.has = self.offered.take();
        debug_assert!(
            self.has
                .as_ref()
                .is_none_or(|it| self.form.due(it, Keep::Nothing).is_none()),
            "all that was due has been sent"
        );
        news
    }

    pub(super) fn on_request(&mut self, request: &F::Request) -> Meaning {
        match F::is_plain_answer(request) {
            true => self.form.on_request(request),
            false => self.change().on_request(request),
        }
    }

    pub(super) fn has_all_of(&self, available: &ResourceSet) -> bool {
        self.has.as_ref().is_some_and(|has| has.is_same(available))
    }

    /// What is done here may make something due.
    pub(super) fn change(&mut self) -> &mut F {
        self.has = None;
        &mut self.form
    }
}
