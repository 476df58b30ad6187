use std::time::Duration;

/// What a query may take. What is exceeded ends it: what was found until then is the answer, and it
/// is said to be partial, and why.
///
/// Dropping a query ends it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// From when it is asked until it is answered, waiting for others and for a slow reader too.
    pub time: Option<Duration>,
    /// How many spans may be looked at, found ones and others.
    pub scanned_spans: u64,
    /// How many bytes those spans may take.
    pub scanned_bytes: u64,
    /// How many bytes of memory what is found may take.
    pub answer_bytes: u64,
}

impl Budget {
    /// As much as it needs.
    pub const UNLIMITED: Self = Self {
        time: None,
        scanned_spans: u64::MAX,
        scanned_bytes: u64::MAX,
        answer_bytes: u64::MAX,
    };
}

impl Default for Budget {
    fn default() -> Self {
        Self::UNLIMITED
    }
}
