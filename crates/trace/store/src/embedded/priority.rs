//! Who goes first where there is less processor than work: queries, and the log, before what makes
//! tables, and that before what makes and merges segments.
//!
//! When segments fall behind, batches are refused until they have caught up.

use rustix::process::setpriority_process;

/// For work that senders wait for, and that could take the whole processor from queries.
pub(super) const SOON: i32 = 5;

/// For work that nobody waits for.
pub(super) const LATER: i32 = 10;

/// Lowers the priority of this thread: on Linux each has its own.
pub(super) fn lower(nice: i32) {
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(%error, "cannot lower the priority of a thread of the store");
    }
}
