//! What the tests of the data path share: a proxy on a hand-made snapshot, origins and collectors
//! on real sockets.

pub(crate) mod collector;
pub(crate) mod config;
pub(crate) mod frames;
pub(crate) mod h2;
pub(crate) mod origin;
pub(crate) mod wire;

pub(crate) use collector::Collector;
pub(crate) use config::{Config, forward, route};
pub(crate) use origin::Origin;
pub(crate) use wire::{Client, Response};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `check` gives something.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "waited too long for {what}");
        pause(Duration::from_millis(2));
    }
}

/// Lets time pass: for origins that are slow, and between two looks at a condition.
#[expect(
    clippy::disallowed_methods,
    reason = "time itself is what these tests are about"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
