use periplus_filter::{InvalidFilter, ParseError, PatternError};
use periplus_wire::otlp::DecodeError;
use thiserror::Error;

/// Why the store did not take an OTLP request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendOtlpError {
    /// It is no such request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store takes nothing at the moment; the sender should try again after a while.
    #[error("the store is busy: {reason}")]
    Busy {
        /// What is full.
        reason: String,
    },
    /// What was sent does not fit, now or later; the sender should send less at once.
    #[error(
        "the batch is too large: {found_bytes} bytes {what}, {max_bytes} at most; send smaller batches or raise the store's limit"
    )]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How many bytes it would take.
        found_bytes: u64,
        /// How many are allowed.
        max_bytes: u64,
    },
    /// The query itself cannot be answered.
    #[error("the query is invalid: {reason}")]
    InvalidQuery {
        /// What is wrong with it.
        reason: String,
    },
    /// The query takes more than a query may.
    #[error("the query was ended: {reason}")]
    QueryLimit {
        /// What there was too much of, and what to do.
        reason: &'static str,
    },
    /// This engine does not answer such a question.
    #[error("this store does not list {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// Another process has the store open.
    #[error("the store in {path} is in use by another process; stop it, or name another directory")]
    InUse {
        /// The directory.
        path: String,
    },
    /// What is on the disk cannot be trusted.
    #[error("the store is damaged: {reason}")]
    Damaged {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The storage below failed.
    #[error("storage failed while {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl From<PatternError> for StoreError {
    fn from(error: PatternError) -> Self {
        Self::InvalidQuery {
            reason: error.to_string(),
        }
    }
}

impl From<ParseError> for StoreError {
    fn from(error: ParseError) -> Self {
        Self::InvalidQuery {
            reason: error.to_string(),
        }
    }
}

impl From<InvalidFilter> for StoreError {
    fn from(error: InvalidFilter) -> Self {
        Self::InvalidQuery {
            reason: error.to_string(),
        }
    }
}
