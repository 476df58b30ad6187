//! Which HTTP is spoken, and within which limits.

use std::time::Duration;

/// `codec_type`: what a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/2 if the connection begins with its preface, else HTTP/1.1.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, with prior knowledge.
    Http2,
}

/// What the endpoints of a cluster speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2(Http2Options),
    /// What the client of the request speaks.
    Downstream(Http2Options),
}

/// `Http2ProtocolOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// `hpack_table_size`, for what the other side sends.
    pub header_table_size: u32,
    /// `max_concurrent_streams` of one connection.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`: how much of a body waits here if the other side is slow.
    pub initial_stream_window_size: u32,
    /// `initial_connection_window_size`: the same over all streams of a connection.
    pub initial_connection_window_size: u32,
    /// `connection_keepalive`.
    pub keepalive: Option<Keepalive>,
    /// `allow_connect`: clients may open tunnels of other protocols (RFC 8441).
    pub allow_connect: bool,
}

/// `KeepaliveSettings`: PINGs that find out whether the other side is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `interval` between an answer and the next PING.
    pub interval: Duration,
    /// `timeout` of an answer.
    pub timeout: Duration,
    /// `interval_jitter`: up to this much of the interval is added at random.
    pub jitter_percent: u32,
}

/// `TcpKeepalive`: probes of the kernel that find out whether the other side is still there. `None` is the system's
/// default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes`: after how many without an answer the connection ends.
    pub probes: Option<u32>,
    /// `keepalive_time`: how long nothing is heard before the first.
    pub time: Option<Duration>,
    /// `keepalive_interval` between them.
    pub interval: Option<Duration>,
}

impl TcpKeepalive {
    /// For connections of which nothing is said: a peer that has vanished is noticed after two minutes.
    pub(crate) const UNLESS_TOLD: Self = Self {
        probes: Some(6),
        time: Some(Duration::from_secs(60)),
        interval: Some(Duration::from_secs(10)),
    };

    /// How long the other side may say nothing at all before the connection ends. What is not set is Linux's.
    pub(crate) fn patience(self) -> Duration {
        let time = self.time.unwrap_or(Duration::from_secs(7200));
        let interval = self.interval.unwrap_or(Duration::from_secs(75));
        time + interval * self.probes.unwrap_or(9)
    }

    /// The same as an option of sockets.
    pub(crate) fn of_socket(self) -> socket2::TcpKeepalive {
        let mut options = socket2::TcpKeepalive::new();
        if let Some(probes) = self.probes {
            options = options.with_retries(probes);
        }
        if let Some(time) = self.time {
            options = options.with_time(time);
        }
        if let Some(interval) = self.interval {
            options = options.with_interval(interval);
        }
        options
    }
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 1024 * 1024,
            initial_connection_window_size: 4 * 1024 * 1024,
            keepalive: None,
            allow_connect: false,
        }
    }
}

/// What a route makes of the `grpc-timeout` header. Without any of this it means nothing to the
/// proxy, and goes on to the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcTimeouts {
    /// `max_grpc_timeout`: the header replaces the route's timeout, cut to this; zero cuts nothing.
    pub max: Option<Duration>,
    /// `grpc_timeout_offset`, taken from the header's time.
    pub offset: Duration,
    /// `max_stream_duration.grpc_timeout_header_max`: the header limits the whole stream, cut to
    /// this; zero cuts nothing.
    pub stream_max: Option<Duration>,
    /// `max_stream_duration.grpc_timeout_header_offset`.
    pub stream_offset: Duration,
}
