//! Access logs: a line for each request or connection that has ended.
//!
//! A worker writes lines into memory of its own and hands them over in batches; a thread of its own writes
//! them to the files. No worker ever waits for a disk.

mod digits;
mod entry;
mod expression;
mod filter;
mod format;
mod json;
pub(crate) mod known;
mod operator;
mod rare;
mod sink;
mod time;
mod value;
mod writer;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

pub(crate) use self::entry::{Entry, Request, Upstream, Whole};
pub(crate) use self::expression::needs_response;
pub(crate) use self::filter::{Comparison, Filter, Op, is_known_flag};
pub(crate) use self::format::{Format, Template};
pub(crate) use self::json::{Json, Node, Object};
pub(crate) use self::sink::Sink;
pub(crate) use self::value::needs_no_escape;
pub(crate) use self::writer::{Destination, Logs, WriterThread};

/// One entry of a list `access_log`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Which requests and connections are logged.
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    pub(crate) destination: Destination,
}

/// The access logs of a listener or a filter, as one worker writes them.
#[derive(Debug, Default)]
pub(crate) struct LogView {
    logs: Vec<(Arc<AccessLog>, Rc<Sink>)>,
    /// A line tells of headers that the proxy itself writes into requests,
    pub(crate) needs_sent_head: bool,
    /// and of others than those that only the edge or a route writes.
    pub(crate) needs_own_headers: bool,
    /// A line tells of the response's headers or trailers.
    pub(crate) needs_response: bool,
    /// A line tells of the proxy's own address on the way to the endpoint.
    pub(crate) needs_upstream_local: bool,
    /// A line tells how the connection to the endpoint came to be.
    pub(crate) needs_birth: bool,
    /// A line tells of the head that the endpoint has sent.
    pub(crate) needs_upstream_head: bool,
}

impl LogView {
    /// None if nothing is logged.
    pub(crate) fn new(
        logs: &[Arc<AccessLog>],
        sink: impl Fn(&Destination) -> Rc<Sink>,
    ) -> Option<Self> {
        let any = |needs: fn(&AccessLog) -> bool| logs.iter().any(|log| needs(log));
        (!logs.is_empty()).then(|| Self {
            needs_sent_head: any(|log| {
                log.format.needs_sent_head() || log.filter.needs_sent_head()
            }),
            needs_own_headers: any(|log| {
                log.format.needs_own_headers() || log.filter.needs_sent_head()
            }),
            needs_response: any(|log| log.format.needs_response() || log.filter.needs_response()),
            needs_upstream_local: any(|log| log.format.needs_upstream_local()),
            needs_birth: any(|log| log.format.needs_birth()),
            needs_upstream_head: any(|log| log.format.needs_upstream_head()),
            logs: logs
                .iter()
                .map(|log| (log.clone(), sink(&log.destination)))
                .collect(),
        })
    }

    /// Writes the lines of what has ended.
    pub(crate) fn write(&self, entry: &Entry<'_>, random: impl Fn() -> u64) {
        for (log, sink) in &self.logs {
            if log.filter.takes(entry, &random) {
                sink.append(|out| log.format.append(entry, out));
            }
        }
    }

    /// Whether it writes to this sink.
    pub(crate) fn uses(&self, sink: &Rc<Sink>) -> bool {
        self.logs.iter().any(|(_, used)| Rc::ptr_eq(used, sink))
    }
}
