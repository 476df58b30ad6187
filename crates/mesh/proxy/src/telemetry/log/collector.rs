//! Whom records of access logs go to.

use std::time::Duration;

/// A collector of OpenTelemetry's, as a logger has it configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCollector {
    /// The cluster of `grpc_service` or `http_service`.
    pub cluster: String,
    /// The authority.
    pub host: String,
    /// The path of `http_service.http_uri`, or of the method.
    pub path: String,
    /// For one report.
    pub timeout: Duration,
    /// Over gRPC, else over HTTP.
    pub is_grpc: bool,
    /// The lines of the fields that each report has besides.
    pub fields: Vec<u8>,
    /// `log_name`: the resource has Envoy's labels, this one among them. None with `disable_builtin_labels`.
    pub log_name: Option<String>,
    /// More attributes of the resource, which replace labels of the same name: keys, and encoded values (`AnyValue`).
    pub resource: Vec<(String, Vec<u8>)>,
    /// `stat_prefix`.
    pub stat_prefix: String,
    /// `buffer_flush_interval`: how long a record waits at most.
    pub flush_after: Duration,
    /// `buffer_size_bytes`: so many bytes are sent at once.
    pub flush_bytes: usize,
}
