//! `/api/metrics`: what Jaeger's monitor page draws, from the store's own rates, errors and
//! durations. The shape is that of OpenMetrics in protobuf's JSON; there is no envelope.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use http::{StatusCode, Uri};
use periplus_model::SpanKind;
use periplus_store::{
    RED_WINDOW_NANO, RedPoint, RedSeries, StoreError, TimeRange, red_bucket_bounds,
};
use periplus_wire::jaeger::not_finite;
use serde_json::{Value as Json, json};

use super::envelope::{Envelope, Failure, is_pretty, ok, to_json};
use super::handlers::{Answer, kind_of, last_segment};
use crate::api::{Api, now_unix_nano};
use crate::go;
use crate::params::Params;
use crate::time::format_rfc3339;

const WINDOW_MS: i64 = (RED_WINDOW_NANO / 1_000_000) as i64;

/// Points of one series, as many as Prometheus answers with.
const MAX_POINTS: i64 = 11_000;

/// What is asked about each point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// The duration below which this share of the calls lies, milliseconds.
    Latency(f64),
    /// Calls per second.
    Calls,
    /// The share of calls that failed.
    Errors,
}

/// The parameters; times in milliseconds.
#[derive(Debug)]
struct Request {
    services: Vec<String>,
    kinds: Vec<SpanKind>,
    by_operation: bool,
    end: i64,
    lookback: i64,
    step: i64,
    rate_per: i64,
}

/// `GET /api/metrics/{latencies|calls|errors|minstep}`.
pub(super) async fn metrics(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let measure = match last_segment(&uri) {
        "latencies" => Measure::Latency(quantile(&params).map_err(Failure::bad_request)?),
        "calls" => Measure::Calls,
        "errors" => Measure::Errors,
        "minstep" => {
            let answer = Envelope::of(WINDOW_MS);
            return ok(to_json(&answer, is_pretty(&params)));
        }
        _ => return Err(Failure::NotServed),
    };
    let request = Request::of(&params).map_err(Failure::bad_request)?;
    let series = match api.store.red(request.range()).await {
        Err(StoreError::Unsupported { .. }) => {
            return Err(Failure::new(
                StatusCode::NOT_IMPLEMENTED,
                "trace metrics are currently disabled - no metrics backend configured",
            ));
        }
        series => series?,
    };
    let points: usize = series.iter().map(|series| series.points.len()).sum();
    let pretty = is_pretty(&params);
    let body = api
        .compute(points, move || {
            to_json(&family(measure, &request, &series), pretty)
        })
        .await?;
    ok(body)
}

fn quantile(params: &Params<'_>) -> Result<f64, String> {
    let text = params.first("quantile");
    let number: f64 = text.parse().map_err(|_| {
        format!(
            "unable to parse param 'quantile': strconv.ParseFloat: parsing {}: invalid syntax",
            go::quote(text)
        )
    })?;
    if (0.0..=1.0).contains(&number) {
        Ok(number)
    } else {
        Err(format!(
            "unable to parse param 'quantile': {text} is not between 0 and 1"
        ))
    }
}

