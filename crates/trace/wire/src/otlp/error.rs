use std::fmt;

use periplus_model::Batch;
use thiserror::Error;

use super::{MAX_DEPTH, MAX_VALUES};
use crate::protobuf::WireError;

/// What was read of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The spans that were taken.
    pub batch: Batch,
    /// The spans that were not.
    pub refused: Refused,
}

/// Spans of a request that were refused: OTLP's partial success, and what other formats have for it.
///
/// Displays how many they are and what was wrong with the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub spans: u64,
    /// The first reasons, each with the place of its span.
    pub reasons: Vec<String>,
}

impl Refused {
    /// The most reasons that are kept.
    pub const MAX_REASONS: usize = 4;

    /// Whether no span was refused.
    pub const fn is_empty(&self) -> bool {
        self.spans == 0
    }

    pub(crate) fn add(&mut self, at: impl fmt::Display, reason: &dyn fmt::Display) {
        self.spans += 1;
        if self.reasons.len() < Self::MAX_REASONS {
            self.reasons.push(format!("{at}: {reason}"));
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.spans == 1 { "span" } else { "spans" };
        write!(f, "{} {noun} refused", self.spans)?;
        for (i, reason) in self.reasons.iter().enumerate() {
            write!(f, "{} {reason}", if i == 0 { ":" } else { ";" })?;
        }
        match self.spans - self.reasons.len() as u64 {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Where a span stands in its request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) resource_spans: usize,
    pub(super) scope_spans: usize,
    pub(super) span: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "resource_spans[{}].scope_spans[{}].spans[{}]",
            self.resource_spans, self.scope_spans, self.span
        )
    }
}

/// Why a request could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not the protobuf message that they should be.
    #[error("{0}")]
    Protobuf(String),
    /// The text is not the JSON that it should be.
    #[error("not an OTLP/JSON trace request: {0}")]
    Json(String),
    /// A value lies in too many arrays and maps.
    #[error("an attribute value is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The arrays and maps of one attribute hold too many values.
    #[error("an attribute holds more than {MAX_VALUES} nested values")]
    TooManyValues,
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

/// Why one span could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum SpanError {
    /// It alone is refused.
    #[error("{0}")]
    Refused(String),
    /// The request cannot be read.
    #[error("{0}")]
    Request(DecodeError),
}

impl From<DecodeError> for SpanError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooDeep | DecodeError::TooManyValues => Self::Refused(error.to_string()),
            DecodeError::Protobuf(_) | DecodeError::Json(_) => Self::Request(error),
        }
    }
}

impl From<WireError> for SpanError {
    fn from(error: WireError) -> Self {
        Self::Request(error.into())
    }
}
