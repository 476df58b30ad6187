use std::time::Duration;

use tokio::time::Instant;

/// At most one line a second about what may happen a thousand times a second.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    last: Option<Instant>,
    held_back: u64,
}

impl LogLimit {
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether to write a line now; if so, how many were held back since the last one.
    pub(super) fn allow(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < Self::EVERY) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_none_forgotten() {
        let mut limit = LogLimit::default();
        assert_eq!(limit.allow(), Some(0));
        assert_eq!(limit.allow(), None);
        assert_eq!(limit.allow(), None);
        tokio::time::advance(LogLimit::EVERY).await;
        assert_eq!(limit.allow(), Some(2));
        assert_eq!(limit.allow(), None);
    }
}
