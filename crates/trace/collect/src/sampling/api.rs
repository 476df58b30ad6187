//! What tail sampling did and would do, over HTTP: `/api/periplus/v1/sampling`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::{QueryRejection, StringRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use periplus_model::TraceId;
use periplus_sampling::tail::{Decision, Policies, TailConfig};
use periplus_store::{Budget, SpanStore, StoreError, TimeRange, TraceQuery};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{TailSampling, dry_run};

/// The most decisions in one answer.
const MAX_DECISIONS: usize = 1_000;

/// Bytes of a configuration.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// The most traces that a dry run looks at, and how many it looks at unless told.
const MAX_TRACES: usize = 1_000_000;
const DEFAULT_TRACES: usize = 100_000;

/// How long a dry run may take.
const MAX_TIME: Duration = Duration::from_secs(60);

/// What the routes work with.
#[derive(Clone)]
struct Api {
    tail: Option<TailSampling>,
    store: Arc<dyn SpanStore>,
    /// One dry run at a time: it reads all that is stored.
    turn: Arc<Semaphore>,
}

/// The routes; `tail` is absent when everything is stored.
pub fn router(tail: Option<TailSampling>, store: Arc<dyn SpanStore>) -> Router {
    let api = Api {
        tail,
        store,
        turn: Arc::new(Semaphore::new(1)),
    };
    Router::new()
        .route("/api/periplus/v1/sampling/decisions", get(decisions))
        .route("/api/periplus/v1/sampling/dry-run", post(try_out))
        .layer(DefaultBodyLimit::max(MAX_CONFIG_BYTES))
        .with_state(api)
}

#[derive(Debug, Deserialize)]
struct DecisionsParams {
    trace: Option<String>,
    limit: Option<usize>,
    kept: Option<bool>,
}

async fn decisions(
    State(api): State<Api>,
    params: Result<Query<DecisionsParams>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(params) = params.map_err(|error| Failure::bad_request(error.body_text()))?;
    let Some(tail) = &api.tail else {
        return Err(Failure {
            status: StatusCode::NOT_FOUND,
            message: "tail sampling is off, everything is stored: start the server with \
                      --tail-sampling FILE to sample"
                .to_owned(),
        });
    };
    let trace = params.trace.as_deref().map(id).transpose()?;
    let limit = params.limit.unwrap_or(100).min(MAX_DECISIONS);
    let found = tail.decisions(limit, |decision| {
        trace.is_none_or(|id| decision.trace_id == id)
            && params.kept.is_none_or(|kept| decision.kept == kept)
    });
    let policies = tail.policies();
    let answer = Decisions {
        decisions: found
            .iter()
            .map(|decision| DecisionJson::of(decision, &policies))
            .collect(),
        pending: trace
            .and_then(|id| tail.pending(id))
            .map(|(due, spans)| Pending {
                spans,
                due_us: due / 1_000,
            }),
    };
    Ok(Json(answer).into_response())
}

fn id(text: &str) -> Result<TraceId, Failure> {
    text.parse().map_err(|error| {
        Failure::bad_request(format!(
            "'{text}' is not a trace id of 1 to 32 hex digits: {error}"
        ))
    })
}

#[derive(Debug, Serialize)]
struct Decisions {
    decisions: Vec<DecisionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pending {
    spans: u64,
    due_us: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionJson {
    trace_id: String,
    time_us: u64,
    kept: bool,
    cause: &'static str,
    policy: Option<String>,
    reason: String,
    service: String,
    operation: String,
    duration_ms: u64,
    spans: u64,
    bytes: u64,
    policies: Vec<VerdictJson>,
}

#[derive(Debug, Serialize)]
struct VerdictJson {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    verdict: &'static str,
}

impl DecisionJson {
    fn of(decision: &Decision, policies: &[(String, &'static str)]) -> Self {
        let policy = decision
            .by
            .and_then(|by| policies.get(by))
            .map(|(name, _)| name.clone());
        Self {
            trace_id: decision.trace_id.to_string(),
            time_us: decision.unix_nano / 1_000,
            kept: decision.kept,
            cause: decision.cause.as_str(),
            reason: reason(decision, policy.as_deref()),
            policy,
            service: decision.service.clone(),
            operation: decision.operation.clone(),
            duration_ms: decision.duration_ms,
            spans: decision.spans,
            bytes: decision.bytes,
            policies: (policies.iter().zip(&decision.verdicts))
                .map(|((name, kind), verdict)| VerdictJson {
                    name: name.clone(),
                    kind,
                    verdict: verdict.as_str(),
                })
                .collect(),
        }
    }
}

fn reason(decision: &Decision, policy: Option<&str>) -> String {
    match (decision.kept, policy) {
        (true, Some(policy)) => format!("kept: policy '{policy}' wants it"),
        (false, Some(policy)) => format!("dropped: policy '{policy}' keeps it out"),
        _ if decision.verdicts.is_empty() => {
            format!(
                "dropped without a look at the policies: {}",
                decision.cause.as_str()
            )
        }
        _ => "dropped: no policy wants it".to_owned(),
    }
}

#[derive(Debug, Deserialize)]
struct DryRunParams {
    q: Option<String>,
    start: Option<u64>,
    end: Option<u64>,
    limit: Option<usize>,
}

async fn try_out(
    State(api): State<Api>,
    params: Result<Query<DryRunParams>, QueryRejection>,
    body: Result<String, StringRejection>,
) -> Result<Response, Failure> {
    let body = body.map_err(|error| Failure {
        status: error.status(),
        message: error.body_text(),
    })?;
    let Query(params) = params.map_err(|error| Failure::bad_request(error.body_text()))?;
    let config =
        TailConfig::parse("config", &body).map_err(|e| Failure::bad_request(e.to_string()))?;
    let policies =
        Policies::new("config", &config).map_err(|e| Failure::bad_request(e.to_string()))?;
    let filter = periplus_store::parse(params.q.as_deref().unwrap_or_default())
        .map_err(|error| Failure::bad_request(format!("parameter 'q': {error}")))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nano = |micros: u64| micros.saturating_mul(1_000);
    let range = TimeRange {
        start_unix_nano: params.start.map_or_else(
            || {
                u64::try_from(now.as_nanos())
                    .unwrap_or(u64::MAX)
                    .saturating_sub(3_600_000_000_000)
            },
            nano,
        ),
        end_unix_nano: params
            .end
            .map_or(u64::MAX, |end| nano(end.saturating_add(1))),
    };
    let limit = params.limit.unwrap_or(DEFAULT_TRACES).min(MAX_TRACES);
    let mut query = TraceQuery::new(range, filter, limit);
    query.budget = Budget {
        time: Some(MAX_TIME),
        ..Budget::UNLIMITED
    };
    let Ok(_turn) = api.turn.try_acquire() else {
        return Err(Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: "another dry run is under way: try again when it has ended".to_owned(),
        });
    };
    let report = dry_run(&*api.store, policies, query).await?;
    Ok(Json(report).into_response())
}

/// An answer of our own API that is none.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidQuery { .. } => Self::bad_request(error.to_string()),
            StoreError::Busy { .. } | StoreError::QueryLimit { .. } => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: error.to_string(),
            },
            error => {
                tracing::error!(%error, "a dry run failed");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    message: "the store failed; the server's log says why".to_owned(),
                }
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({"error": self.message}));
        (self.status, body).into_response()
    }
}
