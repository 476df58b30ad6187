use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Nanoseconds since 1970 that never go back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    unix_nano: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix_nano: nanos(since.unwrap_or_default()),
        }
    }

    pub(super) fn now_unix_nano(&self) -> u64 {
        self.unix_nano.saturating_add(nanos(self.instant.elapsed()))
    }

    pub(super) fn instant(&self, unix_nano: u64) -> Instant {
        self.instant + Duration::from_nanos(unix_nano.saturating_sub(self.unix_nano))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
