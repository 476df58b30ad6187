use std::collections::BTreeMap;

use periplus_insight::{Flags, Trace};
use periplus_store::StoredTrace;
use serde::{Serialize, Serializer};

/// What a list of results shows of a trace (`jaeger.api_v3.TraceSummary`).
#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceSummary {
    #[prost(string, tag = "1")]
    pub(crate) trace_id: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) root_service_name: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) root_operation_name: String,
    #[prost(fixed64, tag = "4")]
    #[serde(serialize_with = "as_text", skip_serializing_if = "is_zero")]
    pub(crate) min_start_time_unix_nano: u64,
    #[prost(fixed64, tag = "5")]
    #[serde(serialize_with = "as_text", skip_serializing_if = "is_zero")]
    pub(crate) max_end_time_unix_nano: u64,
    #[prost(int32, tag = "6")]
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) span_count: i32,
    #[prost(int32, tag = "7")]
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) error_span_count: i32,
    #[prost(int32, tag = "8")]
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) orphan_span_count: i32,
    #[prost(message, repeated, tag = "9")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<ServiceSummary>,
}

/// A service's part in a trace.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceSummary {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) span_count: i32,
    #[prost(int32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) error_span_count: i32,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Protobuf's JSON writes 64-bit integers as texts.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Sums a trace up. Spans count as they were stored, copies too; times are those of the spans, not
/// of adjusted clocks.
pub(crate) fn summary(stored: &StoredTrace) -> TraceSummary {
    let trace = Trace::assemble(&stored.groups);
    let mut services: BTreeMap<&str, ServiceSummary> = BTreeMap::new();
    let mut summary = TraceSummary {
        trace_id: stored.id.to_string(),
        ..TraceSummary::default()
    };
    for row in &trace.rows {
        let failed = i32::from(row.flags.contains(Flags::ERROR));
        summary.span_count += 1;
        summary.error_span_count += failed;
        summary.orphan_span_count += i32::from(row.flags.contains(Flags::PARENT_MISSING));
        let service = services.entry(trace.service(row)).or_default();
        service.span_count += 1;
        service.error_span_count += failed;
    }
    if let Some(root) = trace.root.map(|root| &trace.rows[root])
        && !root.flags.contains(Flags::PARENT_MISSING)
    {
        trace
            .service(root)
            .clone_into(&mut summary.root_service_name);
        (trace.span(root).name).clone_into(&mut summary.root_operation_name);
    }
    let spans = || stored.groups.iter().flat_map(|group| &group.spans);
    let starts = spans().map(|span| span.start_unix_nano);
    summary.min_start_time_unix_nano = starts.min().unwrap_or(0);
    let ends = spans().map(|span| span.end_unix_nano.max(span.start_unix_nano));
    summary.max_end_time_unix_nano = ends.max().unwrap_or(0);
    summary.services = services
        .into_iter()
        .map(|(name, service)| ServiceSummary {
            name: name.to_owned(),
            ..service
        })
        .collect();
    summary
}
