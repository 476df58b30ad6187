//! Where Zipkin's UI lives: its links lead to our pages, and its configuration is answered.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode, Uri};
use serde_json::json;

use super::Zipkin;
use crate::params::Params;

pub(super) fn routes() -> Router<Zipkin> {
    Router::new()
        .route("/index.html", get(search))
        .route("/dependency", get(search))
        .route("/traceViewer", get(search))
        .route("/traces/{id}", get(trace))
        .route("/favicon.ico", get(favicon))
        .route("/config.json", get(config))
}

pub(super) async fn to_zipkin() -> Response {
    found("/zipkin/")
}

pub(super) async fn to_favicon() -> Response {
    found("/zipkin/favicon.ico")
}

async fn favicon() -> Response {
    found("../favicon.svg")
}

/// Lens's search page, with its parameters.
pub(super) async fn search(uri: Uri) -> Response {
    let query = search_query(&Params::of(uri.query()));
    match query.is_empty() {
        true => found("../search"),
        false => found(&format!("../search?{query}")),
    }
}

/// Lens's page of a trace.
async fn trace(uri: Uri) -> Response {
    let id = uri.path().rsplit('/').next().unwrap_or_default();
    found(&format!("../../trace/{id}"))
}

/// Our parameters for Lens's: microseconds for its milliseconds, tags for its `annotationQuery`.
fn search_query(params: &Params<'_>) -> String {
    let mut query: Vec<(&str, String)> = Vec::new();
    for (from, to) in [
        ("serviceName", "service"),
        ("spanName", "operation"),
        ("limit", "limit"),
    ] {
        match params.first(from) {
            "" => {}
            value => query.push((to, value.to_owned())),
        }
    }
    for name in ["minDuration", "maxDuration"] {
        match params.first(name) {
            "" => {}
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                query.push((name, format!("{digits}us")));
            }
            duration => query.push((name, duration.to_owned())),
        }
    }
    let tags = params
        .first("annotationQuery")
        .split(" and ")
        .map(str::trim);
    for (key, value) in tags.filter_map(|term| term.split_once('=')) {
        query.push(("tag", format!("{key}:{value}")));
    }
    match params.first("remoteServiceName") {
        "" => {}
        name => query.push(("tag", format!("service.peer.name:{name}"))),
    }
    let millis = |name| params.first(name).parse::<i64>().ok();
    let start = match (millis("startTs"), millis("endTs"), millis("millis")) {
        (None, Some(end), Some(millis)) => Some(end.saturating_sub(millis)),
        (start, ..) => start,
    };
    match (start, millis("endTs"), params.first("lookback")) {
        (Some(start), Some(end), _) => {
            query.push(("start", start.saturating_mul(1000).to_string()));
            query.push(("end", end.saturating_mul(1000).to_string()));
        }
        (_, _, "" | "custom" | "millis" | "range") => {}
        (_, _, lookback) => query.push(("lookback", lookback.to_owned())),
    }
    let pairs: Vec<String> = (query.into_iter())
        .map(|(key, value)| format!("{key}={}", escape(&value)))
        .collect();
    pairs.join("&")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The configuration of Lens, with the Zipkin server's defaults.
async fn config() -> Response {
    let body = json!({
        "environment": "",
        "queryLimit": 10,
        "defaultLookback": 900_000,
        "searchEnabled": true,
        "logsUrl": null,
        "supportUrl": null,
        "archivePostUrl": null,
        "archiveUrl": null,
        "dependency": {"enabled": true, "lowErrorRate": 0.5, "highErrorRate": 0.75},
    });
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "max-age=600"),
    ];
    (headers, body.to_string()).into_response()
}

/// 302: where a page is may change with a version.
fn found(location: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let location = HeaderValue::from_str(location);
    // What was asked for, escaped: nothing that a header could not hold.
    let location = location.unwrap_or(HeaderValue::from_static("/zipkin/"));
    response.headers_mut().insert(LOCATION, location);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lens_links_become_ours() {
        for (lens, ours) in [
            ("", ""),
            (
                "serviceName=web&spanName=get+%2F&limit=50&lookback=15m",
                "service=web&operation=get%20%2F&limit=50&lookback=15m",
            ),
            (
                "minDuration=10ms&maxDuration=2000&lookback=custom&startTs=1&endTs=2",
                "minDuration=10ms&maxDuration=2000us&start=1000&end=2000",
            ),
            (
                "lookback=millis&millis=100&endTs=500",
                "start=400000&end=500000",
            ),
            (
                "annotationQuery=error+and+http.method%3DGET&remoteServiceName=db",
                "tag=http.method%3AGET&tag=service.peer.name%3Adb",
            ),
        ] {
            assert_eq!(search_query(&Params::of(Some(lens))), ours, "{lens}");
        }
    }
}
