//! One module for each command: its flags, and the wiring of its role.

pub(crate) mod bookinfo;
pub(crate) mod control;
pub(crate) mod demo;
pub(crate) mod guard;
pub(crate) mod proxy;
pub(crate) mod serve;
