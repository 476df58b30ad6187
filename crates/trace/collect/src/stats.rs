use std::sync::atomic::{AtomicU64, Ordering};

/// A way in: a protocol on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// OTLP over gRPC.
    OtlpGrpc,
    /// OTLP over HTTP, protobuf or JSON.
    OtlpHttp,
    /// Zipkin over HTTP, in any version and encoding.
    Zipkin,
    /// Zipkin over gRPC.
    ZipkinGrpc,
    /// Jaeger's protobuf over gRPC.
    JaegerGrpc,
    /// Jaeger's Thrift over HTTP.
    JaegerHttp,
    /// Jaeger's Thrift in datagrams, in the compact protocol.
    JaegerUdpCompact,
    /// Jaeger's Thrift in datagrams, in the binary protocol.
    JaegerUdpBinary,
}

impl Receiver {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::OtlpGrpc,
        Self::OtlpHttp,
        Self::Zipkin,
        Self::ZipkinGrpc,
        Self::JaegerGrpc,
        Self::JaegerHttp,
        Self::JaegerUdpCompact,
        Self::JaegerUdpBinary,
    ];

    /// The protocol, as metrics label it.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::OtlpGrpc | Self::OtlpHttp => "otlp",
            Self::Zipkin | Self::ZipkinGrpc => "zipkin",
            Self::JaegerGrpc
            | Self::JaegerHttp
            | Self::JaegerUdpCompact
            | Self::JaegerUdpBinary => "jaeger",
        }
    }

    /// The transport, as metrics label it; the names are those of an OpenTelemetry collector.
    pub const fn transport(self) -> &'static str {
        match self {
            Self::OtlpGrpc | Self::ZipkinGrpc | Self::JaegerGrpc => "grpc",
            Self::OtlpHttp | Self::Zipkin => "http",
            Self::JaegerHttp => "collector_http",
            Self::JaegerUdpCompact => "udp_thrift_compact",
            Self::JaegerUdpBinary => "udp_thrift_binary",
        }
    }
}

/// Why a request, or a span of it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not what its type says, or a span in it breaks the format's rules.
    Malformed,
    /// The body, or what it decompresses to, is over the limit.
    TooLarge,
    /// The body does not decompress.
    CorruptEncoding,
    /// The content type, or the method that a datagram calls, is none that the receiver reads.
    UnsupportedType,
    /// The content encoding is none that the receiver reads.
    UnsupportedEncoding,
    /// The body did not arrive in time.
    Timeout,
    /// The sender broke off.
    Aborted,
    /// The store, or the receiver's memory, is full for the moment.
    Busy,
    /// The queue between a socket and the store was full; the sender of a datagram is not told.
    QueueFull,
    /// The store failed.
    StoreFailed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::TooLarge,
        Self::CorruptEncoding,
        Self::UnsupportedType,
        Self::UnsupportedEncoding,
        Self::Timeout,
        Self::Aborted,
        Self::Busy,
        Self::QueueFull,
        Self::StoreFailed,
    ];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::CorruptEncoding => "corrupt_encoding",
            Self::UnsupportedType => "unsupported_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::Timeout => "timeout",
            Self::Aborted => "aborted",
            Self::Busy => "busy",
            Self::QueueFull => "queue_full",
            Self::StoreFailed => "store_failed",
        }
    }
}

/// What the receivers took and refused since the start.
#[derive(Debug, Default)]
pub struct Stats {
    receivers: [Counters; Receiver::ALL.len()],
}

#[derive(Debug, Default)]
struct Counters {
    accepted_requests: AtomicU64,
    accepted_spans: AtomicU64,
    last_spans: AtomicU64,
    body_bytes: AtomicU64,
    last_bytes: AtomicU64,
    refused_requests: [AtomicU64; Reason::ALL.len()],
    refused_spans: [AtomicU64; Reason::ALL.len()],
}

impl Stats {
    pub(crate) fn accept(&self, receiver: Receiver, spans: usize) {
        let counters = self.of(receiver);
        counters.accepted_requests.fetch_add(1, Ordering::Relaxed);
        add(&counters.accepted_spans, spans);
        counters.last_spans.store(spans as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, receiver: Receiver, bytes: usize) {
        let counters = self.of(receiver);
        add(&counters.body_bytes, bytes);
        counters.last_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn refuse_request(&self, receiver: Receiver, reason: Reason) {
        add(&self.of(receiver).refused_requests[reason as usize], 1);
    }

    pub(crate) fn refuse_spans(&self, receiver: Receiver, reason: Reason, spans: usize) {
        add(&self.of(receiver).refused_spans[reason as usize], spans);
    }

    /// Requests whose spans were stored, all or in part.
    pub fn accepted_requests(&self, receiver: Receiver) -> u64 {
        self.of(receiver).accepted_requests.load(Ordering::Relaxed)
    }

    /// Spans stored.
    pub fn accepted_spans(&self, receiver: Receiver) -> u64 {
        self.of(receiver).accepted_spans.load(Ordering::Relaxed)
    }

    /// Spans of the last request that was stored.
    pub fn last_spans(&self, receiver: Receiver) -> u64 {
        self.of(receiver).last_spans.load(Ordering::Relaxed)
    }

    /// Bytes of the last body read, after decompression.
    pub fn last_bytes(&self, receiver: Receiver) -> u64 {
        self.of(receiver).last_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of bodies read, after decompression.
    pub fn body_bytes(&self, receiver: Receiver) -> u64 {
        self.of(receiver).body_bytes.load(Ordering::Relaxed)
    }

    /// Requests refused as a whole.
    pub fn refused_requests(&self, receiver: Receiver, reason: Reason) -> u64 {
        self.of(receiver).refused_requests[reason as usize].load(Ordering::Relaxed)
    }

    /// Spans known to be refused. A request that cannot be decoded adds nothing here: nobody knows
    /// how many spans it had.
    pub fn refused_spans(&self, receiver: Receiver, reason: Reason) -> u64 {
        self.of(receiver).refused_spans[reason as usize].load(Ordering::Relaxed)
    }

    fn of(&self, receiver: Receiver) -> &Counters {
        &self.receivers[receiver as usize]
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
