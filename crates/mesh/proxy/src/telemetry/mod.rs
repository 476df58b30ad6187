//! What is told about requests and connections that have ended, besides their spans.

pub(crate) mod istio;
mod keep;
pub(crate) mod log;
mod report;

pub use self::istio::{MetricRules, Peer};
pub(crate) use self::keep::Telemetry;
pub use self::log::{AccessLog, LogCollector};
pub(crate) use self::log::{
    Destination, Entry, LogView, Logs, Outlet, Sink, Upstream, Way, WriterThread,
};
pub(crate) use self::report::{Refusal, tell_connection, tell_no_chain};
