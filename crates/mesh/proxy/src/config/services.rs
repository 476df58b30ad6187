//! `GrpcService` and `HttpUri`: whom the proxy itself asks or tells something.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{GrpcService, HeaderValue, HttpUri};

use super::check::{At, Refused, duration, nothing_else};
use crate::http1::edit::append_field;

/// A service: its cluster, the host that it is asked as, and how long it has.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) cluster: String,
    pub(super) host: String,
    /// None if it is not given; zero means none too.
    pub(super) timeout: Option<Duration>,
    /// The lines of more fields.
    pub(super) fields: Vec<u8>,
}

/// A service of gRPC.
pub(super) fn grpc(mut service: GrpcService, at: &At<'_>) -> Result<Service, Refused> {
    let timeout = duration(service.timeout.take(), &at.field("timeout"))?;
    let at_fields = &at.field("initial_metadata");
    let mut fields = Vec::new();
    for (index, field) in std::mem::take(&mut service.initial_metadata)
        .into_iter()
        .enumerate()
    {
        append_fixed(field, &mut fields, &at_fields.index(index))?;
    }
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier.take() else {
        return Err(at.refuse("only envoy_grpc is supported"));
    };
    nothing_else(&service, at)?;
    let at = &at.field("envoy_grpc");
    let EnvoyGrpc {
        cluster_name: cluster,
        authority,
        ..
    } = target.clone();
    if cluster.is_empty() {
        return Err(at.field("cluster_name").refuse("it must not be empty"));
    }
    let rest = EnvoyGrpc {
        cluster_name: String::new(),
        authority: String::new(),
        ..target
    };
    nothing_else(&rest, at)?;
    let host = if authority.is_empty() {
        // `|` is none of a host's characters.
        cluster.replace('|', "_.")
    } else {
        authority
    };
    if http::uri::Authority::try_from(host.as_str()).is_err() {
        return Err(at.field("authority").refuse(format!("{host:?} is no host")));
    }
    Ok(Service {
        cluster,
        host,
        timeout,
        fields,
    })
}

/// A service of HTTP, and the path of its URI.
pub(super) fn http(mut uri: HttpUri, at: &At<'_>) -> Result<(Service, String), Refused> {
    let cluster = match uri.http_upstream_type.take() {
        Some(HttpUpstreamType::Cluster(cluster)) if !cluster.is_empty() => cluster,
        _ => return Err(at.field("cluster").refuse("it must not be empty")),
    };
    let text = std::mem::take(&mut uri.uri);
    let (host, path) = split_uri(&text, &cluster).ok_or_else(|| {
        at.field("uri")
            .refuse(format!("{text:?} is not a plain http URI or a path"))
    })?;
    let timeout = duration(uri.timeout.take(), &at.field("timeout"))?;
    nothing_else(&uri, at)?;
    let service = Service {
        cluster,
        host,
        timeout,
        fields: Vec::new(),
    };
    Ok((service, path))
}

/// Appends the line of a field whose value has no commands in it.
pub(super) fn append_fixed(
    field: HeaderValue,
    lines: &mut Vec<u8>,
    at: &At<'_>,
) -> Result<(), Refused> {
    let HeaderValue {
        key,
        value,
        raw_value,
    } = field;
    let name = key.to_ascii_lowercase();
    if http::HeaderName::try_from(name.as_str()).is_err() {
        return Err(at.field("key").refuse(format!("{key:?} is no name")));
    }
    if value.contains('%') {
        return Err(at.field("value").refuse("formats are not supported here"));
    }
    let value = if raw_value.is_empty() {
        value.into_bytes()
    } else {
        raw_value
    };
    if http::HeaderValue::from_bytes(&value).is_err() {
        return Err(at.field("value").refuse("it has control characters"));
    }
    append_field(lines, &name, &value);
    Ok(())
}

/// Host and path of `http://HOST/PATH`, `HOST/PATH` or `/PATH`; the cluster stands in for a missing host.
fn split_uri(uri: &str, cluster: &str) -> Option<(String, String)> {
    let rest = uri.strip_prefix("http://").unwrap_or(uri);
    if rest.is_empty() || rest.contains("://") {
        return None;
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = if host.is_empty() { cluster } else { host };
    let path = if path.is_empty() { "/" } else { path };
    Some((host.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collector_uris() {
        let split = |uri| split_uri(uri, "c").map(|(host, path)| format!("{host} {path}"));
        let cases = [
            (
                "http://zipkin:9411/api/v2/spans",
                Some("zipkin:9411 /api/v2/spans"),
            ),
            (
                "zipkin:9411/api/v2/spans",
                Some("zipkin:9411 /api/v2/spans"),
            ),
            ("/api/v2/spans", Some("c /api/v2/spans")),
            ("http://zipkin", Some("zipkin /")),
            ("https://zipkin/x", None),
            ("", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(split(uri).as_deref(), expected, "{uri}");
        }
    }
}
