//! From a request's bytes to what the store got, and the answer to that.

use periplus_wire::otlp::{self, Decoded};

use super::reply::Format;
use crate::{Collector, Reason, Receiver, Refusal};

/// Decodes a request.
pub(super) fn decode(format: Format, bytes: &[u8]) -> Result<Decoded, Refusal> {
    match format {
        Format::Protobuf => otlp::decode_protobuf(bytes),
        Format::Json => otlp::decode_json(bytes),
    }
    .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))
}

/// Stores what was taken; the answer tells what was not.
pub(super) async fn store(
    collector: &Collector,
    receiver: Receiver,
    decoded: Decoded,
    format: Format,
) -> Result<Vec<u8>, Refusal> {
    let refused = decoded.refused;
    collector.store(receiver, decoded.batch).await?;
    if refused.is_empty() {
        return Ok(format.response(None));
    }
    let spans = usize::try_from(refused.spans).unwrap_or(usize::MAX);
    collector
        .stats()
        .refuse_spans(receiver, Reason::Malformed, spans);
    let message = refused.to_string();
    tracing::debug!(%message, "spans refused");
    Ok(format.response(Some((refused.spans, &message))))
}
