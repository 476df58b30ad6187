//! The first bytes of a connection: read until they tell enough, and kept for whoever serves it.

use std::io;

use tokio::net::TcpStream;

use super::Arrival;
use crate::inspect::client_hello::{self, ClientHello};
use crate::inspect::{Look, http, proxy_protocol};
use crate::net::Stream;
use crate::snapshot::{FilterKind, ListenerFilter, Sniffed};
use crate::stats::{HttpInspectorStats, ProxyProtocolStats, TlsInspectorStats};
use crate::view::ListenerView;
use crate::worker::Worker;

/// The most that is read before it is decided what a connection is.
const MAX_AHEAD: usize = 128 * 1024;

/// How much is read at a time: most often the first bytes of a client come at once.
const READ: usize = 2048;

/// A connection that is looked at.
pub(super) struct Lookout {
    tcp: TcpStream,
    /// What was read of it.
    ahead: Vec<u8>,
    pub(super) sniffed: Sniffed,
}

/// Why a connection is closed before it is served.
#[derive(Debug)]
enum Refused {
    /// The client has closed it.
    Closed,
    /// What it sent is not acceptable.
    Bad,
}

impl Lookout {
    pub(super) fn new(tcp: TcpStream) -> Self {
        // A socket that cannot do this still works.
        let _ = tcp.set_nodelay(true);
        Self {
            tcp,
            ahead: Vec::new(),
            sniffed: Sniffed::default(),
        }
    }

    /// What was read, and the stream of what follows.
    pub(super) fn into_parts(self) -> (Vec<u8>, Stream) {
        (self.ahead, Stream::new(self.tcp))
    }

    /// The stream from its first byte on.
    pub(super) fn into_stream(self) -> Stream {
        Stream::new(self.tcp).with_ahead(self.ahead)
    }

    /// Lets the listener's filters look, within their time; none if the connection is to be closed.
    pub(super) async fn inspect(
        &mut self,
        worker: &Worker,
        view: &ListenerView,
        arrival: &mut Arrival,
    ) -> Option<()> {
        let inspection = &view.listener.inspection;
        let stats = &view.stats;
        let looking = self.run_filters(worker, &inspection.filters, arrival);
        let looked = match inspection.timeout {
            None => looking.await,
            Some(timeout) => match tokio::time::timeout(timeout, looking).await {
                Ok(looked) => looked,
                Err(_) => {
                    stats.pre_cx_timeout.increment();
                    return inspection.continue_on_timeout.then_some(());
                }
            },
        };
        match looked {
            Ok(()) => Some(()),
            Err(Refused::Closed) => {
                stats.filter_remote_close.increment();
                None
            }
            Err(Refused::Bad) => {
                stats.filter_error.increment();
                None
            }
        }
    }

    async fn run_filters(
        &mut self,
        worker: &Worker,
        filters: &[ListenerFilter],
        arrival: &mut Arrival,
    ) -> Result<(), Refused> {
        for filter in filters {
            let port = arrival.original.unwrap_or(arrival.local).port();
            if filter
                .disabled
                .as_ref()
                .is_some_and(|ports| ports.holds(port))
            {
                continue;
            }
            match filter.kind {
                FilterKind::Tls => self.look_for_tls(&worker.registry.tls_inspector()).await?,
                FilterKind::Http if self.sniffed.is_tls => {}
                FilterKind::Http => {
                    self.look_for_http(&worker.registry.http_inspector())
                        .await?;
                }
                FilterKind::ProxyProtocol { .. } => {
                    let stats = worker.registry.proxy_protocol();
                    self.take_header(filter.kind, &stats, arrival).await?;
                }
            }
        }
        Ok(())
    }

