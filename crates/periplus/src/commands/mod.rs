//! One module for each command: its flags, and the wiring of its role.

pub(crate) mod analyze;
pub(crate) mod authz;
pub(crate) mod bookinfo;
pub(crate) mod client;
pub(crate) mod control;
mod control_plane;
pub(crate) mod dashboard;
mod data_dir;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod diff;
pub(crate) mod doctor;
mod duration;
pub(crate) mod explain;
pub(crate) mod export;
mod failure;
mod finding;
pub(crate) mod guard;
pub(crate) mod identity;
mod instant;
mod issuers;
pub(crate) mod local;
mod mesh;
mod open_files;
pub(crate) mod outcome;
mod output;
pub(crate) mod proxy;
pub(crate) mod proxy_config;
pub(crate) mod proxy_init;
pub(crate) mod proxy_status;
pub(crate) mod ratelimit;
pub(crate) mod sampling;
pub(crate) mod serve;
pub(crate) mod services;
pub(crate) mod shell;
pub(crate) mod store;
pub(crate) mod trace;
pub(crate) mod up;
pub(crate) mod version;

use anyhow::Context as _;

/// Runs what a command does on one thread: it waits more than it works.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}
