use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use periplus_store::embedded::EmbeddedStore;
use serde::Serialize;

use crate::commands::instant;

/// The stores that are open.
pub(super) type Stores = Arc<dyn Fn() -> Vec<Arc<EmbeddedStore>> + Send + Sync>;

/// When the server became healthy, and what may have changed that.
#[derive(Clone)]
struct Since {
    instant: Instant,
    text: String,
    stores: Stores,
}

/// Jaeger v1's answer on its admin port, at both places where probes look: `/` (v1) and `/status`
/// (v2). 503 with the reason when a store takes no more spans until a restart.
pub(super) fn router(stores: Stores) -> Router {
    let since = Since {
        instant: Instant::now(),
        text: instant::rfc3339(instant::now_us()),
        stores,
    };
    Router::new()
        .route("/", get(health))
        .route("/status", get(health))
        .with_state(since)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    up_since: String,
    uptime: String,
}

async fn health(State(since): State<Since>) -> Response {
    let failure = (since.stores)()
        .iter()
        .find_map(|store| store.health().err());
    let (code, status) = match failure {
        None => (StatusCode::OK, "Server available"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "Server not available"),
    };
    let body = Json(Health {
        status,
        reason: failure.map(|error| {
            let error = anyhow::Error::from(error);
            format!("no spans are taken until a restart: {error:#}")
        }),
        up_since: since.text.clone(),
        uptime: format!("{:.3}s", since.instant.elapsed().as_secs_f64()),
    });
    (code, body).into_response()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use periplus_model::{Batch, Resource, Scope, Span, SpanGroup};
    use periplus_store::SpanSink as _;
    use periplus_store::embedded::Options;
    use periplus_store::embedded::disk::{Fault, SimulatedDisk};

    use super::*;

    #[tokio::test]
    async fn a_store_that_takes_nothing_makes_the_server_unhealthy() {
        let disk = SimulatedDisk::new();
        let options = Options {
            background: false,
            log_file_bytes: 1 << 16,
            ..Options::default()
        };
        let opened = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options);
        let store = Arc::new(opened.expect("an empty store"));
        let stores = vec![Arc::clone(&store)];
        let since = Since {
            instant: Instant::now(),
            text: String::new(),
            stores: Arc::new(move || stores.clone()),
        };
        let answer = health(State(since.clone())).await;
        assert_eq!(answer.status(), StatusCode::OK);
        disk.plan(Fault::FailedSync(disk.operations()));
        let span = SpanGroup {
            resource: Resource::of_service("s").into(),
            scope: Scope::default().into(),
            spans: vec![Span::default()],
        };
        let refused = store.append(Batch { groups: vec![span] }).await;
        assert!(refused.is_err());
        let answer = health(State(since)).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await;
        let body = String::from_utf8(body.expect("a body").to_vec()).expect("text");
        assert!(body.contains("Server not available"), "{body}");
        assert!(
            body.contains("no spans are taken until a restart"),
            "{body}"
        );
    }
}
