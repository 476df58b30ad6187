//! A trace as our API answers it: `GET /api/periplus/v1/traces/{id}`.

use serde::{Deserialize, Serialize};

/// The skeleton, in columns.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Skeleton {
    pub(super) trace_id: String,
    pub(super) t0: u64,
    pub(super) duration_us: u64,
    services: Vec<String>,
    operations: Vec<String>,
    rows: Columns,
    critical: Vec<[u64; 3]>,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Clone, Debug, Deserialize)]
struct Columns {
    id: Vec<String>,
    depth: Vec<usize>,
    parent: Vec<i64>,
    service: Vec<usize>,
    operation: Vec<usize>,
    kind: Vec<u8>,
    start: Vec<u64>,
    duration: Vec<u64>,
    #[serde(rename = "self")]
    self_time: Vec<u64>,
    flags: Vec<u8>,
}

/// What is wrong with a row.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Warning {
    pub(super) row: usize,
    pub(super) text: String,
}

/// A trace, span by span: what `-o json` prints.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TraceOut {
    pub(super) trace_id: String,
    pub(super) start_us: u64,
    pub(super) duration_us: u64,
    pub(super) spans: Vec<SpanOut>,
}

/// A span, with its place in the trace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanOut {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) parent_span_id: Option<String>,
    pub(super) depth: usize,
    pub(super) service: String,
    pub(super) operation: String,
    pub(super) kind: &'static str,
    pub(super) start_us: u64,
    pub(super) duration_us: u64,
    pub(super) self_us: u64,
    /// How long the request waited for it.
    pub(super) critical_us: u64,
    pub(super) error: bool,
    pub(super) parent_missing: bool,
    /// When it was on the critical path, in µs after the trace's start.
    #[serde(skip)]
    pub(super) critical: Vec<(u64, u64)>,
}

const ERROR: u8 = 1;
const PARENT_MISSING: u8 = 2;

const KINDS: [&str; 6] = [
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];

impl Skeleton {
    /// Span by span; `None` if its columns do not fit together.
    pub(super) fn spans(&self) -> Option<TraceOut> {
        let rows = &self.rows;
        let mut spans = Vec::with_capacity(rows.id.len());
        for (at, id) in rows.id.iter().enumerate() {
            let parent = usize::try_from(*rows.parent.get(at)?).ok();
            let flags = *rows.flags.get(at)?;
            spans.push(SpanOut {
                trace_id: self.trace_id.clone(),
                span_id: id.clone(),
                parent_span_id: parent.and_then(|parent| rows.id.get(parent)).cloned(),
                depth: *rows.depth.get(at)?,
                service: self.services.get(*rows.service.get(at)?)?.clone(),
                operation: self.operations.get(*rows.operation.get(at)?)?.clone(),
                kind: KINDS
                    .get(usize::from(*rows.kind.get(at)?))
                    .copied()
                    .unwrap_or(KINDS[0]),
                start_us: self.t0.saturating_add(*rows.start.get(at)?),
                duration_us: *rows.duration.get(at)?,
                self_us: *rows.self_time.get(at)?,
                critical_us: 0,
                error: flags & ERROR != 0,
                parent_missing: flags & PARENT_MISSING != 0,
                critical: Vec::new(),
            });
        }
        for &[row, start, end] in &self.critical {
            let span = spans.get_mut(usize::try_from(row).ok()?)?;
            span.critical_us += end.saturating_sub(start);
            span.critical.push((start, end));
        }
        Some(TraceOut {
            trace_id: self.trace_id.clone(),
            start_us: self.t0,
            duration_us: self.duration_us,
            spans,
        })
    }
}

impl SpanOut {
    pub(super) const CSV_HEAD: [&'static str; 13] = [
        "traceId",
        "spanId",
        "parentSpanId",
        "depth",
        "service",
        "operation",
        "kind",
        "startUs",
        "durationUs",
        "selfUs",
        "criticalUs",
        "error",
        "parentMissing",
    ];

    pub(super) fn csv(&self) -> [String; 13] {
        [
            self.trace_id.clone(),
            self.span_id.clone(),
            self.parent_span_id.clone().unwrap_or_default(),
            self.depth.to_string(),
            self.service.clone(),
            self.operation.clone(),
            self.kind.to_owned(),
            self.start_us.to_string(),
            self.duration_us.to_string(),
            self.self_us.to_string(),
            self.critical_us.to_string(),
            self.error.to_string(),
            self.parent_missing.to_string(),
        ]
    }
}
