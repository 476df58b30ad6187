//! The data plane: an HTTP/1.1 sidecar and gateway that makes spans.

pub mod bootstrap;
mod publish;
mod runtime;
pub mod snapshot;

pub use publish::Published;
pub use runtime::{Options, Proxy, StartError};
