//! The engine with a disk, when the disk fails and the process dies.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod suite {
    #![expect(
        dead_code,
        reason = "written for the conformance suite, of which this needs a part"
    )]
    #[path = "../suite/build.rs"]
    pub(crate) mod build;
}

#[path = "embedded/beside.rs"]
mod beside;
#[path = "embedded/calls.rs"]
mod calls;
#[path = "embedded/cancel.rs"]
mod cancel;
#[path = "embedded/crash.rs"]
mod crash;
#[path = "embedded/damage.rs"]
mod damage;
#[path = "embedded/full_disk.rs"]
mod full_disk;
#[path = "embedded/gate.rs"]
mod gate;
#[path = "embedded/golden.rs"]
mod golden;
#[path = "embedded/health.rs"]
mod health;
#[path = "embedded/large_trace.rs"]
mod large_trace;
#[path = "embedded/lifecycle.rs"]
mod lifecycle;
#[path = "embedded/log_format.rs"]
mod log_format;
#[path = "embedded/lost_files.rs"]
mod lost_files;
#[path = "embedded/merges.rs"]
mod merges;
#[path = "embedded/open_files.rs"]
mod open_files;
#[path = "embedded/queries.rs"]
mod queries;
#[path = "embedded/queue.rs"]
mod queue;
#[path = "embedded/reads.rs"]
mod reads;
#[path = "embedded/salvage.rs"]
mod salvage;
#[path = "embedded/script.rs"]
mod script;
