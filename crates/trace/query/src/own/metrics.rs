//! What is counted of spans: rates, errors and durations, and who calls whom.

use periplus_model::SpanKind;
use periplus_store::{DependencyEdge, RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, TimeRange};
use serde::Serialize;

use super::unit::micros;
use crate::go;
use crate::params::Params;

/// The range when there is no start.
const LOOKBACK_NANO: u64 = 3_600_000_000_000;

/// How many points a series has when nobody says how long they are.
const POINTS: u64 = 60;

/// The most points that a series may have.
const MAX_POINTS: u64 = 11_000;

const MINUTE_NANO: u64 = 60_000_000_000;

/// `start` and `end` in microseconds: the hour before the end, which is now, unless they say more.
fn range(params: &Params<'_>, now_unix_nano: u64) -> Result<TimeRange, String> {
    let nano = |name| {
        let parsed = params.parse(name, |text| go::parse_int(text, 64))?;
        let micros = parsed.map(|micros| u64::try_from(micros).unwrap_or(0));
        Ok::<_, String>(micros.map(|micros| micros.saturating_mul(1_000)))
    };
    let end = nano("end")?.unwrap_or(now_unix_nano);
    let start = nano("start")?.unwrap_or(end.saturating_sub(LOOKBACK_NANO));
    if start > end {
        return Err("parameter 'start' is behind 'end': let it be before".to_owned());
    }
    Ok(TimeRange {
        start_unix_nano: start,
        // As in a search, the end is inside.
        end_unix_nano: end.saturating_add(1),
    })
}

/// The windows from the one of the start to that of the end.
pub(super) fn red_query(params: &Params<'_>, now_unix_nano: u64) -> Result<RedQuery, String> {
    let range = range(params, now_unix_nano)?;
    let start = range.start_unix_nano - range.start_unix_nano % RED_WINDOW_NANO;
    let length = range.end_unix_nano - start;
    let step = match params.parse("step", go::parse_duration)? {
        Some(step) => u64::try_from(step)
            .ok()
            .filter(|step| *step > 0)
            .ok_or("parameter 'step' is no time above zero: say 10s or 1m")?,
        None => length.div_ceil(POINTS),
    };
    let step = step
        .checked_next_multiple_of(RED_WINDOW_NANO)
        .ok_or("parameter 'step' is too long: say 10s or 1m")?;
    if length / step > MAX_POINTS {
        return Err(format!(
            "there would be more than {MAX_POINTS} points: ask for a longer 'step' or less time"
        ));
    }
    let kind = match params.first("kind") {
        "" => None,
        name => Some(
            SpanKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == name)
                .ok_or_else(|| {
                    let known = SpanKind::ALL.map(SpanKind::as_str).join(", ");
                    format!("parameter 'kind' is '{name}', which is none of {known}")
                })?,
        ),
    };
    let named = |name| Some(params.first(name).to_owned()).filter(|text| !text.is_empty());
    Ok(RedQuery {
        range: TimeRange {
            start_unix_nano: start,
            ..range
        },
        service: named("service"),
        name: named("operation"),
        kind,
        step_nano: Some(step),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Red {
    step_us: u64,
    series: Vec<Series>,
}

#[derive(Debug, Serialize)]
struct Series {
    service: String,
    operation: String,
    kind: &'static str,
    calls: u64,
    errors: u64,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    start_us: u64,
    calls: u64,
    errors: u64,
    p50_us: u64,
    p90_us: u64,
    p95_us: u64,
    p99_us: u64,
}

pub(super) fn red(query: &RedQuery, series: Vec<RedSeries>) -> Red {
    let series = series.into_iter().map(|series| Series {
        calls: series.points.iter().map(|point| point.spans).sum(),
        errors: series.points.iter().map(|point| point.errors).sum(),
        points: series.points.iter().map(point).collect(),
        service: series.service,
        operation: series.name,
        kind: series.kind.as_str(),
    });
    Red {
        step_us: micros(query.step_nano.unwrap_or_default()),
        series: series.collect(),
    }
}

fn point(point: &RedPoint) -> Point {
    let quantiles = point.quantiles([0.5, 0.9, 0.95, 0.99]);
    let [p50_us, p90_us, p95_us, p99_us] = quantiles.unwrap_or_default().map(micros);
    Point {
        start_us: micros(point.start_unix_nano),
        calls: point.spans,
        errors: point.errors,
        p50_us,
        p90_us,
        p95_us,
        p99_us,
    }
}

/// Whole minutes: those of which some lies in the range.
pub(super) fn minutes(params: &Params<'_>, now_unix_nano: u64) -> Result<TimeRange, String> {
    let range = range(params, now_unix_nano)?;
    let (start, end) = (range.start_unix_nano, range.end_unix_nano);
    Ok(TimeRange {
        start_unix_nano: start - start % MINUTE_NANO,
        end_unix_nano: end.checked_next_multiple_of(MINUTE_NANO).unwrap_or(end),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Graph {
    start_us: u64,
    end_us: u64,
    edges: Vec<Edge>,
}

#[derive(Debug, Serialize)]
struct Edge {
    caller: String,
    called: String,
    calls: u64,
    errors: u64,
}

pub(super) fn graph(range: TimeRange, edges: Vec<DependencyEdge>) -> Graph {
    let edge = |edge: DependencyEdge| Edge {
        caller: edge.parent,
        called: edge.child,
        calls: edge.call_count,
        errors: edge.error_count,
    };
    Graph {
        start_us: micros(range.start_unix_nano),
        end_us: micros(range.end_unix_nano),
        edges: edges.into_iter().map(edge).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_760_000_005_000_000_000;

    fn query(text: &str) -> Result<RedQuery, String> {
        red_query(&Params::of(Some(text)), NOW)
    }

    #[test]
    fn an_hour_in_minutes_unless_more_is_said() {
        let query = query("").expect("no parameters are fine");
        assert_eq!(query.range.end_unix_nano, NOW + 1);
        assert_eq!(
            query.range.start_unix_nano,
            NOW - LOOKBACK_NANO - 5_000_000_000
        );
        // An hour and five seconds.
        assert_eq!(query.step_nano, Some(70_000_000_000));
        assert_eq!((query.service, query.name, query.kind), (None, None, None));
    }

    #[test]
    fn parameters_are_read_and_refused() {
        let found =
            query("start=1760000000000000&end=1760000060000000&step=15s&kind=server&service=a");
        let found = found.expect("a query");
        assert_eq!(found.step_nano, Some(20_000_000_000));
        assert_eq!(found.kind, Some(SpanKind::Server));
        assert_eq!(found.service.as_deref(), Some("a"));
        for (text, part) in [
            ("step=0s", "'step'"),
            ("step=x", "'step'"),
            ("kind=x", "none of"),
            ("start=2&end=1", "'start'"),
            ("start=0&step=10s", "points"),
            ("start=x", "'start'"),
        ] {
            let error = query(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_graph_is_of_whole_minutes() {
        let params = Params::of(Some("start=1760000000000000&end=1760000061000000"));
        let range = minutes(&params, NOW).expect("a range");
        assert_eq!(range.start_unix_nano, 1_759_999_980_000_000_000);
        assert_eq!(range.end_unix_nano, 1_760_000_100_000_000_000);
    }
}
