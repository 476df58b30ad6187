//! What a collector's answer says about a report ("Failures" of OTLP's specification): it was taken, it may be sent
//! again, or it must not.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::rpc;
use prost::Message as _;

use crate::errand::{Answer, Trouble};
use crate::grpc::RESOURCE_EXHAUSTED;

/// The statuses after which a report may be sent again, and the codes of gRPC: `CANCELLED`, `DEADLINE_EXCEEDED`,
/// `ABORTED`, `OUT_OF_RANGE`, `UNAVAILABLE`, `DATA_LOSS`.
const PASSING: [u16; 4] = [429, 502, 503, 504];
const PASSING_CODES: [u32; 6] = [1, 4, 10, 11, 14, 15];

/// The longest time that a collector may ask for.
const MOST_AFTER: Duration = Duration::from_secs(300);

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("the collector refused: {0}")]
    Refused(String),
    #[error("the collector cannot take it now: {reason}")]
    Busy {
        reason: String,
        /// When it may, if it says so.
        after: Option<Duration>,
    },
}

impl Lost {
    /// Whether the collector may take later what it has not taken. Of an answer that is none nobody knows whether it
    /// has.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Trouble(Trouble::NoCluster | Trouble::Senseless(_)) | Self::Refused(_) => false,
            Self::Trouble(_) | Self::Busy { .. } => true,
        }
    }

    /// When, if it says so.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => after.map(|after| after.min(MOST_AFTER)),
            Self::Trouble(_) | Self::Refused(_) => None,
        }
    }

    fn new(reason: String, is_passing: bool, after: Option<Duration>) -> Self {
        match is_passing {
            true => Self::Busy { reason, after },
            false => Self::Refused(reason),
        }
    }
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<protobuf::Duration>,
}

impl ExportResponse {
    /// How many spans the collector says that it has rejected.
    fn rejected(&self) -> usize {
        let partial = self.partial_success.as_ref();
        let rejected = partial.map_or(0, |partial| partial.rejected_spans);
        usize::try_from(rejected).unwrap_or(0)
    }
}

/// How many spans the collector did not want, over gRPC.
pub(super) fn of_call(answer: &Answer) -> Result<usize, Lost> {
    let reason = match answer.message::<ExportResponse>() {
        Ok(response) => return Ok(response.rejected()),
        Err(reason) => reason,
    };
    let details = answer.trailer("grpc-status-details-bin");
    let after = details.and_then(retry_delay);
    let is_passing = match answer.grpc_code() {
        // Only if the collector says that it will pass.
        Some(code) if code == u32::from(RESOURCE_EXHAUSTED) => after.is_some(),
        Some(code) => PASSING_CODES.contains(&code),
        // Somebody in between has answered.
        None => PASSING.contains(&answer.status()),
    };
    Err(Lost::new(reason, is_passing, after))
}

/// Whether it has taken the report, over HTTP.
pub(super) fn of_http(answer: &Answer) -> Result<(), Lost> {
    let status = answer.status();
    if (200..300).contains(&status) {
        return Ok(());
    }
    let after = answer.field("retry-after").and_then(|value| {
        let text = std::str::from_utf8(value).ok()?;
        Some(Duration::from_secs(text.trim().parse().ok()?))
    });
    let reason = format!("the answer was {status}");
    Err(Lost::new(reason, PASSING.contains(&status), after))
}

/// How many spans it did not want, over HTTP; one that answers in another form than the one of the request says
/// nothing of it.
pub(super) fn rejected(answer: &Answer) -> usize {
    let is_protobuf = answer.field("content-type") == Some(b"application/x-protobuf");
    match ExportResponse::decode(&*answer.body) {
        Ok(response) if is_protobuf => response.rejected(),
        _ => 0,
    }
}

/// The delay of the `RetryInfo` in a status, if it has one.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let unpadded = details
        .trim_ascii_end()
        .split(|byte| *byte == b'=')
        .next()?;
    let status = BASE64_STANDARD_NO_PAD.decode(unpadded).ok()?;
    let status = rpc::Status::decode(&*status).ok()?;
    let mut details = status.details.iter();
    let info = details.find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let info = RetryInfo::decode(&*info.value).ok()?;
    let delay = info.retry_delay.unwrap_or_default();
    let (seconds, nanos) = (delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?);
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::Any;

    use super::*;

    #[test]
    fn a_collector_may_say_when_to_come_again() {
        let info = |value| Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value,
        };
        let delayed = RetryInfo {
            retry_delay: Some(protobuf::Duration {
                seconds: 7,
                nanos: 0,
            }),
        };
        let other = Any {
            type_url: "type.googleapis.com/google.rpc.DebugInfo".to_owned(),
            value: b"no message".to_vec(),
        };
        for (details, expected) in [
            (
                vec![other.clone(), info(delayed.encode_to_vec())],
                Some(Duration::from_secs(7)),
            ),
            (vec![info(Vec::new())], Some(Duration::ZERO)),
            (vec![info(b"no message".to_vec())], None),
            (vec![other], None),
        ] {
            let status = rpc::Status {
                code: 8,
                message: "full".to_owned(),
                details,
            };
            let bytes = status.encode_to_vec();
            for text in [
                BASE64_STANDARD_NO_PAD.encode(&bytes),
                base64::prelude::BASE64_STANDARD.encode(&bytes),
            ] {
                assert_eq!(retry_delay(text.as_bytes()), expected, "{text}");
            }
        }
        for text in ["", "CAg", "%"] {
            assert_eq!(retry_delay(text.as_bytes()), None, "{text}");
        }
    }
}
