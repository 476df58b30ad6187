use std::path::Path;
use std::sync::Arc;

use periplus_resources::{Diagnostic, Resource, may_hold_policies, parse_resources};

use super::content::Content;
use super::read::{Read, Signature, read};
use super::{Change, at_start, closed};

/// A file: what it said when it was last right, and what is wrong with it now.
#[derive(Debug, Default)]
pub(super) struct File<T> {
    signature: Option<Signature>,
    pub(super) good: T,
    pub(super) errors: Vec<Diagnostic>,
    /// What cannot be read now may be policies.
    pub(super) hides_policies: bool,
    /// Policies of it have never been right since the start, and this denies everything for it.
    pub(super) closing: Vec<Resource>,
}

impl File<Content> {
    pub(super) fn scan(&mut self, path: &Path, name: &Arc<str>) -> Option<Change> {
        let text = match self.text(path, name)? {
            Ok(text) => text,
            Err(change) => {
                self.good.leave();
                return Some(change);
            }
        };
        // An editor that truncates before it writes is not meant to remove everything.
        if text.trim().is_empty() && (self.is_closed() || !self.good.resources().is_empty()) {
            self.hides_policies = false;
            self.good.leave();
            let message = "the file is empty, its last good content stays: delete the file to remove \
                           its resources";
            return self.refuse(name.clone(), vec![at_start(name, message.into())]);
        }
        let parsed = parse_resources(name, &text);
        if parsed.is_unreadable() {
            self.hides_policies = may_hold_policies(&text);
            self.good.leave();
            return self.refuse(name.clone(), parsed.errors);
        }
        let errors = parsed.errors.clone();
        let is_other = errors != self.errors;
        let before = self.good.take(parsed);
        self.hides_policies = self.good.hides_policies();
        if !self.good.lacks_policies() {
            self.closing.clear();
        }
        let mut change = Change::between(name.clone(), &before, self.good.resources());
        change.fixed = errors.is_empty() && is_other;
        if is_other {
            change.errors.clone_from(&errors);
        }
        self.errors = errors;
        Some(change)
    }

    pub(super) fn is_closed(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Denies everything if there may be policies that nobody has read yet. Later the last good content is kept.
    pub(super) fn close(&mut self, name: &Arc<str>, root_namespace: &str) {
        if !self.errors.is_empty() && self.hides_policies {
            self.closing = closed::deny_all(name, root_namespace);
        }
    }
}

impl<T> File<T> {
    /// The file's text, unless it is the same as at the last scan.
    pub(super) fn text(&mut self, path: &Path, name: &Arc<str>) -> Option<Result<String, Change>> {
        match read(path, self.signature.as_ref()) {
            Read::Same => None,
            Read::Text(signature, text) => {
                self.signature = Some(signature);
                Some(Ok(text))
            }
            Read::Failed(reason) => {
                self.signature = None;
                self.hides_policies = true;
                let message = format!("{reason}, the file's last good content stays");
                let errors = vec![at_start(name, message)];
                self.refuse(name.clone(), errors).map(Err)
            }
        }
    }

    /// Notes what is wrong; the last good content stays. News only when it was not wrong like that.
    pub(super) fn refuse(&mut self, name: Arc<str>, errors: Vec<Diagnostic>) -> Option<Change> {
        if self.errors == errors {
            return None;
        }
        self.errors.clone_from(&errors);
        Some(Change::broken(name, errors))
    }
}
