use std::io;

use periplus_wire::otlp::DecodeError;
use thiserror::Error;

use crate::limits::{MAX_DEPTH, MAX_HEAP_BYTES, MAX_SPANS};

/// Why a builder did not take spans. It is as it was before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// It has no room for them: encode it and start another one.
    #[error("the builder is full: it takes {MAX_SPANS} spans or {MAX_HEAP_BYTES} bytes")]
    Full,
    /// A value lies in too many arrays and maps.
    #[error("an attribute value is nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// Why a builder did not take an OTLP request. It is as it was before.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpError {
    /// The bytes are no such request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The spans were not taken.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Why a segment could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes could not be had.
    #[error("a segment cannot be read at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The bytes are no segment.
    #[error("this is no segment: {reason}")]
    NotASegment {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The segment is of a version that this one does not read.
    #[error("the segment has version {found} of the format; version {supported} can be read")]
    UnknownVersion {
        /// The version found.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// The bytes are not those that were written.
    #[error("{chunk} of the segment is damaged: {reason}")]
    Damaged {
        /// Which part.
        chunk: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl ReadError {
    pub(crate) fn damaged(chunk: impl Into<String>, reason: &'static str) -> Self {
        Self::Damaged {
            chunk: chunk.into(),
            reason,
        }
    }
}
