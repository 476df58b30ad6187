//! The admin pages, at Envoy's paths, so that what watches an Envoy can watch this proxy.

mod certificates;
mod dump;
mod metrics;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use regex::Regex;
use serde_json::json;
use tokio::net::TcpListener;

use crate::agent::Shared;
use crate::worker::Scope;

const HELP: &str = "\
GET  /ready             whether requests are served
GET  /server_info       version, state, node
GET  /listeners         the listeners that are in use
GET  /clusters          the clusters that are in use, with their endpoints
GET  /certs             the certificates that are in use, and until when
GET  /config_dump       what was accepted and refused, with versions
GET  /stats             counters and gauges; ?filter=REGEX, ?usedonly, ?format=prometheus
GET  /stats/prometheus  the same for Prometheus
POST /healthcheck/fail  be not ready, so that no new requests come
POST /healthcheck/ok    be ready again
POST /drain_listeners   close the listeners; ?graceful: let connections end first; ?inboundonly, ?skip_exit
POST /reopen_logs       open the files of access logs anew
POST /quitquitquit      drain and end
";

/// Serves the pages until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let pages = Router::new()
        .route("/", get(async || HELP))
        .route("/help", get(async || HELP))
        .route("/ready", get(ready))
        .route("/server_info", get(server_info))
        .route("/listeners", get(listeners))
        .route("/clusters", get(clusters))
        .route("/certs", get(certs))
        .route("/config_dump", get(config_dump))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(prometheus))
        .route("/healthcheck/fail", post(fail_checks))
        .route("/healthcheck/ok", post(pass_checks))
        .route("/drain_listeners", post(drain_listeners))
        .route("/quitquitquit", post(quit))
        .route("/reopen_logs", post(reopen_logs))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                format!("invalid path. admin commands are:\n{HELP}"),
            )
        })
        .with_state(shared);
    if let Err(error) = axum::serve(listener, pages).await {
        tracing::error!(%error, "the admin pages are gone");
    }
}

/// Envoy's names of the states of a server.
fn state_of(shared: &Shared) -> &'static str {
    if shared.is_draining() {
        "DRAINING"
    } else if shared.is_ready() {
        "LIVE"
    } else {
        "PRE_INITIALIZING"
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let state = state_of(&shared);
    let code = match state {
        "LIVE" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{state}\n"))
}

async fn server_info(State(shared): State<Arc<Shared>>) -> Response {
    let uptime = format!("{}s", shared.started.elapsed().as_secs());
    let node = &shared.bootstrap.node;
    Json(json!({
        "version": concat!("periplus/", env!("CARGO_PKG_VERSION")),
        "state": state_of(&shared),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": {"concurrency": shared.workers},
        "node": {"id": node.id, "cluster": node.cluster},
    }))
    .into_response()
}

async fn listeners(State(shared): State<Arc<Shared>>) -> String {
    let state = shared.state();
    let mut text = String::new();
    for (name, slot) in state.store.listeners() {
        if let Some(active) = &slot.active {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}::{}", active.built.address);
        }
    }
    text
}

async fn clusters(State(shared): State<Arc<Shared>>) -> String {
    dump::clusters_text(&shared.state())
}

async fn certs(State(shared): State<Arc<Shared>>) -> Response {
    Json(certificates::certs(&shared.state())).into_response()
}

async fn config_dump(State(shared): State<Arc<Shared>>) -> Response {
    let bind_errors = shared.bind_errors();
    Json(dump::config(
        &shared.bootstrap,
        &shared.state(),
        &bind_errors,
    ))
    .into_response()
}

async fn stats(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let filter = match query
        .get("filter")
        .map(|filter| Regex::new(filter))
        .transpose()
    {
        Ok(filter) => filter,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("invalid regex: {error}\n")).into_response();
        }
    };
    let mut all = metrics::collect(&shared);
    all.retain(|(name, value)| {
        let named = filter.as_ref().is_none_or(|filter| filter.is_match(name));
        named && (!query.contains_key("usedonly") || *value != 0)
    });
    match query.get("format").map(String::as_str) {
        Some("prometheus") => exposition(&metrics::prometheus(&all, &shared)),
        Some("json") => {
            let stats: Vec<_> = all
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            Json(json!({"stats": stats})).into_response()
        }
        _ => {
            let lines: String = all
                .iter()
                .map(|(name, value)| format!("{name}: {value}\n"))
                .collect();
            lines.into_response()
        }
    }
}

async fn prometheus(State(shared): State<Arc<Shared>>) -> Response {
    let all = metrics::collect(&shared);
    exposition(&metrics::prometheus(&all, &shared))
}

fn exposition(text: &str) -> Response {
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (content_type, text.to_owned()).into_response()
}

async fn fail_checks(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.fail_checks(true);
    "OK\n"
}

async fn pass_checks(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.fail_checks(false);
    "OK\n"
}

async fn drain_listeners(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> (StatusCode, &'static str) {
    let has = |name: &str| query.contains_key(name);
    if has("skip_exit") && !has("graceful") {
        return (StatusCode::BAD_REQUEST, "skip_exit requires graceful\n");
    }
    let scope = match has("inboundonly") {
        true => Scope::Inbound,
        false => Scope::All,
    };
    shared.drain_listeners(scope, has("graceful"), has("skip_exit"));
    (StatusCode::OK, "OK\n")
}

async fn reopen_logs(State(shared): State<Arc<Shared>>) -> &'static str {
    if let Some(proxy) = &*shared.proxy() {
        proxy.reopen_logs();
    }
    "OK\n"
}

async fn quit(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.quit();
    "OK\n"
}
