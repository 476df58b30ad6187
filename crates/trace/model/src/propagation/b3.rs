//! B3, in several headers and in one (`openzipkin/b3-propagation`), as Envoy's Zipkin tracer reads it.

use super::hex::parse_number;
use super::{Extracted, Incoming, w3c};
use crate::{SpanId, TraceId};

/// The B3 headers of a request: the first value of each.
///
/// `x-b3-flags` is missing on purpose: Envoy never reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct B3Headers<'a> {
    /// `b3`.
    pub b3: Option<&'a [u8]>,
    /// `x-b3-traceid`.
    pub trace_id: Option<&'a [u8]>,
    /// `x-b3-spanid`.
    pub span_id: Option<&'a [u8]>,
    /// `x-b3-parentspanid`.
    pub parent_span_id: Option<&'a [u8]>,
    /// `x-b3-sampled`.
    pub sampled: Option<&'a [u8]>,
}

/// In which form context came, and so goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum B3Format {
    /// The `x-b3-*` headers; also for requests that came without context.
    Multi,
    /// The `b3` header; `x-b3-*` headers are then neither added nor removed.
    Single,
}

impl<'a> B3Headers<'a> {
    /// The format in which the upstream request's context is written.
    pub const fn format(&self) -> B3Format {
        match self.b3 {
            Some(_) => B3Format::Single,
            None => B3Format::Multi,
        }
    }

    /// Reads the context (`trace_context_option: USE_B3`). The single header wins if it is there.
    pub fn extract(&self) -> Extracted {
        match self.b3 {
            Some(single) => extract_single(single),
            None => self.extract_multi(),
        }
    }

    /// Reads the context (`USE_B3_WITH_W3C_PROPAGATION`): `traceparent` counts only if B3 brings no
    /// ids and there is no `b3` header, and a bad one begins a new trace. Beside a good one,
    /// `x-b3-sampled` can add to its decision but not take it back.
    pub fn extract_or_w3c(&self, traceparent: Option<&'a [u8]>) -> Extracted {
        let b3 = self.extract();
        let Extracted::Absent { sampled } = b3 else {
            return b3;
        };
        if self.b3.is_some() {
            return b3;
        }
        match w3c::extract(traceparent) {
            Extracted::Context(incoming) => Extracted::Context(Incoming {
                sampled: incoming.sampled.map(|w3c| w3c || sampled == Some(true)),
                ..incoming
            }),
            Extracted::Absent { .. } | Extracted::Malformed => b3,
        }
    }

    fn extract_multi(&self) -> Extracted {
        let sampled = self.sampled.map(|value| matches!(value, b"1" | b"true"));
        let (Some(trace_id), Some(span_id)) = (self.trace_id, self.span_id) else {
            return Extracted::Absent { sampled };
        };
        let parent = self.parent_span_id.unwrap_or_default();
        let parent = if parent.is_empty() {
            Some(0)
        } else {
            parse_number(parent)
        };
        match (parse_trace_id(trace_id), parse_number(span_id), parent) {
            (Some(trace_id), Some(span_id), Some(parent)) => Extracted::Context(Incoming {
                trace_id,
                span_id: SpanId::from_u64(span_id),
                parent_span_id: parent_of(parent),
                sampled,
            }),
            _ => Extracted::Malformed,
        }
    }
}

/// 32 characters are two numbers, any other length is one of 64 bits.
fn parse_trace_id(text: &[u8]) -> Option<TraceId> {
    if text.len() == 32 {
        let (high, low) = text.split_at(16);
        Some(TraceId::from_halves(
            parse_number(high)?,
            parse_number(low)?,
        ))
    } else {
        Some(TraceId::from_halves(0, parse_number(text)?))
    }
}

fn extract_single(text: &[u8]) -> Extracted {
    match text {
        [flag] => match decision(*flag) {
            Some(sampled) => Extracted::Absent {
                sampled: Some(sampled),
            },
            None => Extracted::Malformed,
        },
        _ => match parse_single(text) {
            Some(incoming) => Extracted::Context(incoming),
            None => Extracted::Malformed,
        },
    }
}

/// `trace-span[-flag[-parent]]`: a trace id of 16 or 32 characters, a span and a parent of 16. Each
/// 16 are read as a number, with all that [`parse_number`] tolerates.
fn parse_single(text: &[u8]) -> Option<Incoming> {
    let (trace_id, rest) = match text.get(16)? {
        b'-' => (
            TraceId::from_halves(0, parse_number(&text[..16])?),
            &text[17..],
        ),
        _ => {
            let (id, rest) = text.split_at_checked(32)?;
            let (high, low) = id.split_at(16);
            let id = TraceId::from_halves(parse_number(high)?, parse_number(low)?);
            (id, rest.strip_prefix(b"-")?)
        }
    };
    let (span_id, rest) = rest.split_at_checked(16)?;
    let (sampled, parent) = match rest {
        [] => (None, 0),
        [b'-', flag] => (Some(decision(*flag)?), 0),
        [b'-', flag, b'-', parent @ ..] if parent.len() == 16 => {
            (Some(decision(*flag)?), parse_number(parent)?)
        }
        _ => return None,
    };
    Some(Incoming {
        trace_id,
        span_id: SpanId::from_u64(parse_number(span_id)?),
        parent_span_id: parent_of(parent),
        sampled,
    })
}

const fn decision(flag: u8) -> Option<bool> {
    match flag {
        b'0' => Some(false),
        b'1' | b'd' => Some(true),
        _ => None,
    }
}

/// A parent of zero is none.
fn parent_of(id: u64) -> Option<SpanId> {
    (id != 0).then(|| SpanId::from_u64(id))
}
