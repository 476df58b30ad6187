use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit as Envoys;

/// What requests are counted by: fixed windows, that begin at multiples of their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// Seven days.
    Week,
    /// Thirty days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("second", Self::Second),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];

    /// In whatever case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, unit)| unit)
    }

    pub(crate) fn of_envoy(number: i32) -> Option<Self> {
        Some(match Envoys::try_from(number).ok()? {
            Envoys::Unknown => return None,
            Envoys::Second => Self::Second,
            Envoys::Minute => Self::Minute,
            Envoys::Hour => Self::Hour,
            Envoys::Day => Self::Day,
            Envoys::Week => Self::Week,
            Envoys::Month => Self::Month,
            Envoys::Year => Self::Year,
        })
    }

    pub(crate) fn to_envoy(self) -> Envoys {
        match self {
            Self::Second => Envoys::Second,
            Self::Minute => Envoys::Minute,
            Self::Hour => Envoys::Hour,
            Self::Day => Envoys::Day,
            Self::Week => Envoys::Week,
            Self::Month => Envoys::Month,
            Self::Year => Envoys::Year,
        }
    }

    /// In seconds.
    pub(crate) fn length(self) -> u64 {
        const DAY: u64 = 24 * 3600;
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }

    /// When the window of this time began, in seconds since 1970, and how long it still lasts.
    pub(crate) fn window(self, now: SystemTime) -> (u64, u64) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let since = now.as_secs() % self.length();
        (now.as_secs() - since, self.length() - since)
    }
}
