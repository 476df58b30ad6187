use std::time::Instant;

/// Lets so many through at once, and then so many each second.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    at_once: u32,
    left: f64,
    looked: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u32, at_once: u32, now: Instant) -> Self {
        Self {
            per_second,
            at_once,
            left: at_once.into(),
            looked: now,
        }
    }

    /// Whether one more may pass.
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.looked).as_secs_f64();
        let left = self.left + since * f64::from(self.per_second);
        self.left = left.min(self.at_once.into());
        self.looked = now;
        let passes = self.left >= 1.0;
        if passes {
            self.left -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_each_second() {
        let start = Instant::now();
        let mut rate = Rate::new(2, 3, start);
        let mut at = |ms| rate.passes(start + Duration::from_millis(ms));
        let passed = [
            0, 0, 0, 0, 400, 500, 500, 1000, 1000, 9000, 9000, 9000, 9000,
        ]
        .map(&mut at);
        let expected = "yyynnynynyyyn".chars().map(|c| c == 'y');
        assert_eq!(passed.to_vec(), expected.collect::<Vec<_>>());
    }
}
