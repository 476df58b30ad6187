//! `/api/v3`: the HTTP gateway, with its own error shape.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use periplus_model::Batch;
use periplus_store::StoreError;
use serde_json::json;

use super::params::{self, END_TIME, RAW, SPAN_KIND, START_TIME, parsed, value};
use super::{Problem, find_summaries, find_traces, get_trace, operations};
use crate::api::Api;
use crate::go;
use crate::guard::long_queries;
use crate::jaeger::{last_segment, trace_id};
use crate::params::Params;
use crate::time::parse_rfc3339;

type Answer = Result<Response, Failure>;

/// Says why a search was ended early: the shape has no place for it.
pub(crate) const PARTIAL: HeaderName = HeaderName::from_static("periplus-partial");

/// Below `/api/v3`.
pub(crate) fn routes() -> Router<Api> {
    let routes = Router::new()
        .route("/services", get(services))
        .route("/operations", get(list_operations))
        .route("/traces", get(search))
        .route("/traces/{id}", get(trace))
        .route("/trace-summaries", get(summaries))
        .route("/", any(unknown))
        .route("/{*path}", any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(|request, next| {
            long_queries(Failure::new, request, next)
        }));
    Router::new().nest("/api/v3", routes)
}

async fn services(State(api): State<Api>) -> Answer {
    let services = api.store.services().await?;
    Ok(ok(json!({ "services": services }).to_string().into_bytes()))
}

async fn list_operations(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let kind = value(&params, SPAN_KIND).0;
    let operations = operations(&api, params.first("service"), kind).await?;
    let operations: Vec<_> = operations
        .into_iter()
        .map(|(name, kind)| json!({ "name": name, "spanKind": kind }))
        .collect();
    let body = json!({ "operations": operations });
    Ok(ok(body.to_string().into_bytes()))
}

async fn trace(State(api): State<Api>, uri: Uri) -> Answer {
    let id = trace_id(last_segment(&uri))
        .map_err(|error| Problem::Invalid(format!("malformed parameter trace_id: {error}")))?;
    let params = Params::of(uri.query());
    // Hints for stores that need them.
    parsed(&params, START_TIME, parse_rfc3339)?;
    parsed(&params, END_TIME, parse_rfc3339)?;
    let raw = parsed(&params, RAW, go::parse_bool)?.unwrap_or(false);
    let batch = get_trace(&api, id, raw).await?;
    traces_data(&api, batch).await
}

async fn search(State(api): State<Api>, uri: Uri) -> Answer {
    let (search, names) = params::search(&Params::of(uri.query()))?;
    let query = search.query(names)?;
    let (batches, partial) = find_traces(&api, query, search.raw).await?;
    if batches.is_empty() && partial.is_none() {
        return Err(Problem::NotFound("No traces found").into());
    }
    let groups = batches.into_iter().flat_map(|batch| batch.groups).collect();
    let response = traces_data(&api, Batch { groups }).await?;
    Ok(with_partial(response, partial))
}

async fn summaries(State(api): State<Api>, uri: Uri) -> Answer {
    let (search, names) = params::search(&Params::of(uri.query()))?;
    let query = search.query(names)?;
    let (summaries, partial) = find_summaries(&api, query).await?;
    let body = serde_json::to_vec(&json!({ "summaries": summaries })).unwrap_or_default();
    Ok(with_partial(ok(body), partial))
}

async fn unknown(uri: Uri) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        format!("no such endpoint: /api/v3{}", uri.path()),
    )
}

async fn wrong_method(method: Method) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this endpoint does not take {method}: use GET"),
    )
}

/// `GRPCGatewayWrapper`: one OTLP document with all traces.
async fn traces_data(api: &Api, batch: Batch) -> Answer {
    let body = api
        .compute(batch.span_count(), move || {
            let mut body = b"{\"result\":".to_vec();
            body.extend_from_slice(&periplus_wire::otlp::encode_json(&batch));
            body.push(b'}');
            body
        })
        .await?;
    Ok(ok(body))
}

fn ok(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn with_partial(mut response: Response, partial: Option<&'static str>) -> Response {
    if let Some(reason) = partial {
        let reason = HeaderValue::from_static(reason);
        response.headers_mut().insert(PARTIAL, reason);
    }
    response
}

/// A failed answer: `GRPCGatewayError`, which Go's `http.Error` sends as plain text.
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let status = match &problem {
            Problem::Invalid(_) | Problem::Store(StoreError::InvalidQuery { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Problem::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Problem::NotFound(_) => StatusCode::NOT_FOUND,
            Problem::Store(error) => {
                tracing::error!(%error, "a query failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, problem.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "httpCode": self.status.as_u16(),
            "message": self.message,
        }});
        (
            self.status,
            [
                (CONTENT_TYPE, "text/plain; charset=utf-8"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            format!("{body}\n"),
        )
            .into_response()
    }
}
