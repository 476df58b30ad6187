//! Which form reports have, and who gets them.

use std::time::Duration;

use periplus_wire::export::{otlp, zipkin};

use crate::snapshot::TracingProvider;
use crate::worker::Worker;

/// The time for a report where the provider gives none, as Envoy's.
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How spans are written.
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

/// Those of a provider, and the name of its kind in counters.
pub(super) fn of(provider: &TracingProvider, worker: &Worker) -> (Encoding, Target, &'static str) {
    match provider {
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
                fields: with_more(
                    match is_grpc {
                        true => concat!("te: trailers\r\n", fields!("application/grpc")),
                        false => fields!("application/x-protobuf"),
                    },
                    fields,
                ),
                timeout: *timeout,
            };
            let encoding = Encoding::Otlp {
                envelope,
                is_grpc: *is_grpc,
            };
            (encoding, target, "opentelemetry")
        }
    }
}
