//! Who goes first where there is less processor than work: queries, and the log, before what makes
//! tables and segments, and that before what merges segments.
//!
//! Tables and segments have the same priority: if segments fell behind, batches would be refused.

use rustix::process::setpriority_process;

/// For work that senders wait for in the end, and that could take the whole processor from queries.
pub(super) const SOON: i32 = 5;

/// For work that nobody waits for.
pub(super) const LATER: i32 = 10;

/// Lowers the priority of this thread: on Linux each has its own.
pub(super) fn lower(nice: i32) {
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(%error, "cannot lower the priority of a thread of the store");
    }
}
