use std::collections::HashMap;

use periplus_insight::{Row, Trace, critical_path};
use periplus_model::{SpanId, TraceId};
use serde::{Serialize, Serializer};

use super::unit::{micros, micros_between};

/// The version of the shape.
const VERSION: u8 = 1;

/// More events are not told of: who wants them asks for the details of the rows.
const MOST_EVENTS: usize = 10_000;
/// What Zipkin's annotations of a span's own begin and end are called: no news to a waterfall.
const BEGIN_AND_END: [&str; 4] = ["cs", "cr", "sr", "ss"];

/// Everything that the waterfall draws, in columns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Skeleton<'a> {
    v: u8,
    trace_id: String,
    revision: String,
    t0: u64,
    duration_us: u64,
    services: Vec<&'a str>,
    operations: Vec<&'a str>,
    rows: Columns,
    critical: Vec<[u64; 3]>,
    events: Vec<[u64; 2]>,
    missing: Vec<HexSpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<&'static str>,
    warnings: Vec<Warning<'a>>,
}

#[derive(Debug, Serialize)]
struct Columns {
    id: Vec<HexSpanId>,
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

#[derive(Debug, Serialize)]
struct Warning<'a> {
    row: usize,
    text: &'a str,
}

/// 16 hex digits, written without a temporary.
#[derive(Clone, Copy, Debug)]
struct HexSpanId(SpanId);

impl Skeleton<'_> {
    /// With the reason why spans may be missing, if they may.
    pub(super) fn partial(mut self, reason: Option<&'static str>) -> Self {
        self.partial = reason;
        self
    }
}

impl Serialize for HexSpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex = self.0.to_hex();
        serializer.serialize_str(std::str::from_utf8(&hex).unwrap_or_default())
    }
}

/// Texts that occur often, each kept once.
#[derive(Default)]
struct Dictionary<'a> {
    texts: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
}

impl<'a> Dictionary<'a> {
    fn index_of(&mut self, text: &'a str) -> usize {
        *self.index.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }
}

pub(super) fn skeleton(id: TraceId, trace: &Trace) -> Skeleton<'_> {
    let rows = &trace.rows;
    let zero = trace.start_unix_nano;
    let since_start = |unix_nano: u64| micros_between(zero, unix_nano);
    let mut services = Dictionary::default();
    let mut operations = Dictionary::default();
    // A group's service is the same for all of its rows.
    let mut service_of_group: Vec<Option<usize>> = vec![None; trace.groups.len()];
    let mut service_of = |row: &Row| {
        *service_of_group[row.group].get_or_insert_with(|| services.index_of(trace.service(row)))
    };
    let columns = Columns {
        id: column(rows, |row| HexSpanId(trace.span(row).span_id)),
        depth: column(rows, |row| row.depth),
        parent: column(rows, |row| row.parent.map_or(-1, |parent| parent as i64)),
        service: column(rows, &mut service_of),
        operation: column(rows, |row| operations.index_of(&trace.span(row).name)),
        kind: column(rows, |row| trace.span(row).kind as u8),
        start: column(rows, |row| since_start(row.start_unix_nano)),
        duration: column(rows, |row| {
            micros_between(row.start_unix_nano, row.end_unix_nano())
        }),
        self_time: column(rows, |row| row.self_nano / 1_000),
        flags: column(rows, |row| row.flags.bits()),
    };
    Skeleton {
        v: VERSION,
        trace_id: id.to_string(),
        revision: revision(trace),
        t0: micros(zero),
        duration_us: micros_between(zero, trace.end_unix_nano),
        services: services.texts,
        operations: operations.texts,
        rows: columns,
        critical: critical_path(trace)
            .iter()
            .map(|segment| {
                [
                    segment.row as u64,
                    since_start(segment.start_unix_nano),
                    since_start(segment.end_unix_nano),
                ]
            })
            .filter(|[_, start, end]| start < end)
            .collect(),
        events: rows
            .iter()
            .enumerate()
            .flat_map(|(index, row)| {
                let events = trace.span(row).events.iter();
                events
                    .filter(|event| !BEGIN_AND_END.contains(&event.name.as_str()))
                    .map(move |event| {
                        let time = event.time_unix_nano.saturating_add_signed(row.skew_nano);
                        [index as u64, since_start(time)]
                    })
            })
            .take(MOST_EVENTS)
            .collect(),
        partial: None,
        missing: trace.missing.iter().copied().map(HexSpanId).collect(),
        warnings: rows
            .iter()
            .enumerate()
            .flat_map(|(index, row)| {
                row.warnings
                    .iter()
                    .map(move |text| Warning { row: index, text })
            })
            .collect(),
    }
}

/// Changes whenever rows may have moved: a trace only ever grows.
pub(super) fn revision(trace: &Trace) -> String {
    trace.rows.len().to_string()
}

fn column<T>(rows: &[Row], value: impl FnMut(&Row) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
