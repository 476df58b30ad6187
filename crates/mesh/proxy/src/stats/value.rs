//! Counts of responses, and the numbers that everything is made of.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Show, Shown, Value};

/// A number that one thread writes and others read: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        let now = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(now, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shown for Count {
    fn show(&self, name: &str, show: Show<'_>) {
        show(name, Value::Counter(self.get()));
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(Count);

impl Gauge {
    #[inline]
    pub(crate) fn increment(&self) {
        self.0.add(1);
    }

    #[inline]
    pub(crate) fn decrement(&self) {
        self.0.add(u64::MAX);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.0.store(value, Ordering::Relaxed);
    }
}

impl Shown for Gauge {
    fn show(&self, name: &str, show: Show<'_>) {
        show(name, Value::Gauge(self.0.get()));
    }
}

/// Responses by class: `…_1xx` to `…_5xx`, and `…_completed` for all that have ended.
#[derive(Debug, Default)]
pub(crate) struct Classes([Count; 8]);

impl Classes {
    /// Counts a response, or with status 0 a request that has ended without one.
    #[inline]
    pub(crate) fn count(&self, status: u16) {
        self.0[usize::from(status / 100) % 8].increment();
    }
}

impl Shown for Classes {
    fn show(&self, name: &str, show: Show<'_>) {
        for class in 1..=5 {
            let count = self.0[class].get();
            show(&format!("{name}_{class}xx"), Value::Counter(count));
        }
        let all = self.0.iter().map(Count::get);
        let all = all.fold(0, u64::wrapping_add);
        show(&format!("{name}_completed"), Value::Counter(all));
    }
}

const FIRST: u16 = 100;
const CODES: usize = 500;

/// Responses by status: `…_200`, `…_2xx` and `…_completed`. They take room once there was one.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    by_status: OnceLock<Box<[Count; CODES]>>,
    /// Requests that have ended without a response, or with a status that HTTP has no place for.
    others: Count,
}

impl Codes {
    #[inline]
    pub(crate) fn count(&self, status: u16) {
        let all = match self.by_status.get() {
            Some(all) => all,
            None => self.begin(),
        };
        let of_status = all.get(usize::from(status.wrapping_sub(FIRST)));
        of_status.unwrap_or(&self.others).increment();
    }

    #[cold]
    fn begin(&self) -> &[Count; CODES] {
        self.by_status
            .get_or_init(|| Box::new([const { Count(AtomicU64::new(0)) }; CODES]))
    }
}

impl Shown for Codes {
    fn show(&self, name: &str, show: Show<'_>) {
        let mut all = self.others.get();
        let by_status = self.by_status.get();
        let counts = by_status.into_iter().flat_map(|counts| counts.iter());
        let mut classes = [0_u64; 5];
        for (status, count) in (FIRST..).zip(counts) {
            let count = count.get();
            if count == 0 {
                continue;
            }
            all += count;
            classes[usize::from(status / 100) - 1] += count;
            show(&format!("{name}_{status}"), Value::Counter(count));
        }
        // Envoy has no class of those that came before the response.
        for (class, count) in (2..).zip(&classes[1..]) {
            show(&format!("{name}_{class}xx"), Value::Counter(*count));
        }
        show(&format!("{name}_completed"), Value::Counter(all));
    }
}
