//! The admin pages, at Envoy's paths, so that what watches an Envoy can watch this proxy.

mod application;
mod certificates;
mod clusters;
mod door;
mod dump;
mod logging;
mod ports;
mod prometheus;
mod protobuf;
mod stats;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

pub use self::application::{ApplicationMetrics, BadAnnotations};
use self::door::Door;
pub(crate) use self::door::Turns;
pub(crate) use self::logging::Levels;
pub use self::logging::{LogControl, SetFilter};
pub(crate) use self::ports::{serve_metrics, serve_status};
use self::stats::{Format, Wanted};
use crate::agent::{Shared, resident_bytes};
use crate::worker::Scope;

const HELP: &str = "\
GET  /ready             whether requests are served
GET  /server_info       version, state, node
GET  /listeners         the listeners that are in use; ?format=json
GET  /clusters          the clusters that are in use, with their endpoints; ?format=json
GET  /certs             the certificates that are in use, and until when
GET  /config_dump       what was accepted and refused, with versions; ?include_eds, ?resource=LIST, ?mask=PATHS,
                        ?name_regex=REGEX
GET  /memory            the memory of this process
GET  /stats             counters, gauges and histograms; ?filter=REGEX, ?invert_filter, ?usedonly,
                        ?type=(All|Counters|Gauges|Histograms), ?format=(text|json|prometheus),
                        ?histogram_buckets=(summary|cumulative|disjoint)
GET  /stats/prometheus  the same for Prometheus
GET  /init_dump         what the start, or a new configuration, still waits for
GET  /runtime           runtime values, of which there are none
POST /logging           what is logged; ?level=LEVEL, ?COMPONENT=LEVEL, ?paths=COMPONENT:LEVEL,…
POST /reset_counters    count from zero again
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
        .route("/clusters", get(clusters_page))
        .route("/certs", get(certs))
        .route("/config_dump", get(config_dump))
        .route("/memory", get(memory))
        .route("/hot_restart_version", get(async || "disabled\n"))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(prometheus))
        .route("/healthcheck/fail", post(fail_checks))
        .route("/healthcheck/ok", post(pass_checks))
        .route("/drain_listeners", post(drain_listeners))
        .route("/quitquitquit", post(quit))
        .route("/reopen_logs", post(reopen_logs))
        .route("/init_dump", get(init_dump))
        .route("/runtime", get(runtime))
        .route("/logging", post(change_log))
        .route("/reset_counters", post(reset_counters))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                format!("invalid path. admin commands are:\n{HELP}"),
            )
        })
        .with_state(Arc::clone(&shared));
    let door = Door::new(listener, &shared.refused_connections);
    if let Err(error) = axum::serve(door, pages).await {
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
        "hot_restart_version": "disabled",
        "hot_restart_initializing": false,
        "command_line_options": {
            "concurrency": shared.workers,
            "drain_time": format!("{}s", shared.drain_time.as_secs()),
            "mode": "Serve",
            "disable_hot_restart": true,
        },
        "node": protobuf::message("envoy.config.core.v3.Node", node),
    }))
    .into_response()
}

/// `format`
fn wants_json(query: &HashMap<String, String>) -> bool {
    query.get("format").is_some_and(|format| format == "json")
}

async fn listeners(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let state = shared.state();
    if wants_json(&query) {
        return Json(clusters::listeners_json(&state)).into_response();
    }
    let mut text = String::new();
    for (name, slot) in state.store.listeners() {
        if let Some(active) = &slot.active {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}::{}", active.built.address);
        }
    }
    text.into_response()
}

async fn clusters_page(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match wants_json(&query) {
        true => Json(clusters::json(&shared.state())).into_response(),
        false => clusters::text(&shared.state()).into_response(),
    }
}

async fn certs(State(shared): State<Arc<Shared>>) -> Response {
    Json(certificates::certs(&shared.state())).into_response()
}

async fn config_dump(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let wanted = match dump::Wanted::of(&query) {
        Ok(wanted) => wanted,
        Err(refused) => return refused.into_response(),
    };
    let bind_errors = shared.proxy.bind_errors();
    let bootstrap = &shared.bootstrap;
    let dump = dump::config(bootstrap, &shared.state(), &bind_errors, &wanted);
    Json(dump).into_response()
}

/// The allocator does not tell what is in use of the memory that the kernel has given.
async fn memory() -> Response {
    let resident = resident_bytes().unwrap_or_default().to_string();
    Json(json!({
        "allocated": resident,
        "heap_size": resident,
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": resident,
    }))
    .into_response()
}

async fn stats(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let wanted = match Wanted::of(&query) {
        Ok(wanted) => wanted,
        Err(refused) => return refused.into_response(),
    };
    if wanted.format == Format::Prometheus {
        return prometheus(State(shared), Query(query)).await;
    }
    let all = wanted.collect(&shared);
    let bounds = &shared.bootstrap.histogram_bounds;
    match wanted.format {
        Format::Json => Json(stats::json(&all, wanted.buckets, bounds)).into_response(),
        _ => stats::text(&all, wanted.buckets, bounds).into_response(),
    }
}

async fn prometheus(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match shared.turns.wait().await {
        Ok(turn) => turn.page(move || prometheus_text(&shared, &query)).await,
        Err(refused) => refused.into_response(),
    }
}

/// All metrics in the text format of Prometheus.
fn prometheus_text(
    shared: &Shared,
    query: &HashMap<String, String>,
) -> Result<String, (StatusCode, String)> {
    let all = Wanted::of(query)?.collect(shared);
    let bootstrap = &shared.bootstrap;
    let mut text = prometheus::text(&all, &bootstrap.tags, &bootstrap.histogram_bounds);
    shared.proxy.add_istio_metrics(&mut text);
    Ok(text)
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
    shared.proxy.reopen_logs();
    "OK\n"
}

/// What warms: a cluster until its endpoints and secrets are there and checked, a listener until its routes and
/// secrets are.
async fn init_dump(State(shared): State<Arc<Shared>>) -> Response {
    let state = shared.state();
    let waiting =
        |is_warming: bool, kind: &str, name: &String| is_warming.then(|| format!("{kind} {name}"));
    let clusters = state.store.clusters().iter();
    let clusters =
        clusters.filter_map(|(name, slot)| waiting(slot.warming.is_some(), "Cluster", name));
    let listeners = state.store.listeners().iter();
    let listeners = listeners
        .filter_map(|(name, slot)| waiting(slot.warming.is_some(), "Listener-init-target", name));
    let names: Vec<_> = clusters.chain(listeners).collect();
    if names.is_empty() {
        return Json(json!({})).into_response();
    }
    let dump = json!({"name": "init manager Server", "target_names": names});
    Json(json!({"unready_targets_dumps": [dump]})).into_response()
}

/// There is no runtime: its layers are none.
async fn runtime() -> Json<serde_json::Value> {
    Json(json!({"entries": {}, "layers": []}))
}

async fn change_log(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> (StatusCode, String) {
    shared.levels.answer(&query)
}

async fn reset_counters(State(shared): State<Arc<Shared>>) -> &'static str {
    stats::reset_counters(&shared);
    "OK\n"
}

async fn quit(State(shared): State<Arc<Shared>>) -> &'static str {
    shared.quit();
    "OK\n"
}
