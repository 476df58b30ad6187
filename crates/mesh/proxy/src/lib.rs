//! The data plane: an HTTP/1.1 sidecar and gateway that makes spans.

mod acquire;
mod admin;
mod agent;
pub mod bootstrap;
mod buffer;
mod call;
mod clock;
mod config;
mod connection;
mod conversation;
mod exchange;
mod export;
mod flags;
mod forward;
mod heads;
mod http1;
mod listener;
mod net;
mod publish;
mod record;
mod registry;
mod relay;
mod reply;
mod route;
mod runtime;
pub mod snapshot;
mod stats;
mod timer;
mod trace;
mod upstream;
mod view;
mod worker;

pub use agent::{Agent, AgentError};
pub use publish::Published;
pub use runtime::{Options, Proxy, StartError};
