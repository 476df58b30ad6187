use super::{AdjustedGroup, spans_mut};
use crate::text::go_time;

/// Gives spans that do not end after they start a nanosecond, as Jaeger v2 does when they come in
/// (`sanitizer/negative_duration.go`).
pub(super) fn sanitize(groups: &mut [AdjustedGroup]) {
    for adjusted in spans_mut(groups) {
        let span = &mut adjusted.span;
        if span.start_unix_nano < span.end_unix_nano {
            continue;
        }
        let end = span.start_unix_nano.saturating_add(1);
        adjusted.warnings.push(format!(
            "Negative duration detected, sanitizing end timestamp. Original end timestamp: {}, \
             adjusted to: {}",
            go_time(span.end_unix_nano),
            go_time(end)
        ));
        span.end_unix_nano = end;
    }
}
