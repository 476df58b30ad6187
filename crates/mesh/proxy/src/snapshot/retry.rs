//! `RetryPolicy`: when a request is tried again.

use std::num::NonZeroU32;
use std::time::Duration;

use super::HeaderMatch;

/// When and how a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryOn,
    /// `num_retries`.
    pub retries: u32,
    /// `per_try_timeout`; it holds where it is shorter than the time for all attempts.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`: how long nothing may move between the proxy and the endpoint.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`.
    pub status_codes: Vec<u16>,
    /// `retriable_headers`, of the response: any of them.
    pub headers: Vec<HeaderMatch>,
    /// `retriable_request_headers`: any of them, if there are some.
    pub request_headers: Vec<HeaderMatch>,
    /// `retry_back_off`.
    pub back_off: BackOff,
    /// `rate_limited_retry_back_off`.
    pub rate_limited: Option<RateLimited>,
    /// `retry_host_predicate` of previous hosts: how often another endpoint is chosen if the one that was
    /// chosen has had the request already. Zero takes any.
    pub host_attempts: u32,
    /// `retry_priority` of previous priorities: after each so many attempts those are left out that have had the
    /// request already.
    pub other_priorities_after: Option<NonZeroU32>,
}

/// How long it takes until the next attempt: a random part of a time that doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// `base_interval`.
    pub base: Duration,
    /// `max_interval`.
    pub max: Duration,
}

/// How long it takes if the endpoint says so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimited {
    /// The headers that may say it; the first that does counts.
    pub headers: Vec<ResetHeader>,
    /// More than this is not waited for.
    pub max: Duration,
}

/// `ResetHeader`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value is a moment, in seconds since 1970, and not a number of seconds.
    pub is_moment: bool,
}

/// A set of reasons for another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

/// The reasons by Envoy's names; the place in the list is the bit.
const REASONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "reset",
    "retriable-headers",
    "envoy-ratelimited",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "unavailable",
    "internal",
    "reset-before-request",
    "http3-post-connect-failure",
];

impl RetryOn {
    /// Each status of 500 to 599, and no response at all.
    pub const SERVER_ERROR: Self = Self(1);
    /// 502, 503 and 504, and no response at all.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// No connection.
    pub const CONNECT_FAILURE: Self = Self(1 << 2);
    /// 409.
    pub const CONFLICT: Self = Self(1 << 3);
    /// A stream that was refused.
    pub const REFUSED_STREAM: Self = Self(1 << 4);
    /// One of `retriable_status_codes`.
    pub const STATUS_CODES: Self = Self(1 << 5);
    /// No response at all.
    pub const RESET: Self = Self(1 << 6);
    /// One of `retriable_headers`.
    pub const HEADERS: Self = Self(1 << 7);
    /// A response of a proxy's rate limit.
    pub const RATE_LIMITED: Self = Self(1 << 8);
    /// gRPC's CANCELLED.
    pub const CANCELLED: Self = Self(1 << 9);
    /// gRPC's DEADLINE_EXCEEDED.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 10);
    /// gRPC's RESOURCE_EXHAUSTED.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 11);
    /// gRPC's UNAVAILABLE.
    pub const UNAVAILABLE: Self = Self(1 << 12);
    /// gRPC's INTERNAL.
    pub const INTERNAL: Self = Self(1 << 13);
    /// No response at all to a request of which nothing was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 14);

    /// The reasons of a list of names, or the first name that is none.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut reasons = 0;
        for name in list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            match REASONS.iter().position(|known| *known == name) {
                Some(at) => reasons |= 1 << at,
                None => return Err(name.to_owned()),
            }
        }
        Ok(Self(reasons))
    }

    /// Those that are codes of gRPC.
    pub const OF_GRPC: Self = Self(
        Self::CANCELLED.0
            | Self::DEADLINE_EXCEEDED.0
            | Self::RESOURCE_EXHAUSTED.0
            | Self::UNAVAILABLE.0
            | Self::INTERNAL.0,
    );

    /// Whether all of them are codes of gRPC.
    pub(crate) fn is_of_grpc(self) -> bool {
        self.0 & !Self::OF_GRPC.0 == 0
    }

    /// Whether any of the reasons of `other` is among these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// All of both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_reasons() {
        let istio = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
        let on = RetryOn::parse(istio).expect("known");
        for (reason, expected) in [
            (RetryOn::CONNECT_FAILURE, true),
            (RetryOn::REFUSED_STREAM, true),
            (RetryOn::UNAVAILABLE, true),
            (RetryOn::CANCELLED, true),
            (RetryOn::STATUS_CODES, true),
            (RetryOn::SERVER_ERROR, false),
            (RetryOn::RESET_BEFORE_REQUEST, false),
        ] {
            assert_eq!(on.has(reason), expected, "{reason:?}");
        }
        let one = RetryOn::parse(" reset-before-request, ").expect("known");
        assert_eq!(one, RetryOn::RESET_BEFORE_REQUEST);
        assert_eq!(RetryOn::parse("5xx,never"), Err("never".to_owned()));
        assert!(RetryOn::parse("").expect("none").is_empty());
    }
}
