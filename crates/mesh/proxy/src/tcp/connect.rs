//! Getting a connection to an endpoint.
//!
//! Nothing is read of the client meanwhile: what it sends waits in the kernel, within its bounds.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use periplus_xds::istio_peers::PROTOCOL;

use crate::balance::{Ask, Verdict};
use crate::clock::Micros;
use crate::flags::Flag;
use crate::net::{Source, Stream};
use crate::reply::Failure;
use crate::tcp::Session;
use crate::tcp::session::Reached;
use crate::upstream::{Birth, ClusterState, EndpointState, Ready, Slot};

/// A connection to an endpoint, and what it occupies.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) stream: Stream,
    pub(super) endpoint: Rc<EndpointState>,
    _slot: Slot,
}

/// Whether another endpoint may do better.
fn is_about_connecting(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Connect | Failure::ConnectTimeout | Failure::Transport(_)
    )
}

impl Session {
    /// Connects to an endpoint of the cluster, to another one if the first cannot be reached and
    /// more attempts are allowed. The flags say why there is none.
    pub(super) async fn connect(&mut self, cluster: &Rc<ClusterState>) -> Option<Upstream> {
        let looked_up = self.look_up().await;
        let most = self.view.proxy.max_connect_attempts;
        for attempt in 1..=most {
            match self.attempt(cluster, looked_up).await {
                Ok(upstream) => return Some(upstream),
                Err(failure) => {
                    if let Failure::Transport(why) = &failure {
                        self.told.get_or_insert_default().transport_failure = Some(why.clone());
                    }
                    if let Some(flag) = failure.flag() {
                        self.flags.set(flag);
                    }
                    if !is_about_connecting(&failure) {
                        return None;
                    }
                }
            }
            if attempt < most {
                self.pause(attempt).await;
            }
        }
        cluster.stats.cx_connect_attempts_exceeded.increment();
        self.flags.set(Flag::URX);
        None
    }

    /// The address of the host that the client's handshake names, if that is to be looked up. None if it has none: then
    /// a cluster of such hosts has no endpoint.
    async fn look_up(&self) -> Option<SocketAddr> {
        let (names, port) = self.view.looks_up.as_ref()?;
        let name = self.server_name()?.to_ascii_lowercase();
        match names.find(&name).await {
            Ok(address) => Some(SocketAddr::new(address, *port)),
            Err(lost) => {
                tracing::debug!(
                    name,
                    ?lost,
                    "the host that a client asks for has no address"
                );
                None
            }
        }
    }

    async fn attempt(
        &mut self,
        cluster: &Rc<ClusterState>,
        looked_up: Option<SocketAddr>,
    ) -> Result<Upstream, Failure> {
        let ask = Ask {
            original: self.original,
            looked_up,
            source: self
                .registered
                .mark()
                .map(|mark| Source::of(self.peer, mark)),
            hash: self.hash(),
            ..Ask::default()
        };
        let Some(endpoint) = cluster.pick(ask, &*self.worker) else {
            cluster.stats.cx_none_healthy.increment();
            return Err(Failure::NoEndpoint);
        };
        let begin = self.worker.clock.now();
        self.supposes(&endpoint);
        if self.is_logged() {
            self.reaches(&endpoint, begin, None);
        }
        let slot = cluster.own_slot(&endpoint).ok_or(Failure::Overflow)?;
        let alpn = match cluster.cluster.exchanges_peers {
            true => PROTOCOL.as_bytes(),
            false => b"",
        };
        let connecting = slot.connect(alpn, self.ends());
        let opened = tokio::time::timeout(cluster.cluster.connect_timeout, connecting).await;
        let connected = cluster.connected(&endpoint, opened);
        cluster.report(
            &endpoint,
            match &connected {
                Ok(_) => Verdict::Connected,
                Err(Failure::ConnectTimeout) => Verdict::TimedOut,
                Err(_) => Verdict::Failed,
            },
        );
        if self.is_logged() {
            self.reaches(&endpoint, begin, connected.as_ref().ok());
        }
        let (stream, _) = connected?;
        Ok(Upstream {
            stream,
            endpoint,
            _slot: slot,
        })
    }

    /// Notes where the connection leads, for the access logs.
    #[cold]
    fn reaches(
        &mut self,
        endpoint: &EndpointState,
        begin: Micros,
        connected: Option<&(Stream, Birth)>,
    ) {
        let stream = connected.map(|(stream, _)| stream);
        let opened = connected.map(|(_, birth)| birth.opened(&self.worker));
        self.told.get_or_insert_default().upstream = Some(Reached {
            address: endpoint.address,
            local: stream.and_then(Stream::local_address),
            secured: stream.and_then(Stream::secured).cloned(),
            begin,
            ready: Ready {
                at: self.worker.clock.now(),
                connection: opened,
            },
        });
    }

    /// Waits before the next attempt for a random time below a limit that doubles.
    async fn pause(&self, attempt: u32) {
        let Some(backoff) = self.view.proxy.backoff else {
            return;
        };
        let limit = backoff
            .base
            .saturating_mul(2_u32.saturating_pow(attempt - 1))
            .min(backoff.max);
        let limit = (limit.as_micros() as u64).max(1);
        tokio::time::sleep(Duration::from_micros(self.worker.random() % limit)).await;
    }
}