impl Request {
    fn of(params: &Params<'_>) -> Result<Self, String> {
        let services: Vec<String> = params.all("service").map(str::to_owned).collect();
        if services.is_empty() {
            return Err(
                "unable to parse param 'service': please provide at least one service name"
                    .to_owned(),
            );
        }
        let kinds = params
            .all("spanKind")
            .map(|word| match word {
                "unspecified" => Ok(SpanKind::Unspecified),
                word => kind_of(word).ok_or_else(|| {
                    format!("unable to parse param 'spanKind': unsupported span kind: '{word}'")
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let millis = |name, default| {
            let number = params.parse(name, |text| go::parse_int(text, 64))?;
            Ok::<_, String>(number.unwrap_or(default))
        };
        let now_ms = i64::try_from(now_unix_nano() / 1_000_000).unwrap_or(i64::MAX);
        let request = Self {
            services,
            kinds: if kinds.is_empty() {
                vec![SpanKind::Server]
            } else {
                kinds
            },
            by_operation: params.flag("groupByOperation")?,
            end: millis("endTs", now_ms)?.clamp(0, i64::MAX / 1_000_000),
            lookback: millis("lookback", 3_600_000)?,
            step: millis("step", 5_000)?,
            rate_per: millis("ratePer", 600_000)?,
        };
        for (name, number) in [
            ("lookback", request.lookback),
            ("step", request.step),
            ("ratePer", request.rate_per),
        ] {
            if number <= 0 {
                return Err(format!(
                    "unable to parse param '{name}': {number} is not above zero"
                ));
            }
        }
        if request.lookback / request.step >= MAX_POINTS {
            return Err(format!(
                "unable to parse param 'step': exceeded maximum resolution of {MAX_POINTS} points \
                 per series, ask for a longer step or a shorter lookback"
            ));
        }
        Ok(request)
    }

    /// The points in time that are asked about.
    fn times(&self) -> impl Iterator<Item = i64> {
        let steps = self.lookback / self.step;
        let first = self.end.saturating_sub(self.lookback);
        let step = self.step;
        (0..=steps).map(move |i| first.saturating_add(i * step))
    }

    /// How much time counts for each point: whole windows.
    fn windows(&self) -> i64 {
        (self.rate_per.saturating_add(WINDOW_MS / 2) / WINDOW_MS).max(1)
    }

    /// The windows that count for a point, as numbers: the last one is the last that has ended.
    fn span_of(&self, time_ms: i64) -> std::ops::Range<i64> {
        let end = time_ms.div_euclid(WINDOW_MS);
        end.saturating_sub(self.windows())..end
    }

    fn range(&self) -> TimeRange {
        let nano = |window: i64| {
            u64::try_from(window)
                .unwrap_or(0)
                .saturating_mul(RED_WINDOW_NANO)
        };
        let first = self.end.saturating_sub(self.lookback);
        TimeRange {
            start_unix_nano: nano(self.span_of(first).start),
            end_unix_nano: nano(self.span_of(self.end).end),
        }
    }
}

/// A `MetricFamily`.
fn family(measure: Measure, request: &Request, series: &[RedSeries]) -> Json {
    let (what, help) = match measure {
        Measure::Latency(quantile) => (
            "latencies",
            format!("{quantile:.2}th quantile latency, grouped by service"),
        ),
        Measure::Calls => ("call_rate", "calls/sec, grouped by service".to_owned()),
        Measure::Errors => (
            "error_rate",
            "error rate, computed as a fraction of errors/sec over calls/sec, grouped by service"
                .to_owned(),
        ),
    };
    let (name, help) = if request.by_operation {
        (
            format!("service_operation_{what}"),
            format!("{help} & operation"),
        )
    } else {
        (format!("service_{what}"), help)
    };
    let metrics: Vec<Json> = grouped(request, series)
        .into_iter()
        .map(|((service, operation), windows)| {
            let mut labels = Vec::new();
            if let Some(operation) = operation {
                labels.push(json!({ "name": "operation", "value": operation }));
            }
            labels.push(json!({ "name": "service_name", "value": service }));
            json!({
                "labels": labels,
                "metricPoints": points(measure, request, &windows),
            })
        })
        .collect();
    json!({ "name": name, "type": "GAUGE", "help": help, "metrics": metrics })
}

/// The windows of each series that is asked for, by number.
type Windows<'a> = BTreeMap<i64, Vec<&'a RedPoint>>;

fn grouped<'a>(
    request: &Request,
    series: &'a [RedSeries],
) -> BTreeMap<(&'a str, Option<&'a str>), Windows<'a>> {
    let mut groups: BTreeMap<_, Windows<'a>> = BTreeMap::new();
    for one in series {
        if !request.services.contains(&one.service) || !request.kinds.contains(&one.kind) {
            continue;
        }
        let operation = request.by_operation.then_some(one.name.as_str());
        let windows = groups.entry((one.service.as_str(), operation)).or_default();
        for point in &one.points {
            let window = (point.start_unix_nano / RED_WINDOW_NANO) as i64;
            windows.entry(window).or_default().push(point);
        }
    }
    groups
}

/// `MetricPoint`s: the windows that count for one slide over the series.
fn points(measure: Measure, request: &Request, windows: &Windows<'_>) -> Vec<Json> {
    let mut sum = Sum::default();
    let (mut entered, mut left) = (i64::MIN, i64::MIN);
    let mut points = Vec::new();
    for time in request.times() {
        let counts = request.span_of(time);
        for (_, points) in windows.range(entered..counts.end.max(entered)) {
            points.iter().for_each(|point| sum.add(point));
        }
        entered = counts.end.max(entered);
        for (_, points) in windows.range(left..counts.start.max(left)) {
            points.iter().for_each(|point| sum.remove(point));
        }
        left = counts.start.max(left);
        let seconds = (request.windows() * WINDOW_MS) as f64 / 1e3;
        let value = match measure {
            Measure::Calls => sum.spans as f64 / seconds,
            // Without calls there is no share: NaN.
            Measure::Errors => sum.errors as f64 / sum.spans as f64,
            Measure::Latency(quantile) => sum.quantile_ms(quantile),
        };
        let value = if value.is_finite() {
            json!(value)
        } else {
            json!(not_finite(value))
        };
        let unix_nano = u64::try_from(time).unwrap_or(0).saturating_mul(1_000_000);
        points.push(json!({
            "gaugeValue": { "doubleValue": value },
            "timestamp": format_rfc3339(unix_nano),
        }));
    }
    points
}

/// The spans of some windows together.
#[derive(Default)]
struct Sum {
    spans: u64,
    errors: u64,
    durations: HashMap<u16, u64>,
}

impl Sum {
    fn add(&mut self, point: &RedPoint) {
        self.spans += point.spans;
        self.errors += point.errors;
        for (bucket, count) in point.durations.iter() {
            *self.durations.entry(bucket).or_default() += count;
        }
    }

    fn remove(&mut self, point: &RedPoint) {
        self.spans -= point.spans;
        self.errors -= point.errors;
        for (bucket, count) in point.durations.iter() {
            if let Some(sum) = self.durations.get_mut(&bucket) {
                *sum -= count;
            }
        }
        self.durations.retain(|_, count| *count > 0);
    }

    /// Between the ends of its bucket in proportion, as Prometheus does; NaN without spans.
    fn quantile_ms(&self, quantile: f64) -> f64 {
        let total: u64 = self.durations.values().sum();
        if total == 0 {
            return f64::NAN;
        }
        let mut buckets: Vec<_> = self.durations.iter().collect();
        buckets.sort_unstable();
        let rank = quantile * total as f64;
        let mut below = 0.0;
        let mut last = 0.0;
        for (bucket, count) in buckets {
            let (least, most) = red_bucket_bounds(*bucket);
            let count = *count as f64;
            last = most as f64;
            if below + count >= rank {
                let share = ((rank - below) / count).clamp(0.0, 1.0);
                let nano = least as f64 + share * (most as f64 - least as f64);
                return nano / 1e6;
            }
            below += count;
        }
        last / 1e6
    }
}

#[cfg(test)]
mod tests {
    use periplus_store::Durations;

    use super::*;

    fn request(query: &str) -> Result<Request, String> {
        Request::of(&Params::of(Some(query)))
    }

    #[test]
    fn parameters_have_jaegers_defaults_and_errors() {
        let defaults = request("service=a&service=b&endTs=3600000").unwrap();
        assert_eq!(defaults.services, ["a", "b"]);
        assert_eq!(defaults.kinds, [SpanKind::Server]);
        assert_eq!(defaults.times().count(), 721);
        assert_eq!(defaults.times().next(), Some(0));
        assert_eq!(defaults.times().last(), Some(3_600_000));
        assert_eq!(defaults.windows(), 60);
        for (query, error) in [
            (
                "",
                "unable to parse param 'service': please provide at least one service name",
            ),
            (
                "service=a&spanKind=x",
                "unable to parse param 'spanKind': unsupported span kind: 'x'",
            ),
            (
                "service=a&step=0",
                "unable to parse param 'step': 0 is not above zero",
            ),
            (
                "service=a&step=1",
                "unable to parse param 'step': exceeded maximum resolution of 11000 points per \
                 series, ask for a longer step or a shorter lookback",
            ),
            (
                "service=a&lookback=1h",
                "unable to parse param 'lookback': strconv.ParseInt: parsing \"1h\": invalid syntax",
            ),
        ] {
            assert_eq!(request(query).unwrap_err(), error, "{query}");
        }
    }

    #[test]
    fn windows_slide_over_a_series() {
        // Windows of ten seconds: 6 calls in the first, one that failed in the fourth.
        let point = |window: u64, spans: u32, errors, bucket| {
            let mut durations = Durations::default();
            durations.add(&[(bucket, spans)]);
            RedPoint {
                start_unix_nano: window * RED_WINDOW_NANO,
                spans: spans.into(),
                errors,
                durations,
            }
        };
        let series = [RedSeries {
            service: "a".to_owned(),
            name: "get".to_owned(),
            kind: SpanKind::Server,
            points: vec![point(0, 6, 0, 20), point(3, 1, 1, 30)],
        }];
        let request =
            request("service=a&endTs=60000&lookback=60000&step=10000&ratePer=20000").unwrap();
        let groups = grouped(&request, &series);
        let windows = &groups[&("a", None)];
        let values = |measure| -> Vec<Json> {
            let points = points(measure, &request, windows);
            points
                .into_iter()
                .map(|point| point["gaugeValue"]["doubleValue"].clone())
                .collect()
        };
        assert_eq!(
            values(Measure::Calls),
            [0.0, 0.3, 0.3, 0.0, 0.05, 0.05, 0.0].map(|n| json!(n))
        );
        let nan = json!("NaN");
        assert_eq!(
            values(Measure::Errors),
            [
                nan.clone(),
                json!(0.0),
                json!(0.0),
                nan.clone(),
                json!(1.0),
                json!(1.0),
                nan.clone()
            ]
        );
        let latencies = values(Measure::Latency(0.5));
        assert_eq!(latencies[1], json!(20e-6));
        assert_eq!(latencies[4], json!(30e-6));
        assert_eq!(latencies[0], nan);
    }
}
