//! How many files and connections this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows as many as there may be, as programs of Go do and users of Envoy are told to: the usual limit of 1,024 is one
/// for programs that use `select`. How many that is; none if there is no limit.
pub(super) fn allow() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}
