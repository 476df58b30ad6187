//! Which form reports have, when they are sent, and who gets them.

use std::sync::Arc;
use std::time::Duration;

use periplus_wire::export::otlp_logs::{member, text};
use periplus_wire::export::{otlp, zipkin};

use super::MOST_REPORT;
use crate::snapshot::{Node, TracingProvider};
use crate::stats::ExportStats;
use crate::telemetry::LogCollector;
use crate::worker::Worker;

/// The time for a report where the provider gives none, as Envoy's.
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);
/// When spans are sent (Envoy: 5 of them, or 5 s).
const FULL_OF_SPANS: Full = Full {
    items: 256,
    bytes: 64 * 1024,
    after: Duration::from_secs(1),
};

/// How, when and where something is reported.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) encoding: Encoding,
    pub(super) target: Target,
    pub(super) full: Full,
    pub(super) stats: Arc<ExportStats>,
}

/// When a batch is sent.
#[derive(Debug)]
pub(super) struct Full {
    /// If it has so many items,
    pub(super) items: usize,
    /// or so many bytes,
    pub(super) bytes: usize,
    /// or if its first item has waited so long.
    pub(super) after: Duration,
}

/// How spans are written; records are written as OTLP has them.
#[derive(Debug)]
pub(super) enum Encoding {
    Zipkin {
        endpoint: zipkin::LocalEndpoint,
        is_proto: bool,
    },
    Otlp {
        envelope: otlp::Envelope,
        is_grpc: bool,
    },
}

/// Who gets the reports.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) cluster: String,
    pub(super) host: String,
    pub(super) path: String,
    /// The lines of the fields of a report.
    pub(super) fields: Vec<u8>,
    pub(super) timeout: Duration,
}

fn with_more(fields: &str, more: &[u8]) -> Vec<u8> {
    [fields.as_bytes(), more].concat()
}

/// The fields of a report, which end with the content type.
macro_rules! fields {
    ($content_type:literal) => {
        concat!(
            "user-agent: periplus-proxy\r\ncontent-type: ",
            $content_type,
            "\r\n"
        )
    };
}

/// What is said to a collector of OTLP.
fn otlp_fields(is_grpc: bool, more: &[u8]) -> Vec<u8> {
    let fields = match is_grpc {
        true => concat!("te: trailers\r\n", fields!("application/grpc")),
        false => fields!("application/x-protobuf"),
    };
    with_more(fields, more)
}

/// That of the spans of a provider.
pub(super) fn of_spans(provider: &TracingProvider, worker: &Worker) -> Form {
    let (encoding, target, kind) = match provider {
        TracingProvider::Zipkin {
            cluster,
            path,
            host,
            is_proto,
            fields,
            ..
        } => (
            Encoding::Zipkin {
                endpoint: zipkin::LocalEndpoint::new(&worker.node.cluster, worker.own_address),
                is_proto: *is_proto,
            },
            Target {
                cluster: cluster.clone(),
                host: host.clone(),
                path: path.clone(),
                fields: with_more(
                    match is_proto {
                        true => fields!("application/x-protobuf"),
                        false => fields!("application/json"),
                    },
                    fields,
                ),
                timeout: ZIPKIN_TIMEOUT,
            },
            "zipkin",
        ),
        TracingProvider::OpenTelemetry {
            cluster,
            path,
            host,
            service_name,
            timeout,
            is_grpc,
            fields,
            resource,
            ..
        } => {
            let version = env!("CARGO_PKG_VERSION");
            let own = [
                ("service.name", service_name.as_str()),
                ("telemetry.sdk.language", "rust"),
                ("telemetry.sdk.name", "periplus"),
                ("telemetry.sdk.version", version),
            ];
            let is_own = |name: &str| own.iter().any(|(known, _)| *known == name);
            let found = resource.iter().filter(|(name, _)| !is_own(name));
            let found = found.map(|(name, value)| (name.as_str(), value.as_str()));
            let all: Vec<_> = own.into_iter().chain(found).collect();
            let envelope = otlp::Envelope::new(&all, "periplus", version);
            let target = Target {
                cluster: cluster.clone(),
                host: host.clone(),
                path: path.clone(),
                fields: otlp_fields(*is_grpc, fields),
                timeout: *timeout,
            };
            let encoding = Encoding::Otlp {
                envelope,
                is_grpc: *is_grpc,
            };
            (encoding, target, "opentelemetry")
        }
    };
    Form {
        encoding,
        target,
        full: FULL_OF_SPANS,
        stats: worker.registry.tracer(kind),
    }
}

/// That of the records of access logs.
pub(super) fn of_records(collector: &LogCollector, worker: &Worker) -> Form {
    Form {
        encoding: Encoding::Otlp {
            envelope: otlp::Envelope::of_resource(&resource(collector, &worker.node)),
            is_grpc: collector.is_grpc,
        },
        target: Target {
            cluster: collector.cluster.clone(),
            host: collector.host.clone(),
            path: collector.path.clone(),
            fields: otlp_fields(collector.is_grpc, &collector.fields),
            timeout: collector.timeout,
        },
        full: Full {
            items: usize::MAX,
            bytes: collector.flush_bytes.min(MOST_REPORT),
            after: collector.flush_after,
        },
        stats: worker.registry.otel_logs(&collector.stat_prefix),
    }
}

/// `Resource`: the labels that Envoy gives it unless it is not to, and over them what is configured.
fn resource(collector: &LogCollector, node: &Node) -> Vec<u8> {
    let own = collector.log_name.iter().flat_map(|name| {
        [
            ("log_name", name.as_str()),
            ("zone_name", &*node.zone),
            ("cluster_name", &*node.cluster),
            ("node_name", &*node.id),
        ]
    });
    let configured = &collector.resource;
    let is_own = |key: &str| configured.iter().all(|(other, _)| other != key);
    let mut resource = Vec::new();
    for (key, value) in own.filter(|(key, _)| is_own(key)) {
        let write = |out: &mut Vec<u8>| out.extend_from_slice(value.as_bytes());
        member(&mut resource, key, |out| text(out, write));
    }
    for (key, value) in configured {
        member(&mut resource, key, |out| out.extend_from_slice(value));
    }
    resource
}
