//! Zipkin's v2 read API: paths, parameters, shapes, status codes and error texts.
//!
//! Spans are shown as Zipkin's server keeps them: one for each that arrived, nothing merged, names in
//! lower case. What was sent in upper case is found by either.

mod answer;
mod dependencies;
mod names;
mod pages;
mod request;
mod search;
mod status;
mod traces;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, get};

use crate::api::Api;
use crate::guard::long_queries;

/// What the Zipkin server reads from its environment.
#[derive(Clone, Debug)]
pub struct ZipkinOptions {
    /// How far a search looks back that does not say it, in milliseconds (`QUERY_LOOKBACK`).
    pub lookback_ms: u64,
    /// The tags that the UI offers as search criteria (`AUTOCOMPLETE_KEYS`).
    pub autocomplete_keys: Vec<String>,
}

impl Default for ZipkinOptions {
    fn default() -> Self {
        Self {
            lookback_ms: 86_400_000,
            autocomplete_keys: Vec::new(),
        }
    }
}

/// What every handler works with.
#[derive(Clone)]
struct Zipkin {
    api: Api,
    options: Arc<ZipkinOptions>,
    /// How many services there were when they were last asked for: Zipkin lets lists of names be
    /// cached from the fourth on.
    services: Arc<AtomicUsize>,
}

impl Zipkin {
    fn may_cache_names(&self) -> bool {
        self.services.load(Ordering::Relaxed) > answer::UNCACHED_NAMES
    }
}

/// Below `/zipkin`: the API, and pages that lead to ours. What the UI's port has of Zipkin.
pub(crate) fn below_zipkin(api: Api, options: Arc<ZipkinOptions>) -> Router {
    let zipkin = Zipkin {
        api,
        options,
        services: Arc::default(),
    };
    Router::new()
        .nest("/zipkin", queries().merge(pages::routes()))
        .route("/zipkin", get(pages::to_zipkin))
        .route("/zipkin/", get(pages::search))
        .with_state(zipkin)
}

/// What Zipkin's port has besides [`below_zipkin`], spans and the metrics of their receiver.
pub(crate) fn port(api: Api, options: Arc<ZipkinOptions>) -> Router {
    let zipkin = Zipkin {
        api,
        options,
        services: Arc::default(),
    };
    queries()
        .merge(status::routes())
        .route("/", get(pages::to_zipkin))
        .route("/favicon.ico", get(pages::to_favicon))
        .with_state(zipkin)
}

fn queries() -> Router<Zipkin> {
    Router::new()
        .route("/api/v2/services", get(names::services))
        .route("/api/v2/spans", get(names::spans))
        .route("/api/v2/remoteServices", get(names::remote_services))
        .route("/api/v2/autocompleteKeys", get(names::autocomplete_keys))
        .route(
            "/api/v2/autocompleteValues",
            get(names::autocomplete_values),
        )
        .route("/api/v2/traces", get(traces::search))
        .route("/api/v2/trace/", get(traces::one))
        .route("/api/v2/trace/{id}", get(traces::one))
        .route("/api/v2/traceMany", get(traces::many))
        .route("/api/v2/dependencies", get(dependencies::links))
        .route("/api/v2/{*path}", any(status::unknown))
        .layer(from_fn(|request, next| {
            long_queries(answer::Failure::new, request, next)
        }))
}
