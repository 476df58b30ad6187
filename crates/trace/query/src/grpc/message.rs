//! The messages of both services that are not OTLP's or Jaeger's spans.

use std::collections::BTreeMap;

use crate::v3::{Call, TraceSummary};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Timestamp {
    /// A time before the epoch is the epoch.
    pub(super) fn unix_nano(self) -> u64 {
        let nano = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        u64::try_from(nano.max(0)).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Duration {
    pub(super) fn nano(self) -> i64 {
        (self.seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(self.nanos.into())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// `api_v2.GetTraceRequest`, and `ArchiveTraceRequest`, which has no `raw_traces`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetTraceRequestV2 {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(super) raw_traces: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetTraceRequest {
    #[prost(string, tag = "1")]
    pub(super) trace_id: String,
    #[prost(bool, tag = "4")]
    pub(super) raw_traces: bool,
}

/// `FindTracesRequest` and `FindTraceSummariesRequest` of both versions.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FindTracesRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) query: Option<TraceQueryParameters>,
}

/// Of both versions: `api_v2` has no filter, and calls the attributes tags.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TraceQueryParameters {
    #[prost(string, tag = "1")]
    pub(super) service_name: String,
    #[prost(string, tag = "2")]
    pub(super) operation_name: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) attributes: BTreeMap<String, String>,
    #[prost(message, optional, tag = "4")]
    pub(super) start_time_min: Option<Timestamp>,
    #[prost(message, optional, tag = "5")]
    pub(super) start_time_max: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub(super) duration_min: Option<Duration>,
    #[prost(message, optional, tag = "7")]
    pub(super) duration_max: Option<Duration>,
    #[prost(int32, tag = "8")]
    pub(super) search_depth: i32,
    #[prost(bool, tag = "9")]
    pub(super) raw_traces: bool,
    #[prost(message, optional, tag = "10")]
    pub(super) filter: Option<Call>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetServicesResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) services: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetOperationsRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) span_kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Operation {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) span_kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetOperationsResponseV2 {
    /// Deprecated, but read.
    #[prost(string, repeated, tag = "1")]
    pub(super) operation_names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetOperationsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetDependenciesRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    pub(super) end_time: Option<Timestamp>,
}

/// `api_v2.DependencyLink`, whose `source` is never said here, and `api_v3.Dependency`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dependency {
    #[prost(string, tag = "1")]
    pub(super) parent: String,
    #[prost(string, tag = "2")]
    pub(super) child: String,
    #[prost(uint64, tag = "3")]
    pub(super) call_count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DependenciesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FindTraceSummariesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) summaries: Vec<TraceSummary>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}
