//! `GET /api/quality-metrics`: how well a service's spans fit into its newest traces.

use axum::extract::State;
use http::Uri;
use periplus_insight::{Flags, Row, Trace};
use periplus_model::SpanId;
use periplus_store::{StoredTrace, TraceFilter, TraceQuery};
use serde_json::{Value as Json, json};

use super::envelope::{Failure, is_pretty, ok, to_json};
use super::handlers::{Answer, recent};
use crate::api::Api;
use crate::go;
use crate::params::Params;
use crate::search::service_filter;

/// The newest traces that are looked at.
const MAX_TRACES: usize = 500;

/// Examples that are named of each sort.
const MAX_EXAMPLES: usize = 5;

/// The page that explains the checks.
const GUIDE: &str = "https://github.com/periplus-mesh/periplus/blob/main/docs/jaeger.md";

/// Something that each span of the service passes or fails.
struct Check {
    name: &'static str,
    category: &'static str,
    description: &'static str,
    fails: fn(&Row) -> bool,
}

const CHECKS: [Check; 3] = [
    Check {
        name: "HasParent",
        category: "Completeness",
        description: "the parent that a span names has arrived",
        fails: |row| row.flags.contains(Flags::PARENT_MISSING),
    },
    Check {
        name: "UniqueSpanIds",
        category: "Completeness",
        description: "a span was sent once",
        fails: |row| row.flags.contains(Flags::DUPLICATE),
    },
    Check {
        name: "ClocksAgree",
        category: "Timing",
        description: "a span lies inside of its parent without a correction of its host's clock",
        fails: |row| row.flags.contains(Flags::SKEW_ADJUSTED),
    },
];

/// The checks of `service` over the last `hours` (1). There is no envelope.
pub(super) async fn quality_metrics(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let service = params.first("service").to_owned();
    if service.is_empty() {
        return Err(Failure::bad_request("parameter 'service' is required"));
    }
    let hours = params
        .parse("hours", |text| go::parse_int(text, 32))
        .map_err(Failure::bad_request)?
        .unwrap_or(1)
        .max(1);
    let range = recent(&params, hours * 3_600_000_000).map_err(Failure::bad_request)?;
    let filter = TraceFilter::AnySpan(service_filter(&service));
    let found = api.find(TraceQuery::new(range, filter, MAX_TRACES)).await?;
    let spans = found.traces.iter().map(StoredTrace::span_count).sum();
    let pretty = is_pretty(&params);
    let body = api
        .compute(spans, move || {
            to_json(&payload(&found.traces, &service), pretty)
        })
        .await?;
    ok(body)
}

#[derive(Default)]
struct Tally {
    count: u64,
    examples: Vec<Json>,
}

impl Tally {
    fn add(&mut self, trace: &StoredTrace, span: SpanId) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples
                .push(json!({ "traceID": trace.id.to_string(), "spanIDs": [span.to_string()] }));
        }
    }
}

fn payload(traces: &[StoredTrace], service: &str) -> Json {
    let mut tallies: [(Tally, Tally); CHECKS.len()] = Default::default();
    for stored in traces {
        let trace = Trace::assemble(&stored.groups);
        for row in trace
            .rows
            .iter()
            .filter(|row| trace.service(row) == service)
        {
            for (check, (passed, failed)) in CHECKS.iter().zip(&mut tallies) {
                let tally = if (check.fails)(row) { failed } else { passed };
                tally.add(stored, trace.span(row).span_id);
            }
        }
    }
    let sum = |of: fn(&(Tally, Tally)) -> u64| tallies.iter().map(of).sum::<u64>();
    let (passed, all) = (sum(|t| t.0.count), sum(|t| t.0.count + t.1.count));
    let score = if all == 0 {
        0.0
    } else {
        (passed as f64 / all as f64 * 1_000.0).round() / 10.0
    };
    let metrics: Vec<Json> = CHECKS
        .iter()
        .zip(tallies)
        .map(|(check, (passed, failed))| {
            json!({
                "name": check.name,
                "category": check.category,
                "description": check.description,
                "metricDocumentationLink": GUIDE,
                "metricWeight": 1.0 / CHECKS.len() as f64,
                "passCount": passed.count,
                "passExamples": passed.examples,
                "failureCount": failed.count,
                "failureExamples": failed.examples,
                "exemptionCount": null,
                "exemptionExamples": [],
                "details": [],
            })
        })
        .collect();
    json!({
        "traceQualityDocumentationLink": GUIDE,
        "scores": [{ "key": "quality", "label": "Trace quality", "max": 100, "value": score }],
        "metrics": metrics,
    })
}
