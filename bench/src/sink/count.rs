//! How many spans a report has, without reading them.

use memchr::memmem;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// What the reports at a port are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// Zipkin's, in JSON.
    Zipkin,
    /// `ExportTraceServiceRequest`.
    Otlp,
    /// The same, as the one message of a call.
    OtlpGrpc,
}

/// Where spans are in OTLP: `resource_spans`, `scope_spans`, `spans`.
const SPANS: [u32; 3] = [1, 2, 2];
/// The prefix of a message that is not compressed: a flag and the length.
const PREFIX: usize = 5;

impl Format {
    /// None when it has to be read.
    pub(super) fn count(self, report: &[u8]) -> Option<u64> {
        match self {
            Self::Zipkin => Some(memmem::find_iter(report, br#""traceId""#).count() as u64),
            Self::Otlp => count(report, &SPANS),
            Self::OtlpGrpc => match report.split_at_checked(PREFIX)? {
                ([0, ..], message) => count(message, &SPANS),
                _ => None,
            },
        }
    }
}

/// How many messages there are at this path of field numbers.
fn count(mut message: &[u8], path: &[u32]) -> Option<u64> {
    let (wanted, deeper) = path.split_first()?;
    let mut found = 0;
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        if tag != *wanted || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        let (inner, rest) = message.split_at_checked(length)?;
        message = rest;
        found += if deeper.is_empty() {
            1
        } else {
            count(inner, deeper)?
        };
    }
    Some(found)
}
