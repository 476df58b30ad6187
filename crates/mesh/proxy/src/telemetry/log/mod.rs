//! Access logs: a line, or a record of OpenTelemetry's, for each request or connection that has ended.
//!
//! A worker writes lines into memory of its own and hands them over in batches; a thread of its own writes
//! them to the files. No worker ever waits for a disk. Records go the way of spans.

mod collector;
mod digits;
mod entry;
mod expression;
mod filter;
mod format;
mod json;
pub(crate) mod known;
mod operator;
mod rare;
mod record;
mod sink;
mod time;
mod value;
mod writer;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use crate::export::Exporter;

pub use self::collector::LogCollector;
pub(crate) use self::entry::{Entry, Request, Upstream, Whole};
pub(crate) use self::expression::needs_response;
pub(crate) use self::filter::{Comparison, Filter, Op, is_known_flag};
pub(crate) use self::format::{Format, Template};
pub(crate) use self::json::{Json, Node, Object};
pub(crate) use self::record::{Record, Value};
pub(crate) use self::sink::Sink;
pub(crate) use self::value::needs_no_escape;
pub(crate) use self::writer::{Destination, Logs, WriterThread};

/// One entry of a list `access_log`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Which requests and connections are logged.
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    pub(crate) outlet: Outlet,
}

impl AccessLog {
    /// A log of everything, as records whose body is a text with operators. An error if that is none.
    pub fn of_records(collector: LogCollector, body: &str) -> Result<Self, String> {
        let body = Template::parse(body, false)?;
        Ok(Self {
            filter: Filter::All,
            format: Format::Record(Record {
                body: Some(Value::Text(body)),
                attributes: Vec::new(),
                tags: Vec::new(),
            }),
            outlet: Outlet::Records(Arc::new(collector)),
        })
    }
}

/// Reports a record. Apart from lines, which have the shorter way: they are what most proxies write.
#[cold]
fn report(log: &AccessLog, exporter: &Exporter, entry: &Entry<'_>) {
    if let Format::Record(record) = &log.format {
        exporter.append_record(|out| record.append(entry, out));
    }
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outlet {
    Lines(Destination),
    Records(Arc<LogCollector>),
}

/// The same at one worker.
#[derive(Debug)]
pub(crate) enum Way {
    Lines(Rc<Sink>),
    Records(Rc<Exporter>),
}

/// The access logs of a listener or a filter, as one worker writes them.
#[derive(Debug, Default)]
pub(crate) struct LogView {
    logs: Vec<(Arc<AccessLog>, Way)>,
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
    pub(crate) fn new(logs: &[Arc<AccessLog>], way: impl Fn(&Outlet) -> Way) -> Option<Self> {
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
                .map(|log| (log.clone(), way(&log.outlet)))
                .collect(),
        })
    }

    /// Writes the lines and the records of what has ended.
    pub(crate) fn write(&self, entry: &Entry<'_>, random: impl Fn() -> u64) {
        for (log, way) in &self.logs {
            if log.filter.takes(entry, &random) {
                match way {
                    Way::Lines(sink) => sink.append(|out| log.format.append(entry, out)),
                    Way::Records(exporter) => report(log, exporter, entry),
                }
            }
        }
    }

    /// Whether it writes to this sink.
    pub(crate) fn writes_to(&self, sink: &Rc<Sink>) -> bool {
        let mut ways = self.logs.iter().map(|(_, way)| way);
        ways.any(|way| matches!(way, Way::Lines(used) if Rc::ptr_eq(used, sink)))
    }

    /// Whether it reports to this exporter.
    pub(crate) fn reports_to(&self, exporter: &Rc<Exporter>) -> bool {
        let mut ways = self.logs.iter().map(|(_, way)| way);
        ways.any(|way| matches!(way, Way::Records(used) if Rc::ptr_eq(used, exporter)))
    }
}
