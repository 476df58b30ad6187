use periplus_model::SpanKind;

use crate::{Durations, TimeRange};

/// The length of a window of a [`RedSeries`], nanoseconds.
pub use periplus_segment::WINDOW_NANO as RED_WINDOW_NANO;
/// The durations, in nanoseconds, that a bucket of a [`RedPoint`] stands for.
pub use periplus_segment::bucket_bounds as red_bucket_bounds;

/// Which rates, errors and durations are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedQuery {
    /// Of the spans in the windows of [`RED_WINDOW_NANO`] that begin inside.
    pub range: TimeRange,
    /// Of this service only.
    pub service: Option<String>,
    /// Of spans with this name only.
    pub name: Option<String>,
    /// Of this kind only.
    pub kind: Option<SpanKind>,
    /// So much time becomes one point: a multiple of [`RED_WINDOW_NANO`]; of what is none, the next
    /// larger one. `None`: all of the range.
    pub step_nano: Option<u64>,
}

impl RedQuery {
    /// All of a range, every window by itself.
    pub const fn new(range: TimeRange) -> Self {
        Self {
            range,
            service: None,
            name: None,
            kind: None,
            step_nano: Some(RED_WINDOW_NANO),
        }
    }

    pub(crate) fn wants(&self, service: &str, name: &str, kind: SpanKind) -> bool {
        self.service
            .as_deref()
            .is_none_or(|wanted| wanted == service)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Whether no two of its points share a space of time of this length.
    pub(crate) fn is_multiple_of(&self, space_nano: u64) -> bool {
        self.step_nano.is_none_or(|step| {
            let step = step.max(1).checked_next_multiple_of(RED_WINDOW_NANO);
            step.is_none_or(|step| step.is_multiple_of(space_nano))
        })
    }

    /// When the point begins in which a window is counted: a multiple of the step since the epoch,
    /// or the begin of the range if all of it is one.
    pub(crate) fn point_of(&self, window: u64) -> u64 {
        match self.step_nano {
            None => self.range.start_unix_nano,
            Some(step) => {
                let step = step.max(1).checked_next_multiple_of(RED_WINDOW_NANO);
                window - window % step.unwrap_or(u64::MAX)
            }
        }
    }
}

/// The rates, errors and durations of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedSeries {
    /// The service; empty for spans without one.
    pub service: String,
    /// The name of its spans.
    pub name: String,
    /// Their kind.
    pub kind: SpanKind,
    /// By time; windows without spans are left out.
    pub points: Vec<RedPoint>,
}

/// The spans of a series that start within one window, or one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedPoint {
    /// When it begins: a multiple of [`RED_WINDOW_NANO`], unless the query has no step.
    pub start_unix_nano: u64,
    /// How many spans there are.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How long they took.
    pub durations: Durations,
}

impl RedPoint {
    /// The durations, in nanoseconds, that these parts of the spans (from 0 to 1, ascending) stay below
    /// or at: of a bucket the middle, at most 1.6 % off. `None` if there are no spans.
    pub fn quantiles<const N: usize>(&self, parts: [f64; N]) -> Option<[u64; N]> {
        let rank = |part: f64| (part.clamp(0.0, 1.0) * self.spans as f64).ceil().max(1.0) as u64;
        let buckets = self.durations.buckets_of(parts.map(rank))?;
        Some(buckets.map(|bucket| {
            let (least, most) = red_bucket_bounds(bucket);
            least + (most - least) / 2
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_durations() {
        let nano: Vec<u64> = (1..=1_000).map(|n| n * 1_000).collect();
        let mut point = RedPoint {
            spans: nano.len() as u64,
            ..RedPoint::default()
        };
        for nano in &nano {
            let bucket = periplus_segment::bucket_of(*nano);
            point.durations.add(&[(bucket, 1)]);
        }
        let found = point.quantiles([0.0, 0.5, 0.99, 1.0]);
        let found = found.expect("there are spans");
        for (found, expected) in found.into_iter().zip([1_000, 500_000, 990_000, 1_000_000]) {
            assert!(found.abs_diff(expected) * 60 <= expected, "{found}");
        }
        assert_eq!(RedPoint::default().quantiles([0.5]), None);
    }

    #[test]
    fn steps_begin_at_multiples_of_themselves() {
        let mut query = RedQuery::new(TimeRange {
            start_unix_nano: 7,
            end_unix_nano: u64::MAX,
        });
        let window = 123_450_000_000_000;
        assert_eq!(query.point_of(window), window);
        query.step_nano = Some(59_000_000_000);
        assert_eq!(query.point_of(window), 123_420_000_000_000);
        query.step_nano = Some(u64::MAX);
        assert_eq!(query.point_of(window), 0);
        query.step_nano = None;
        assert_eq!(query.point_of(window), 7);
    }
}
