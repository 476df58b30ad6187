//! Jaeger's JSON model (`internal/uimodel`), borrowed from the spans that it shows.

use std::borrow::Cow;
use std::fmt::{self, Display};

use periplus_model::{SpanId, TraceId};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A trace.
#[derive(Debug, Serialize)]
pub(super) struct Trace<'a> {
    #[serde(rename = "traceID")]
    pub(super) trace_id: ShortTraceId,
    pub(super) spans: Vec<Span<'a>>,
    pub(super) processes: Processes<'a>,
    pub(super) warnings: Option<Vec<String>>,
}

/// A span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span<'a> {
    #[serde(rename = "traceID")]
    pub(super) trace_id: ShortTraceId,
    #[serde(rename = "spanID")]
    pub(super) span_id: HexSpanId,
    pub(super) operation_name: &'a str,
    pub(super) references: Vec<Reference>,
    /// Microseconds since the Unix epoch.
    pub(super) start_time: u64,
    /// Microseconds.
    pub(super) duration: u64,
    pub(super) tags: Vec<KeyValue<'a>>,
    pub(super) logs: Vec<Log<'a>>,
    #[serde(rename = "processID")]
    pub(super) process_id: ProcessId,
    pub(super) warnings: Option<&'a [String]>,
}

/// A relation to another span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) ref_type: &'static str,
    #[serde(rename = "traceID")]
    pub(super) trace_id: ShortTraceId,
    #[serde(rename = "spanID")]
    pub(super) span_id: HexSpanId,
}

/// An event.
#[derive(Debug, Serialize)]
pub(super) struct Log<'a> {
    /// Microseconds since the Unix epoch.
    pub(super) timestamp: u64,
    pub(super) fields: Vec<KeyValue<'a>>,
}

/// A typed tag.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct KeyValue<'a> {
    pub(super) key: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) value: JsonValue<'a>,
}

/// The JSON value of a tag.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum JsonValue<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
}

/// Who made spans.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process<'a> {
    pub(super) service_name: &'a str,
    pub(super) tags: Vec<KeyValue<'a>>,
}

/// A trace's processes: an object from `p1` on.
#[derive(Debug)]
pub(super) struct Processes<'a>(pub(super) Vec<Process<'a>>);

impl Serialize for Processes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (index, process) in self.0.iter().enumerate() {
            map.serialize_entry(&ProcessId(index), process)?;
        }
        map.end()
    }
}

/// `p1` for the first process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessId(pub(super) usize);

/// 16 hex digits if the high half is zero, else 32.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortTraceId(pub(super) TraceId);

/// 16 hex digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct HexSpanId(pub(super) SpanId);

impl Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0 + 1)
    }
}

impl Display for ShortTraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_64_bit() {
            write!(f, "{:016x}", self.0.low())
        } else {
            self.0.fmt(f)
        }
    }
}

impl Serialize for ProcessId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ShortTraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for HexSpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex = self.0.to_hex();
        serializer.serialize_str(std::str::from_utf8(&hex).unwrap_or_default())
    }
}

/// A link of the dependency graph.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DependencyLink {
    pub(super) parent: String,
    pub(super) child: String,
    pub(super) call_count: u64,
}

/// An operation of a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) span_kind: &'static str,
}
