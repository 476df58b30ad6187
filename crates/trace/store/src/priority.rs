//! Who goes first where there is less processor than work: queries, before what takes spans in, and that
//! before what merges segments.
//!
//! All that takes spans in has the same priority: if one part fell behind, batches would be refused.
//! Queries compute on a bounded number of threads, so that it always goes on.

use rustix::process::setpriority_process;

/// For the threads that take spans in, of which there are several for each that answers: together they
/// weigh half of what one query does (Linux gives each of them a ninth of what a thread of the usual
/// priority gets), so that with one core between them an answer takes half as long again.
pub const INTAKE: i32 = 10;

/// For work that nobody waits for.
pub(crate) const LATER: i32 = 15;

/// Lowers the priority of this thread to a nice value: on Linux each has its own.
pub fn lower(nice: i32) {
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}
