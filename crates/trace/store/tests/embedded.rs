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
#[path = "embedded/crash.rs"]
mod crash;
#[path = "embedded/damage.rs"]
mod damage;
#[path = "embedded/lifecycle.rs"]
mod lifecycle;
#[path = "embedded/reads.rs"]
mod reads;
#[path = "embedded/script.rs"]
mod script;
