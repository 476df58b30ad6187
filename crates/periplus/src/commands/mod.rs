//! One module for each command: its flags, and the wiring of its role.

pub(crate) mod bookinfo;
pub(crate) mod control;
mod data_dir;
pub(crate) mod demo;
mod duration;
pub(crate) mod guard;
mod instant;
pub(crate) mod proxy;
pub(crate) mod serve;
pub(crate) mod store;
