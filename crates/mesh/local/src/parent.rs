//! No part outlives the supervisor, however that one ends.
//!
//! The supervisor holds the writing end of each part's standard input and never writes. When it
//! goes away, killed or not, the kernel closes that end, and the part reads the end of the file.

use std::io::{self, Read as _};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Set to `stdin`, a process ends when its standard input does.
pub const EXIT_WITH_PARENT: &str = "PERIPLUS_EXIT_WITH_PARENT";

/// How long a part may take to end in good order once its supervisor is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Heeds [`EXIT_WITH_PARENT`]: when the parent is gone this process gets a SIGTERM, as if from
/// the parent, and is ended if it does not heed that. To be called once, first thing in `main`.
pub fn follow_parent() -> io::Result<()> {
    if std::env::var_os(EXIT_WITH_PARENT).is_none_or(|value| value != "stdin") {
        return Ok(());
    }
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(|| {
            wait_for_end_of_input();
            // Where this fails the exit below does the work.
            kill_process(getpid(), Signal::TERM).ok();
            thread::park_timeout(GRACE);
            std::process::exit(1);
        })
        .map(drop)
}

fn wait_for_end_of_input() {
    let mut input = io::stdin().lock();
    let mut ignored = [0; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
