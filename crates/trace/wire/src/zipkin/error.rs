use std::net::IpAddr;

use thiserror::Error;

/// Why a list of spans was refused. Displays as the Zipkin server words it, where it has words.
///
/// One bad span refuses its whole list, as in Zipkin.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is no list.
    #[error("Expected a JSON_V2 encoded list\n")]
    NotAList,
    /// The spans are of version 1.
    #[error("Expected a JSON_V2 encoded list, but received: JSON_V1\n")]
    Version1,
    /// The body is no JSON, or a field has the wrong type.
    #[error("Malformed reading List<Span> from json: {0}")]
    Json(String),
    /// A span breaks a rule.
    #[error("{problem} at $[{index}]{} reading List<Span> from json", problem.place())]
    Span {
        /// Which span, counted from 0.
        index: usize,
        /// The rule.
        problem: SpanProblem,
    },
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
    /// This tag is null.
    #[error("No value")]
    NullTag(String),
}

impl SpanProblem {
    /// Where in the span, as the end of a JSON path.
    fn place(&self) -> String {
        match self {
            Self::IncompleteAnnotation(i) => format!(".annotations[{i}]"),
            Self::NullTag(key) => format!(".tags.{key}"),
            _ => String::new(),
        }
    }
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
