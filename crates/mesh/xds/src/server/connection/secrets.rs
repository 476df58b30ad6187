//! Who may have secrets.

use super::Connection;
use crate::server::form::Form;
use crate::type_url::SECRET;
use crate::{ResourceSet, Snapshot};

impl<F: Form> Connection<F> {
    /// Whether there are secrets that it may have now.
    pub(super) fn look_at_secrets(&mut self) {
        let has_some = !self.snapshot.of_type(SECRET).is_empty();
        let may = has_some.then(|| self.shared.source.may_have_secrets(&self.node, &self.peer));
        self.has_secrets = matches!(may, Some(Ok(())));
        let no_secrets = may.and_then(Result::err);
        if let Some(reason) = no_secrets
            .as_ref()
            .filter(|_| no_secrets != self.no_secrets)
        {
            tracing::warn!(proxy = %self.node.id, "gets no secrets: {reason}");
        }
        self.no_secrets = no_secrets;
    }
}

/// What there is of a type, for somebody who may have secrets or not.
pub(super) fn available<'a>(
    snapshot: &'a Snapshot,
    type_url: &str,
    has_secrets: bool,
) -> &'a ResourceSet {
    match type_url == SECRET && !has_secrets {
        true => ResourceSet::nothing(),
        false => snapshot.of_type(type_url),
    }
}
