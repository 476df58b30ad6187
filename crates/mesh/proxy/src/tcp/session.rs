//! A client's connection from its first moment to the record of its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Micros;
use crate::flags::{Flag, Flags};
use crate::net::Stream;
use crate::registry::Registered;
use crate::tcp::relay::{Carried, End};
use crate::timer::Timer;
use crate::upstream::ClusterState;
use crate::view::TcpView;
use crate::worker::Worker;

/// A client's connection and where it goes.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<TcpView>,
    pub(super) registered: Registered,
    pub(super) client: Stream,
    /// Where the client wanted to go, if it was redirected.
    pub(super) original: Option<SocketAddr>,
    pub(super) timer: Timer,
    pub(super) flags: Flags,
    /// When the connection has lasted for long enough.
    pub(super) last_moment: Option<Micros>,
    /// It has been told that it is to end.
    pub(super) is_draining: bool,
    begin: Micros,
}

impl Session {
    pub(crate) fn new(
        worker: Rc<Worker>,
        view: Rc<TcpView>,
        listener: Rc<str>,
        client: Stream,
        original: Option<SocketAddr>,
    ) -> Self {
        let begin = worker.clock.now();
        let last_moment = view.proxy.max_duration.map(|duration| {
            let share = (worker.random() >> 11) as f64 / (1_u64 << 53) as f64;
            let jitter = duration.mul_f64(share * view.proxy.max_duration_jitter / 100.0);
            begin.saturating_add((duration + jitter).as_micros() as u64)
        });
        Self {
            registered: Registered::new(&worker, listener),
            timer: worker.timers.timer(),
            flags: Flags::default(),
            client,
            original,
            last_moment,
            is_draining: false,
            begin,
            worker,
            view,
        }
    }

    /// Connects to an endpoint, and passes bytes on until both sides have ended.
    pub(crate) async fn run(mut self) {
        self.view.stats.cx_total.increment();
        let Some(cluster) = self.cluster() else {
            self.view.stats.cx_no_route.increment();
            self.flags.set(Flag::NC);
            self.record(None, Carried::default());
            return;
        };
        let mut carried = Carried::default();
        // Boxed, so that a connection at work does not hold the memory for it.
        if let Some(upstream) = Box::pin(self.connect(&cluster)).await {
            let relayed = self.relay(&cluster, upstream).await;
            self.end(relayed.end);
            carried = relayed.carried;
        }
        self.record(Some(&cluster), carried);
    }

    fn cluster(&self) -> Option<Rc<ClusterState>> {
        let choice = self.view.proxy.choose(|| self.worker.random());
        self.view.clusters[choice].clone()
    }

    fn end(&mut self, end: End) {
        let stats = &self.view.stats;
        match end {
            End::Complete | End::Drained => {}
            End::ClientGone => self.flags.set(Flag::DC),
            End::EndpointGone => self.flags.set(Flag::UC),
            End::Idle => {
                stats.idle_timeout.increment();
                self.flags.set(Flag::SI);
            }
            End::TooLong => {
                stats.max_duration.increment();
                self.flags.set(Flag::DT);
            }
        }
    }

    fn record(&self, cluster: Option<&ClusterState>, carried: Carried) {
        let duration = self.worker.clock.now().saturating_sub(self.begin);
        tracing::debug!(
            listener = self.registered.listener(),
            cluster = cluster.map(|cluster| cluster.cluster.name.as_str()),
            flags = %self.flags,
            received = carried.from_client,
            sent = carried.to_client,
            duration_ms = duration / 1000,
            "connection ended"
        );
    }

    /// The client, if its address decides about the endpoint.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        if self.view.proxy.hashes_source {
            self.client.peer().ok()
        } else {
            None
        }
    }

    /// A moment after now.
    pub(super) fn after(&self, time: Duration) -> Micros {
        let now = self.worker.clock.now();
        now.saturating_add(time.as_micros() as u64)
    }
}
