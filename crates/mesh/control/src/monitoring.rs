//! The HTTP interface for operators, with the paths, JSON keys and metric names of istiod.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use periplus_resources::Meta;
use periplus_xds::server::AdsServer;
use serde::Serialize;
use serde_json::{Value, json};

use crate::books::Books;
use crate::certificates::{self, Overseen};
use crate::collectors::Collectors;
use crate::expiry;
use crate::index::{Problem, SCHEMA};
use crate::issuers::IssuerKeys;
use crate::mesh::Mesh;
use crate::metrics;
use crate::sync_status;

/// What the interface shows.
pub(crate) struct Monitoring {
    pub(crate) mesh: Arc<Mesh>,
    /// Whether somebody takes spans.
    pub(crate) collectors: Arc<Collectors>,
    /// Whether issuers of tokens give their keys.
    pub(crate) issuers: Arc<IssuerKeys>,
    pub(crate) ads: AdsServer,
    pub(crate) authority: Option<Overseen>,
    pub(crate) started: Instant,
    /// Where the resources are read, and the mesh configuration.
    pub(crate) files: (Vec<PathBuf>, Option<PathBuf>),
    pub(crate) books: Arc<Books>,
}

impl Monitoring {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/ready", get(async || "ready\n"))
            .route("/version", get(version))
            .route("/metrics", get(metrics))
            .route("/debug/syncz", get(syncz))
            .route("/debug/certificates", get(show_certificates))
            .route("/debug/config_errors", get(config_errors))
            .route("/debug/gateway_api", get(gateway_api))
            .route("/debug/telemetry", get(telemetry))
            .route("/debug/files", get(files))
            .with_state(Arc::new(self))
    }
}

async fn version() -> Json<Value> {
    Json(json!({"name": "periplus", "version": env!("CARGO_PKG_VERSION")}))
}

async fn metrics(State(monitoring): State<Arc<Monitoring>>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, metrics::render(&monitoring))
}

async fn syncz(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<Value>> {
    let proxies = monitoring.ads.proxies();
    let rows = proxies
        .iter()
        .map(|proxy| sync_status::row(proxy, &monitoring.mesh.notes(&proxy.node)));
    Json(rows.collect())
}

/// What the authority is, and what it has refused; `null` if there is none.
async fn show_certificates(State(monitoring): State<Arc<Monitoring>>) -> Json<Value> {
    let authority = monitoring.authority.as_ref();
    Json(authority.map_or(Value::Null, certificates::page))
}

/// What is said about the resources of Gateway API.
async fn gateway_api(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<Value>> {
    let state = monitoring.mesh.state();
    let statuses = state.index.statuses().iter();
    Json(statuses.map(crate::ResourceStatus::page).collect())
}

/// What is said about Telemetries: whether their providers are known, and take spans.
async fn telemetry(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<Value>> {
    let state = monitoring.mesh.state();
    let lost = monitoring.collectors.problems(&state.index);
    let problems: Vec<_> = lost.iter().chain(&state.problems).collect();
    let row = |meta: &Meta| {
        let is_about = |problem: &&&Problem| {
            let about = problem.about.as_ref();
            about.is_some_and(|it| {
                (it.kind, &it.namespace, &it.name) == (meta.kind, &meta.namespace, &meta.name)
            })
        };
        let condition = |name: &str, codes: &[&str]| {
            let mut own = problems.iter().filter(is_about);
            let problem = own.find(|problem| codes.contains(&problem.code.id));
            json!({
                "type": name,
                "status": if problem.is_some() { "False" } else { "True" },
                "reason": problem.map_or("", |problem| problem.code.name),
                "message": problem.map_or("", |problem| &problem.diagnostic.message),
            })
        };
        json!({
            "kind": meta.kind.name(),
            "namespace": meta.namespace,
            "name": meta.name,
            "conditions": [
                condition("ProvidersResolved", &["IST0101", "PER0201", "PER0202"]),
                condition("ProvidersReachable", &["PER0206"]),
            ],
        })
    };
    Json(state.index.telemetry_metas().map(row).collect())
}

/// Where the files are, for commands on the same machine, for which of them everything is denied, and of which resources
/// the last good form holds.
async fn files(State(monitoring): State<Arc<Monitoring>>) -> Json<Value> {
    let path = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let (directories, mesh_config) = &monitoring.files;
    let state = monitoring.mesh.state();
    Json(json!({
        "directories": directories.iter().map(path).collect::<Vec<_>>(),
        "meshConfig": mesh_config.as_ref().map(path),
        "denyingAll": state.closed,
        "lastGood": state.last_good.iter().map(ToString::to_string).collect::<Vec<_>>(),
    }))
}

/// One row of `/debug/config_errors`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigError {
    severity: String,
    code: &'static str,
    resource: Option<String>,
    /// The resource holds in its last good form.
    last_good: bool,
    file: String,
    line: u32,
    column: u32,
    field: String,
    message: String,
}

async fn config_errors(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<ConfigError>> {
    let state = monitoring.mesh.state();
    let row = |problem: &crate::Problem| ConfigError {
        severity: problem.severity.to_string(),
        code: problem.code.id,
        resource: problem.about.as_ref().map(ToString::to_string),
        last_good: problem.code.id == SCHEMA.id
            && (problem.about.as_ref()).is_some_and(|about| state.last_good.contains(about)),
        file: problem.diagnostic.file.to_string(),
        line: problem.diagnostic.position.line,
        column: problem.diagnostic.position.column,
        field: problem.diagnostic.field.clone(),
        message: problem.diagnostic.message.clone(),
    };
    let lost = monitoring.collectors.problems(&state.index);
    let unknown = monitoring.issuers.problems(&state.index);
    let ending = expiry::problems(&state.index, SystemTime::now());
    let all = state.problems.iter().chain(&lost).chain(&unknown);
    let all = all.chain(&ending);
    Json(all.map(row).collect())
}
