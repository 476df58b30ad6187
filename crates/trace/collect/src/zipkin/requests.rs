//! How often which of Zipkin's paths was asked, and how long the answers took.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{self, State};
use axum::middleware::Next;
use axum::response::Response;

/// The paths that are counted, with the name of what varies in them.
const PATHS: [&str; 10] = [
    "/api/v1/spans",
    "/api/v2/autocompleteKeys",
    "/api/v2/autocompleteValues",
    "/api/v2/dependencies",
    "/api/v2/remoteServices",
    "/api/v2/services",
    "/api/v2/spans",
    "/api/v2/traceMany",
    "/api/v2/traces",
    TRACE,
];

const TRACE: &str = "/api/v2/trace/{traceId}";

/// What is told apart: methods and paths are those of a list, and a handler has few statuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) uri: &'static str,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

/// The answers to such requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answered {
    pub(super) count: u64,
    pub(super) time: Duration,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    counts: Arc<Mutex<BTreeMap<Request, Answered>>>,
}

impl Requests {
    fn add(&self, request: Request, time: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = counts.entry(request).or_default();
        answered.count += 1;
        answered.time += time;
    }

    pub(super) fn snapshot(&self) -> BTreeMap<Request, Answered> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}

/// Counts the requests of Zipkin's API; others pass.
pub(super) async fn count(
    State(requests): State<Requests>,
    request: extract::Request,
    next: Next,
) -> Response {
    let uri = template(request.uri().path());
    let method = match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        _ => "other",
    };
    let since = Instant::now();
    let response = next.run(request).await;
    if let Some(uri) = uri {
        let status = response.status().as_u16();
        let request = Request {
            uri,
            method,
            status,
        };
        requests.add(request, since.elapsed());
    }
    response
}

fn template(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/zipkin").unwrap_or(path);
    match path.strip_prefix("/api/v2/trace/") {
        Some(id) => (!id.contains('/')).then_some(TRACE),
        None => PATHS.into_iter().find(|known| *known == path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zipkins_own_paths_are_told_apart() {
        for (path, expected) in [
            ("/api/v2/trace/1", Some(TRACE)),
            ("/zipkin/api/v2/trace/x", Some(TRACE)),
            ("/api/v2/trace/1/2", None),
            ("/zipkin/api/v2/services", Some("/api/v2/services")),
            ("/api/v1/spans", Some("/api/v1/spans")),
            ("/api/v2/trace", None),
            ("/health", None),
            ("/", None),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }
}
