//! The two ports that Istio's sidecars have for Prometheus: 15090 with the proxy's metrics, 15020 with those of
//! the application too and the state of the proxy.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::application::{ApplicationMetrics, PATIENCE};
use super::door::{Door, Peer, Turns};
use super::prometheus;
use crate::agent::Shared;

/// How long Prometheus waits for an answer, by its own word.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// What the status port has to tell.
#[derive(Debug)]
struct Status {
    shared: Arc<Shared>,
    application: ApplicationMetrics,
    turns: Turns,
    scrapes: AtomicU64,
    failures: AtomicU64,
}

/// Serves the metrics of the proxy until the task is dropped.
pub(crate) async fn serve_metrics(listener: TcpListener, shared: Arc<Shared>) {
    let pages = Router::new()
        .route("/stats/prometheus", get(prometheus))
        .with_state(Arc::clone(&shared));
    let door = Door::new(listener, &shared.refused_connections);
    if let Err(error) = axum::serve(door, pages).await {
        tracing::error!(%error, "the port of metrics is gone");
    }
}

/// Serves the state and all metrics until the task is dropped.
pub(crate) async fn serve_status(
    listener: TcpListener,
    shared: Arc<Shared>,
    application: ApplicationMetrics,
) {
    let door = Door::new(listener, &shared.refused_connections);
    let status = Status {
        turns: Turns::new(&shared.refused_pages),
        shared,
        application,
        scrapes: AtomicU64::new(0),
        failures: AtomicU64::new(0),
    };
    let pages = Router::new()
        .route("/healthz/ready", get(ready))
        .route("/stats/prometheus", get(merged))
        .route("/metrics", get(merged))
        .route("/quitquitquit", post(quit))
        .with_state(Arc::new(status))
        .into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(door, pages).await {
        tracing::error!(%error, "the status port is gone");
    }
}

async fn ready(State(status): State<Arc<Status>>) -> StatusCode {
    super::ready(State(Arc::clone(&status.shared))).await.0
}

/// Only whoever is on this machine may end the proxy.
async fn quit(
    State(status): State<Arc<Status>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
) -> (StatusCode, &'static str) {
    if !peer.ip().to_canonical().is_loopback() {
        return (
            StatusCode::FORBIDDEN,
            "only requests from localhost are allowed\n",
        );
    }
    status.shared.quit();
    (StatusCode::OK, "OK\n")
}

/// The proxy's metrics are answered whether or not the application's can be had; those that cannot are counted.
async fn merged(
    State(status): State<Arc<Status>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let patience = headers
        .get(SCRAPE_TIMEOUT)
        .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let turn = match status.turns.wait().await {
        Ok(turn) => turn,
        Err(refused) => return refused.into_response(),
    };
    let applications = status
        .application
        .scrape(patience.unwrap_or(PATIENCE))
        .await;
    let mut of_applications = String::new();
    for scraped in applications {
        match scraped {
            Ok(text) => of_applications.push_str(&text),
            Err((target, error)) => {
                status.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(target, %error, "no metrics of the application");
            }
        }
    }
    turn.page(move || {
        let mut text = super::prometheus_text(&status.shared, &query)?;
        status.push_own(&mut text);
        text.push_str(&of_applications);
        Ok(text)
    })
    .await
}

impl Status {
    /// Appends what this port counts itself.
    fn push_own(&self, text: &mut String) {
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = self.failures.load(Ordering::Relaxed);
        // Writing to a `String` cannot fail.
        let _ = write!(
            text,
            "# TYPE istio_agent_scrapes_total counter\n\
         istio_agent_scrapes_total {scrapes}\n\
         # TYPE istio_agent_scrape_failures_total counter\n\
         istio_agent_scrape_failures_total{{type=\"application\"}} {failures}\n"
        );
    }
}
