//! The web UI, embedded: `dist/` as `web/` builds it, so that a build of the binary needs no Node.
//!
//! Assets live under an address that changes with their contents and are cached for ever; the page itself is
//! revalidated. Every answer carries the headers that keep foreign text in a trace from becoming a script.

mod assets;
mod negotiate;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::assets::{Asset, Assets};

/// What the page may load and do: its own script, style and API, nothing inline, nothing foreign.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
     require-trusted-types-for 'script'";

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const REVALIDATE: &str = "no-cache";
const A_DAY: &str = "public, max-age=86400";

/// A link that the page's header shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuLink {
    /// What it says.
    pub label: String,
    /// Where it leads: an address, or a path of this server.
    pub url: String,
}

/// The routes of the UI: `/`, `/search` and `/trace/{id}` are the page, `/assets/…` and `/favicon.svg` what it loads.
///
/// `base_path` is the path below which browsers see all of this, such as `/jaeger`; empty at the root. `menu` are links
/// for the page's header. Other paths are not claimed, so that a typo in an API's path stays a 404.
pub fn router(base_path: &str, menu: &[MenuLink]) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/search", get(page))
        .route("/trace/{id}", get(page))
        .route("/favicon.svg", get(favicon))
        .route("/assets/{stamp}/{file}", get(asset))
        .with_state(Arc::new(Assets::embedded(base_path, menu)))
}

async fn page(State(assets): State<Arc<Assets>>, request: HeaderMap) -> Response {
    serve(assets.page(), REVALIDATE, &request)
}

async fn favicon(State(assets): State<Arc<Assets>>, request: HeaderMap) -> Response {
    serve(assets.favicon(), A_DAY, &request)
}

async fn asset(
    State(assets): State<Arc<Assets>>,
    Path((stamp, file)): Path<(String, String)>,
    request: HeaderMap,
) -> Response {
    match assets.find(&stamp, &file) {
        Some(asset) => serve(asset, FOR_EVER, &request),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn serve(asset: &Asset, cache_control: &'static str, request: &HeaderMap) -> Response {
    let gzip = negotiate::accepts_gzip(request);
    let etag = if gzip { &asset.gzip_etag } else { &asset.etag };
    let mut response = if negotiate::is_fresh(request, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if gzip {
        let mut response = asset.gzip.clone().into_response();
        set(&mut response, header::CONTENT_ENCODING, "gzip");
        response
    } else {
        asset.body.clone().into_response()
    };
    response.headers_mut().insert(header::ETAG, etag.clone());
    set(&mut response, header::CONTENT_TYPE, asset.content_type);
    set(&mut response, header::CACHE_CONTROL, cache_control);
    set(&mut response, header::VARY, "accept-encoding");
    set(
        &mut response,
        header::CONTENT_SECURITY_POLICY,
        CONTENT_SECURITY_POLICY,
    );
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::REFERRER_POLICY, "same-origin");
    set(
        &mut response,
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    response
}

fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}
