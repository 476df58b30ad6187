use thiserror::Error;

use crate::protobuf::WireError;
use crate::thrift::ThriftError;

/// Why bytes are no batch of Jaeger's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not the Thrift struct that they should be.
    #[error("not a Jaeger batch in Thrift: {0}")]
    Thrift(String),
    /// The bytes are not the protobuf message that they should be.
    #[error("not a Jaeger batch in protobuf: {0}")]
    Protobuf(String),
    /// A message calls a method that is not there.
    #[error("a message calls '{0}': an agent has emitBatch")]
    Method(String),
    /// A message is an answer.
    #[error("a message of type {0} is no call: an agent is called, it is not answered")]
    NoCall(u8),
}

impl From<ThriftError> for DecodeError {
    fn from(error: ThriftError) -> Self {
        Self::Thrift(error.to_string())
    }
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

/// Which rule a span breaks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum SpanProblem {
    #[error("{0} is zero")]
    ZeroId(&'static str),
    #[error("{field} has {found} bytes instead of {expected}")]
    IdLength {
        field: &'static str,
        found: usize,
        expected: &'static str,
    },
    #[error("{0} lies before 1970 or beyond 2554")]
    OutOfRange(&'static str),
}
