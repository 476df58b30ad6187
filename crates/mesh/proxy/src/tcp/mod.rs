//! The TCP proxy: the bytes of a client to an endpoint and back, whatever they are.

mod admission;
mod connect;
mod hearing;
mod relay;
mod session;

pub(crate) use session::Session;
