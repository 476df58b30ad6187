//! Certificates, keys and roots in files are read again when they change.
//!
//! They are looked at again and again rather than watched: whoever writes them may do so in any way, by
//! renaming a directory that a link leads to, or over a network.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::agent::Shared;
use crate::config::look_at;

/// How often.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        sleep(EVERY).await;
        let paths = shared.state().store.files();
        if paths.is_empty() {
            continue;
        }
        let looked = tokio::task::spawn_blocking(move || look_at(paths)).await;
        // It fails only if the runtime ends.
        let Ok(contents) = looked else {
            return;
        };
        let has_changed = shared.state().store.look_at_files(contents);
        if has_changed {
            shared.advance();
        }
    }
}