    async fn look_for_tls(&mut self, stats: &TlsInspectorStats) -> Result<(), Refused> {
        let hello = match self.client_hello().await {
            Ok(hello) => hello,
            Err(_) => {
                stats.connection_closed.increment();
                return Err(Refused::Closed);
            }
        };
        let Some(hello) = hello else {
            stats.tls_not_found.increment();
            return Ok(());
        };
        stats.tls_found.increment();
        let count = |found, yes: &crate::stats::Count, no: &crate::stats::Count| {
            if found {
                yes.increment();
            } else {
                no.increment();
            }
        };
        count(
            hello.server_name.is_some(),
            &stats.sni_found,
            &stats.sni_not_found,
        );
        count(
            !hello.protocols.is_empty(),
            &stats.alpn_found,
            &stats.alpn_not_found,
        );
        self.sniffed = Sniffed {
            is_tls: true,
            server_name: hello.server_name,
            protocols: hello.protocols,
        };
        Ok(())
    }

    /// The client's first message, if it is one of TLS.
    pub(super) async fn client_hello(&mut self) -> io::Result<Option<ClientHello>> {
        loop {
            let (look, missing) = client_hello::parse_or_missing(&self.ahead);
            match look {
                Look::Found(hello) => return Ok(Some(hello)),
                Look::No => return Ok(None),
                Look::More => {}
            }
            // Not at each byte, which would cost a slow client nothing and a worker the square of it.
            let enough = self.ahead.len() + missing;
            while self.ahead.len() < enough {
                self.read().await?;
            }
        }
    }

    async fn look_for_http(&mut self, stats: &HttpInspectorStats) -> Result<(), Refused> {
        loop {
            let found = match http::parse(&self.ahead) {
                Look::More => {
                    if self.read().await.is_err() {
                        stats.read_error.increment();
                        return Err(Refused::Closed);
                    }
                    continue;
                }
                Look::No => {
                    stats.http_not_found.increment();
                    return Ok(());
                }
                Look::Found(version) => version,
            };
            match found {
                http::Version::Http10 => stats.http10_found.increment(),
                http::Version::Http11 => stats.http11_found.increment(),
                http::Version::Http2 => stats.http2_found.increment(),
            }
            self.sniffed.protocols = vec![found.protocol().to_vec()];
            return Ok(());
        }
    }

    /// Takes the header of another proxy away, and believes what it says.
    async fn take_header(
        &mut self,
        kind: FilterKind,
        stats: &ProxyProtocolStats,
        arrival: &mut Arrival,
    ) -> Result<(), Refused> {
        let FilterKind::ProxyProtocol { optional, v1, v2 } = kind else {
            return Ok(());
        };
        let header = loop {
            match proxy_protocol::parse(&self.ahead) {
                Ok(Look::Found(header)) => break header,
                Ok(Look::More) => self.read().await.map_err(|_| Refused::Closed)?,
                Ok(Look::No) if optional => {
                    stats.not_found_allowed.increment();
                    return Ok(());
                }
                Ok(Look::No) => {
                    stats.not_found_disallowed.increment();
                    return Err(Refused::Bad);
                }
                Err(malformed) => {
                    let of_version = if malformed.is_v2 {
                        &stats.v2_error
                    } else {
                        &stats.v1_error
                    };
                    of_version.increment();
                    return Err(Refused::Bad);
                }
            }
        };
        let (allowed, found, disallowed) = if header.is_v2 {
            (v2, &stats.v2_found, &stats.v2_disallowed)
        } else {
            (v1, &stats.v1_found, &stats.v1_disallowed)
        };
        if !allowed {
            disallowed.increment();
            return Err(Refused::Bad);
        }
        found.increment();
        self.ahead.drain(..header.length);
        if let Some((source, destination)) = header.ends {
            arrival.peer = source;
            arrival.original = Some(destination);
        }
        Ok(())
    }

    /// Reads what comes next; the end of the stream is an error.
    async fn read(&mut self) -> io::Result<()> {
        if self.ahead.len() >= MAX_AHEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            self.tcp.readable().await?;
            self.ahead.reserve(READ);
            match self.tcp.try_read_buf(&mut self.ahead) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
