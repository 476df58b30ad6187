//! Whether the keys of an issuer of tokens could be had.

use std::time::SystemTime;

/// How it goes with getting the keys of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When they came last.
    pub since: Option<SystemTime>,
    /// Why they did not come when they were asked for last; those before stay in use.
    pub trouble: Option<String>,
}

impl Standing {
    /// What has come of asking for them.
    pub fn note(&mut self, trouble: Option<String>, now: SystemTime) {
        if trouble.is_none() {
            self.since = Some(now);
        }
        self.trouble = trouble;
    }
}
