//! Jaeger's receivers: protobuf over gRPC (14250), Thrift over HTTP (14268), Thrift in datagrams
//! (6831 compact, 6832 binary).
//!
//! Jaeger's protocols cannot say that some spans of a batch were refused: the others are stored, the
//! bad ones counted and logged. A batch that has no good span is refused as a whole.

pub mod grpc;
pub mod http;
pub mod udp;

mod log_limit;

pub use periplus_wire::jaeger::ThriftProtocol;

use periplus_wire::jaeger::DecodeError;
use periplus_wire::otlp::Decoded;

use crate::collector::Payload;
use crate::{Collector, Reason, Receiver, Refusal};

/// Decodes and stores what a request brings.
async fn store(
    collector: &Collector,
    receiver: Receiver,
    payload: Payload,
    decoder: fn(&[u8]) -> Result<Decoded, DecodeError>,
) -> Result<(), Refusal> {
    let decoded = collector
        .decode(receiver, payload, move |bytes| {
            decoder(bytes).map_err(|error| Refusal::new(reason_of(&error), error.to_string()))
        })
        .await?;
    count_refused(collector, receiver, &decoded);
    if decoded.batch.span_count() == 0 && !decoded.refused.is_empty() {
        return Err(Refusal::new(Reason::Malformed, decoded.refused.to_string()));
    }
    collector.store(receiver, decoded.batch).await
}

fn count_refused(collector: &Collector, receiver: Receiver, decoded: &Decoded) {
    let refused = &decoded.refused;
    if refused.is_empty() {
        return;
    }
    let spans = usize::try_from(refused.spans).unwrap_or(usize::MAX);
    collector
        .stats()
        .refuse_spans(receiver, Reason::Malformed, spans);
    tracing::debug!(message = %refused, "spans refused");
}

const fn reason_of(error: &DecodeError) -> Reason {
    match error {
        DecodeError::Method(_) => Reason::UnsupportedType,
        _ => Reason::Malformed,
    }
}
