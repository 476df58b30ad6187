//! What a request on each port needs: the ports' part of what `docs/access.md` says.

use std::sync::Arc;

use http::Method;
use periplus_collect::access::{Need, Needs, Scope};

use super::backend::Service;

/// What requests to this service need; `base_path` is the one of the UI, empty at the root.
pub(super) fn of(service: Service, base_path: &str) -> Needs {
    let base_path = base_path.to_owned();
    Arc::new(move |method, path| need(service, &base_path, method, path))
}

fn need(service: Service, base_path: &str, method: &Method, path: &str) -> Need {
    match service {
        Service::Ui => {
            let below = path.strip_prefix(base_path);
            let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
            page_or_query(method, below.unwrap_or(path))
        }
        Service::Zipkin => page_or_query(method, path),
        Service::QueryGrpc if path.starts_with("/grpc.health.v1.Health/") => Need::Nothing,
        Service::QueryGrpc if path.ends_with("/ArchiveTrace") => Need::Scope(Scope::Write),
        Service::QueryGrpc => Need::Scope(Scope::Read),
        Service::JaegerGrpc if path.starts_with("/jaeger.api_v2.SamplingManager/") => Need::Token,
        Service::JaegerHttp if path == SAMPLING => Need::Token,
        Service::OtlpGrpc | Service::OtlpHttp | Service::JaegerGrpc | Service::JaegerHttp => {
            Need::Scope(Scope::Write)
        }
    }
}

const SAMPLING: &str = "/api/sampling";

/// What `GET` is answered with the same for all: the UI's files, redirects to them, and health.
const PAGES: [&str; 12] = [
    "",
    "/",
    "/search",
    "/favicon.svg",
    "/favicon.ico",
    "/zipkin",
    "/zipkin/",
    "/health",
    "/actuator/health",
    "/info",
    "/actuator/info",
    "/api/periplus/v1/openapi.json",
];

/// Questions that are too long for an address, and so are sent with `POST`.
const LONG_QUESTIONS: [&str; 2] = ["/api/transform", "/api/periplus/v1/sampling/dry-run"];

fn page_or_query(method: &Method, path: &str) -> Need {
    let is_trace_page = (path.strip_prefix("/trace/")).is_some_and(|id| !id.contains('/'));
    let is_page = PAGES.contains(&path) || path.starts_with("/assets/") || is_trace_page;
    match *method {
        Method::GET | Method::HEAD if path == SAMPLING => Need::Token,
        Method::GET | Method::HEAD if is_page => Need::Nothing,
        Method::GET | Method::HEAD => Need::Scope(Scope::Read),
        _ if LONG_QUESTIONS.contains(&path) => Need::Scope(Scope::Read),
        _ => Need::Scope(Scope::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Need = Need::Scope(Scope::Read);
    const WRITE: Need = Need::Scope(Scope::Write);

    #[test]
    fn each_path_needs_its_scope() {
        for (service, method, path, expected) in [
            (Service::Ui, Method::GET, "/", Need::Nothing),
            (Service::Ui, Method::GET, "/jaeger", Need::Nothing),
            (Service::Ui, Method::GET, "/jaeger/trace/1", Need::Nothing),
            (Service::Ui, Method::HEAD, "/assets/1/app.js", Need::Nothing),
            (Service::Ui, Method::GET, "/api/services", READ),
            (Service::Ui, Method::GET, "/jaeger/api/services", READ),
            (Service::Ui, Method::GET, "/jaegerx/trace/1", READ),
            (Service::Ui, Method::GET, "/trace/1/api", READ),
            (Service::Ui, Method::GET, "/zipkin/api/v2/traces", READ),
            (Service::Ui, Method::GET, "/api/sampling", Need::Token),
            (Service::Ui, Method::POST, "/api/archive/1", WRITE),
            (Service::Ui, Method::POST, "/jaeger/api/archive/1", WRITE),
            (Service::Ui, Method::POST, "/api/transform", READ),
            (Service::Ui, Method::DELETE, "/", WRITE),
            (Service::Zipkin, Method::POST, "/api/v2/spans", WRITE),
            (Service::Zipkin, Method::GET, "/api/v2/spans", READ),
            (Service::Zipkin, Method::GET, "/prometheus", READ),
            (Service::Zipkin, Method::GET, "/health", Need::Nothing),
            (
                Service::Zipkin,
                Method::POST,
                "/zipkin.proto3.SpanService/Report",
                WRITE,
            ),
            (Service::OtlpHttp, Method::POST, "/v1/traces", WRITE),
            (Service::OtlpHttp, Method::GET, "/", WRITE),
            (
                Service::JaegerHttp,
                Method::GET,
                "/api/sampling",
                Need::Token,
            ),
            (Service::JaegerHttp, Method::POST, "/api/traces", WRITE),
            (
                Service::JaegerGrpc,
                Method::POST,
                "/jaeger.api_v2.SamplingManager/GetSamplingStrategy",
                Need::Token,
            ),
            (
                Service::QueryGrpc,
                Method::POST,
                "/jaeger.api_v2.QueryService/ArchiveTrace",
                WRITE,
            ),
            (
                Service::QueryGrpc,
                Method::POST,
                "/jaeger.api_v3.QueryService/GetTrace",
                READ,
            ),
            (
                Service::QueryGrpc,
                Method::POST,
                "/grpc.health.v1.Health/Check",
                Need::Nothing,
            ),
        ] {
            let found = need(service, "/jaeger", &method, path);
            assert_eq!(found, expected, "{service:?} {method} {path}");
        }
    }
}
