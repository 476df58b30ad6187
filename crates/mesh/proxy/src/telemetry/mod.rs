//! What is told about requests and connections that have ended, besides their spans.

pub(crate) mod istio;
pub(crate) mod log;
mod report;

pub use self::istio::{MetricRules, Peer};
pub use self::log::AccessLog;
pub(crate) use self::log::{Destination, Entry, LogView, Logs, Sink, Upstream, WriterThread};
pub(crate) use self::report::{Refusal, Telemetry, tell_connection, tell_no_chain};
