//! Filters: which requests and connections are logged.

use periplus_cel::Expression;

use super::entry::Entry;
use super::expression;
use super::format::is_written_by_proxies;
use crate::flags::Flag;
use crate::grpc::{self, GrpcStatus};
use crate::snapshot::HeaderMatch;

/// A condition on what has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    All,
    Status(Comparison),
    /// In milliseconds.
    Duration(Comparison),
    NotHealthCheck,
    Traceable,
    /// A share of this many in a million.
    Share(u32),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Header(HeaderMatch),
    /// Any of these flags; of none, any flag at all.
    Flags(Vec<Flag>),
    Grpc {
        statuses: Vec<u32>,
        exclude: bool,
    },
    Expression(Expression),
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) op: Op,
    pub(crate) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    AtLeast,
    AtMost,
    NotEqual,
}

impl Comparison {
    fn holds(self, value: u64) -> bool {
        match self.op {
            Op::Equal => value == self.value,
            Op::AtLeast => value >= self.value,
            Op::AtMost => value <= self.value,
            Op::NotEqual => value != self.value,
        }
    }
}

impl Filter {
    pub(super) fn takes(&self, entry: &Entry<'_>, random: &impl Fn() -> u64) -> bool {
        match self {
            Self::All => true,
            Self::Status(comparison) => comparison.holds(entry.status.into()),
            Self::Duration(comparison) => comparison.holds(entry.duration().as_millis() as u64),
            Self::NotHealthCheck => {
                let rare = entry.whole.and_then(|whole| whole.exchange.rare.as_ref());
                !rare.is_some_and(|rare| rare.is_health_check)
            }
            Self::Traceable => entry.request.as_ref().is_some_and(|request| {
                request
                    .id
                    .and_then(|id| id.get(14))
                    .is_some_and(|reason| *reason != b'4')
            }),
            Self::Share(millionths) => random() % 1_000_000 < u64::from(*millionths),
            Self::And(filters) => filters.iter().all(|filter| filter.takes(entry, random)),
            Self::Or(filters) => filters.iter().any(|filter| filter.takes(entry, random)),
            Self::Header(condition) => entry.has(condition),
            Self::Flags(flags) if flags.is_empty() => !entry.flags.is_empty(),
            Self::Flags(flags) => flags.iter().any(|flag| entry.flags.has(*flag)),
            Self::Grpc { statuses, exclude } => {
                let status = grpc_status_of(entry);
                statuses.contains(&status) != *exclude
            }
            Self::Expression(expression) => expression.holds(entry),
        }
    }

    pub(super) fn needs_sent_head(&self) -> bool {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().any(Self::needs_sent_head),
            Self::Header(condition) => is_written_by_proxies(&condition.name),
            Self::Expression(expression) => expression::needs_sent_head(expression),
            _ => false,
        }
    }

    pub(super) fn needs_response(&self) -> bool {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().any(Self::needs_response),
            Self::Expression(expression) => expression::needs_response(expression),
            Self::Grpc { .. } => true,
            _ => false,
        }
    }
}

/// Whether Envoy has a response flag of this name.
pub(crate) fn is_known_flag(name: &str) -> bool {
    const NEVER_SET: [&str; 3] = ["LR", "RFCF", "NFCF"];
    Flag::of(name).is_some() || NEVER_SET.contains(&name)
}

/// What was said, whatever the request was, else what the HTTP status says to a client of gRPC: an answer of 200 that says
/// nothing of gRPC is no success.
pub(super) fn grpc_status_of(entry: &Entry<'_>) -> u32 {
    let of = |lines| GrpcStatus::in_lines(lines)?.number();
    let said = entry.grpc.or_else(|| of(entry.trailers));
    let said = said.or_else(|| of(entry.response));
    said.unwrap_or(grpc::status_of(entry.status).into())
}
