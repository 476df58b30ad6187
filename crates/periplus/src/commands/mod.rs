//! One module for each command: its flags, and the wiring of its role.

pub(crate) mod bookinfo;
pub(crate) mod client;
pub(crate) mod control;
mod data_dir;
pub(crate) mod demo;
mod duration;
pub(crate) mod export;
pub(crate) mod guard;
pub(crate) mod identity;
mod instant;
pub(crate) mod local;
mod output;
pub(crate) mod proxy;
pub(crate) mod proxy_init;
pub(crate) mod sampling;
pub(crate) mod serve;
pub(crate) mod services;
pub(crate) mod store;
pub(crate) mod trace;
pub(crate) mod up;

use anyhow::Context as _;

/// Runs what a command does on one thread: it waits more than it works.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}
