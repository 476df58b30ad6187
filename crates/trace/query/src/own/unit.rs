//! Nanoseconds to microseconds. Instants are cut, and durations are the difference of cut
//! instants: what lies inside its parent stays inside it.

pub(super) const fn micros(unix_nano: u64) -> u64 {
    unix_nano / 1_000
}

/// From one instant to another.
pub(super) const fn micros_between(start_unix_nano: u64, end_unix_nano: u64) -> u64 {
    micros(end_unix_nano).saturating_sub(micros(start_unix_nano))
}
