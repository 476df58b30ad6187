//! Remote sampling over HTTP.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, StatusCode, Uri};
use periplus_wire::sampling::TypeForm;

use super::RemoteSampling;

/// Port 5778. Every path answers `GET` with the strategy of `?service=`, as Jaeger v2 does, except
/// that `/` writes the type as a number (Jaeger v1's answer to clients older than 2017; newer ones
/// read both), and that `/baggageRestrictions` has none to tell.
pub fn router(remote: RemoteSampling) -> Router {
    Router::new()
        .route("/", get(legacy))
        .route("/baggageRestrictions", get(baggage))
        .fallback(any_path)
        .method_not_allowed_fallback(only_get)
        .with_state(remote)
}

/// `GET /api/sampling`, for the ports of a collector and of the UI.
pub fn api(remote: RemoteSampling) -> Router {
    Router::new()
        .route("/api/sampling", get(named))
        .with_state(remote)
}

async fn named(remote: State<RemoteSampling>, uri: Uri) -> Response {
    answer(&remote, &uri, TypeForm::Name)
}

async fn legacy(remote: State<RemoteSampling>, uri: Uri) -> Response {
    answer(&remote, &uri, TypeForm::Number)
}

async fn any_path(method: Method, remote: State<RemoteSampling>, uri: Uri) -> Response {
    if method == Method::GET || method == Method::HEAD {
        answer(&remote, &uri, TypeForm::Name)
    } else {
        only_get().await
    }
}

async fn baggage(remote: State<RemoteSampling>, uri: Uri) -> Response {
    match service(&uri) {
        Some(_) => json("[]".to_owned()),
        None => no_service(&remote),
    }
}

async fn only_get() -> Response {
    let text = "only GET is served here\n";
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")], text).into_response()
}

fn answer(remote: &RemoteSampling, uri: &Uri, form: TypeForm) -> Response {
    match service(uri) {
        Some(service) => json(remote.strategy(&service).to_json(form)),
        None => no_service(remote),
    }
}

/// The one service that the query names.
fn service(uri: &Uri) -> Option<String> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let mut services = pairs.into_iter().filter(|(key, _)| key == "service");
    let (_, service) = services.next()?;
    services.next().is_none().then_some(service)
}

fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Jaeger's words.
fn no_service(remote: &RemoteSampling) -> Response {
    remote.stats().refuse();
    let text = "'service' parameter must be provided once\n";
    (StatusCode::BAD_REQUEST, text).into_response()
}
