//! Our own API: `docs/periplus-api.md` describes it.

mod boot;
mod details;
mod live;
mod metrics;
mod search;
mod skeleton;
mod unit;
mod value;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, Uri};
use periplus_model::TraceId;
use periplus_store::{Incomplete, StoredTrace};

use crate::api::{Api, now_unix_nano};
use crate::guard::long_queries;
use crate::params::Params;
use crate::reply::{Failure, Timing, render, send, takes_gzip};

type Answer = Result<Response, Failure>;

/// Below `/api/periplus/v1`.
pub(crate) fn routes() -> Router<Api> {
    let routes = Router::new()
        .route("/boot", get(boot))
        .route("/search", get(search))
        .route("/live", get(live::live))
        .route("/traces/{id}", get(skeleton))
        .route("/traces/{id}/spans", get(details))
        .route("/red", get(red))
        .route("/dependencies", get(dependencies))
        .route("/openapi.json", get(openapi))
        .route("/", any(unknown))
        .route("/{*path}", any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(|request, next| {
            long_queries(Failure::new, request, next)
        }));
    Router::new().nest("/api/periplus/v1", routes)
}

async fn boot(State(api): State<Api>, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let boot = boot::boot(&api.options, api.store.stats());
    timing.lap("store");
    Ok(send(
        render(&boot, takes_gzip(&headers))?,
        &headers,
        &timing,
    ))
}

async fn search(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let mut query =
        search::parse(&Params::of(uri.query()), now_unix_nano()).map_err(Failure::bad_request)?;
    let limit = query.limit;
    // One more than asked for tells whether there are more.
    query.limit += 1;
    let found = api.find(query).await?;
    timing.lap("store");
    let gzip = takes_gzip(&headers);
    let spans = found.traces.iter().map(StoredTrace::span_count).sum();
    let rendered = api
        .compute(spans, move || render(&search::results(&found, limit), gzip))
        .await??;
    timing.lap("render");
    Ok(send(rendered, &headers, &timing))
}

async fn skeleton(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let trace = load(&api, id_after_traces(&uri)).await?;
    timing.lap("store");
    let gzip = takes_gzip(&headers);
    let rendered = api
        .compute(trace.span_count(), move || {
            let assembled = periplus_insight::Trace::assemble(&trace.groups);
            let partial = trace.incomplete.map(Incomplete::reason);
            render(
                &skeleton::skeleton(trace.id, &assembled).partial(partial),
                gzip,
            )
        })
        .await??;
    timing.lap("render");
    Ok(send(rendered, &headers, &timing))
}

async fn details(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let params = Params::of(uri.query());
    let rows = details::parse_rows(params.first("rows")).map_err(Failure::bad_request)?;
    let revision = params.first("revision").to_owned();
    let trace = load(&api, id_after_traces(&uri)).await?;
    timing.lap("store");
    let gzip = takes_gzip(&headers);
    let rendered = api
        .compute(trace.span_count(), move || {
            let assembled = periplus_insight::Trace::assemble(&trace.groups);
            if !revision.is_empty() && revision != skeleton::revision(&assembled) {
                return Err(Failure::new(
                    StatusCode::CONFLICT,
                    "more spans of this trace have arrived: load it again",
                ));
            }
            let details = details::details(&assembled, &rows).map_err(Failure::bad_request)?;
            render(&details, gzip)
        })
        .await??;
    timing.lap("render");
    Ok(send(rendered, &headers, &timing))
}

async fn red(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let query = metrics::red_query(&Params::of(uri.query()), now_unix_nano())
        .map_err(Failure::bad_request)?;
    let series = api.store.red_by(query.clone()).await?;
    timing.lap("store");
    let gzip = takes_gzip(&headers);
    let points = series.iter().map(|series| series.points.len()).sum();
    let rendered = api
        .compute(points, move || render(&metrics::red(&query, series), gzip))
        .await??;
    timing.lap("render");
    Ok(send(rendered, &headers, &timing))
}

async fn dependencies(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer {
    let mut timing = Timing::start();
    let range = metrics::minutes(&Params::of(uri.query()), now_unix_nano())
        .map_err(Failure::bad_request)?;
    let edges = api.store.dependencies(range).await?;
    timing.lap("store");
    let rendered = render(&metrics::graph(range, edges), takes_gzip(&headers))?;
    timing.lap("render");
    Ok(send(rendered, &headers, &timing))
}

async fn openapi() -> Response {
    const DOCUMENT: &str = include_str!("openapi.json");
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// The segment behind `/traces/`, still escaped.
fn id_after_traces(uri: &Uri) -> &str {
    uri.path()
        .rsplit_once("/traces/")
        .map(|(_, rest)| rest.split('/').next().unwrap_or(rest))
        .unwrap_or_default()
}

async fn load(api: &Api, id: &str) -> Result<StoredTrace, Failure> {
    let id: TraceId = id.parse().map_err(|error| {
        Failure::bad_request(format!(
            "'{id}' is not a trace id of 1 to 32 hex digits: {error}"
        ))
    })?;
    api.trace(id).await?.ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_FOUND,
            format!("no trace {id}: it has not arrived yet, or it was evicted"),
        )
    })
}

async fn unknown(uri: Uri) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        format!("no such endpoint: {}", uri.path()),
    )
}

async fn wrong_method(method: Method) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this endpoint does not take {method}: use GET"),
    )
}
