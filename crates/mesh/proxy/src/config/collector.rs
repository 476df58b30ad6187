//! Whom the proxy reports to: spans, and records of access logs.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{GrpcService, HttpService};

use super::check::{At, Refused, nothing_else};
use super::edits;
use super::services::{self, Service};

pub(super) const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// A collector, and how it is reported to.
pub(super) struct Collector {
    pub(super) cluster: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) timeout: Duration,
    pub(super) is_grpc: bool,
    /// The lines of the fields that each report has besides.
    pub(super) fields: Vec<u8>,
}

impl Collector {
    /// One of OTLP: of `http_service` or `grpc_service`, of which `method` is called.
    pub(super) fn compile(
        services: (Option<HttpService>, Option<GrpcService>),
        method: &str,
        at: &At<'_>,
    ) -> Result<Self, Refused> {
        match services {
            (Some(service), None) => Self::of_http(service, &at.field("http_service")),
            (None, Some(service)) => Self::of_grpc(service, method, &at.field("grpc_service")),
            (Some(_), Some(_)) => {
                Err(at.refuse("http_service and grpc_service exclude each other"))
            }
            (None, None) => Err(at.refuse("http_service or grpc_service must be given")),
        }
    }

    pub(super) fn of_http(mut service: HttpService, at: &At<'_>) -> Result<Self, Refused> {
        let uri = service.http_uri.take().unwrap_or_default();
        let added = std::mem::take(&mut service.request_headers_to_add);
        nothing_else(&service, at)?;
        let (mut service, path) = services::http(uri, &at.field("http_uri"))?;
        let at = at.field("request_headers_to_add");
        for (index, mut option) in added.into_iter().enumerate() {
            let at = &at.index(index);
            let header = option.header.take().unwrap_or_default();
            // There is nothing yet that it could be added to.
            option.append_action = 0;
            option.keep_empty_value = false;
            nothing_else(&option, at)?;
            let at = &at.field("header");
            check_field(&header.key, at)?;
            services::append_fixed(header, &mut service.fields, at)?;
        }
        Ok(Self::new(service, path, false))
    }

    fn of_grpc(service: GrpcService, method: &str, at: &At<'_>) -> Result<Self, Refused> {
        let at_fields = at.field("initial_metadata");
        for (index, field) in service.initial_metadata.iter().enumerate() {
            check_field(&field.key, &at_fields.index(index))?;
        }
        let service = services::grpc(service, at)?;
        Ok(Self::new(service, method.to_owned(), true))
    }

    fn new(service: Service, path: String, is_grpc: bool) -> Self {
        Self {
            timeout: service
                .timeout
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(DEFAULT_EXPORT_TIMEOUT),
            cluster: service.cluster,
            host: service.host,
            path,
            is_grpc,
            fields: service.fields,
        }
    }
}

/// What a report says of itself is not for anybody else to say.
fn check_field(name: &str, at: &At<'_>) -> Result<(), Refused> {
    let name = edits::name(name, &at.field("key"))?;
    match name.as_str() {
        "content-type" | "user-agent" | "date" | "expect" => Err(at
            .field("key")
            .refuse(format!("{name:?} must not be changed"))),
        _ => Ok(()),
    }
}
