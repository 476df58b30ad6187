//! From a request's bytes to what the store got, and the answer to that.

use periplus_wire::otlp::{Refused, decode_json};

use super::reply::Format;
use crate::collector::Payload;
use crate::{Collector, Reason, Receiver, Refusal};

/// Stores what a request brings; the answer tells what was not taken. Protobuf goes to the store as
/// it came.
pub(super) async fn store(
    collector: &Collector,
    receiver: Receiver,
    payload: Payload,
    format: Format,
) -> Result<Vec<u8>, Refusal> {
    let refused = match format {
        Format::Protobuf => {
            let body = collector.inflate(receiver, payload).await?;
            collector.store_otlp(receiver, body).await?
        }
        Format::Json => {
            let decoded = collector.decode(receiver, payload, |bytes| {
                decode_json(bytes)
                    .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))
            });
            let decoded = decoded.await?;
            collector.store(receiver, decoded.batch).await?;
            decoded.refused
        }
    };
    Ok(answer(collector, receiver, &refused, format))
}

fn answer(collector: &Collector, receiver: Receiver, refused: &Refused, format: Format) -> Vec<u8> {
    if refused.is_empty() {
        return format.response(None);
    }
    let spans = usize::try_from(refused.spans).unwrap_or(usize::MAX);
    collector
        .stats()
        .refuse_spans(receiver, Reason::Malformed, spans);
    let message = refused.to_string();
    tracing::debug!(%message, "spans refused");
    format.response(Some((refused.spans, &message)))
}
