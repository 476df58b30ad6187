use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// How a list of spans is written. Displays as the Zipkin server calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON of version 1.
    JsonV1,
    /// JSON of version 2.
    JsonV2,
    /// Thrift's binary protocol, version 1.
    Thrift,
    /// Protobuf, version 2.
    Proto3,
}

impl Encoding {
    /// What messages call the bytes.
    const fn bytes(self) -> &'static str {
        match self {
            Self::JsonV1 | Self::JsonV2 => "json",
            Self::Thrift => "TBinary",
            Self::Proto3 => "proto3",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonV1 => "JSON_V1",
            Self::JsonV2 => "JSON_V2",
            Self::Thrift => "THRIFT",
            Self::Proto3 => "PROTO3",
        })
    }
}

/// Why a list of spans was refused. Displays as the Zipkin server words it, where it has words.
///
/// One bad span refuses its whole list, as in Zipkin.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is no list.
    #[error("Expected a {0} encoded list\n")]
    NotAList(Encoding),
    /// The spans are of another version.
    #[error("Expected a {expected} encoded list, but received: {received}\n")]
    Received {
        /// What the path and the content type ask for.
        expected: Encoding,
        /// What came.
        received: Encoding,
    },
    /// The body is not what its encoding says, or a field has the wrong type.
    #[error("Malformed reading List<Span> from {}: {reason}", encoding.bytes())]
    Malformed {
        /// What it should be.
        encoding: Encoding,
        /// What is wrong with it.
        reason: String,
    },
    /// A span breaks a rule.
    #[error("{problem} at $[{index}]{} reading List<Span> from {}", problem.place(), encoding.bytes())]
    Span {
        /// What it was read from.
        encoding: Encoding,
        /// Which span, counted from 0.
        index: usize,
        /// The rule.
        problem: SpanProblem,
    },
}

impl DecodeError {
    pub(super) fn malformed(encoding: Encoding, reason: &impl ToString) -> Self {
        Self::Malformed {
            encoding,
            reason: reason.to_string(),
        }
    }

    pub(super) const fn span(encoding: Encoding, index: usize, problem: SpanProblem) -> Self {
        Self::Span {
            encoding,
            index,
            problem,
        }
    }
}

/// Which rule a span breaks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanProblem {
    /// `traceId` or `id` is missing.
    #[error("Missing : {0}")]
    Missing(&'static str),
    /// An id has no digits.
    #[error("{0} is empty")]
    EmptyId(&'static str),
    /// An id has too many digits.
    #[error("{field}.length > {max}")]
    LongId {
        /// The field.
        field: &'static str,
        /// The most digits it may have.
        max: usize,
    },
    /// An id has a character that is no hex digit.
    #[error("{0} should be lower-hex encoded with no prefix")]
    NotHex(String),
    /// An id is zero.
    #[error("{0} is all zeros")]
    ZeroId(&'static str),
    /// The kind is none of Zipkin's four.
    #[error("No enum constant zipkin2.Span.Kind.{0}")]
    UnknownKind(String),
    /// A time does not fit the model's nanoseconds.
    #[error("{field} {value} is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A port has more than 16 bits.
    #[error("invalid port {0}")]
    InvalidPort(i64),
    /// This annotation lacks its timestamp or its value.
    #[error("Incomplete annotation")]
    IncompleteAnnotation(usize),
    /// This binary annotation lacks its key.
    #[error("Incomplete binary annotation")]
    IncompleteBinaryAnnotation(usize),
    /// This tag is null.
    #[error("No value")]
    NullTag(String),
    /// A span of version 1 names more services than a call has sides.
    #[error("more than {max} services in one span")]
    TooManyServices {
        /// The most services that it may name.
        max: usize,
    },
}

impl SpanProblem {
    /// Where in the span, as the end of a JSON path.
    fn place(&self) -> String {
        match self {
            Self::IncompleteAnnotation(i) => format!(".annotations[{i}]"),
            Self::IncompleteBinaryAnnotation(i) => format!(".binaryAnnotations[{i}]"),
            Self::NullTag(key) => format!(".tags.{key}"),
            _ => String::new(),
        }
    }
}

/// Cuts what a sender wrote to what an error message bears.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

/// An address that is written in its own family: `::ffff:10.0.0.1` is IPv4 to Zipkin.
pub(super) fn canonical(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.segments() {
            // `::` and `::1` are IPv6, whatever their last 32 bits look like.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
            [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => {
                let [.., a, b, c, d] = v6.octets();
                IpAddr::from([a, b, c, d])
            }
            _ => address,
        },
    })
}
