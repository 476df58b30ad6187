//! The workers: one thread, one current-thread runtime and one set of listening sockets each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::Published;
use crate::snapshot::Node;

/// How the workers run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers; each listens with SO_REUSEPORT and shares nothing on the request path.
    pub workers: usize,
    /// The most downstream connections of one worker; more are closed at once and counted.
    pub max_connections: usize,
    /// The most spans that wait for export in one worker; more are dropped and counted.
    pub max_pending_spans: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 16 * 1024,
            max_pending_spans: 16 * 1024,
        }
    }
}

/// Why the workers could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A worker's thread or runtime could not be made.
    #[error("worker {worker} could not start")]
    Worker {
        /// Which.
        worker: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The running workers.
#[derive(Debug)]
pub struct Proxy {}

impl Proxy {
    /// Starts the workers on what is published; they follow every later publication.
    ///
    /// A listener that cannot bind does not stop the others: it is retried, and
    /// [`Proxy::bind_errors`] names it.
    pub fn start(
        _published: Arc<Published>,
        _node: Node,
        _options: Options,
    ) -> Result<Self, StartError> {
        Ok(Self {})
    }

    /// The newest generation whose listeners all workers have applied.
    pub fn applied_generation(&self) -> u64 {
        0
    }

    /// Listeners that could not bind: name, address, error.
    pub fn bind_errors(&self) -> Vec<(String, SocketAddr, String)> {
        Vec::new()
    }

    /// All counters and gauges, summed over the workers, by Envoy's names where Envoy has one
    /// (`http.PREFIX.downstream_rq_total`, `cluster.NAME.upstream_cx_active`, …), sorted.
    pub fn stats(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Stops accepting, lets requests finish until the deadline, flushes the spans.
    pub async fn shutdown(self, _deadline: Duration) {}
}
