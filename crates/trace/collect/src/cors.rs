//! Cross-origin requests: a browser's exporter posts spans from a page of another origin.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode, Uri};

/// The origins whose pages may post spans. Pages of this machine (`localhost`, `127.0.0.1`,
/// `[::1]`, any port) always may.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins {
    origins: Arc<[String]>,
}

impl AllowedOrigins {
    /// These origins besides this machine's; `*` allows every origin.
    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self {
            origins: origins.into_iter().collect(),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
            || is_local(origin)
    }
}

/// Who may ask what from a page of another origin.
#[derive(Clone, Debug)]
pub(crate) struct Cors {
    pub(crate) origins: AllowedOrigins,
    /// As `Access-Control-Allow-Methods` lists them.
    pub(crate) methods: &'static str,
    /// As `Access-Control-Expose-Headers` lists them; empty for none.
    pub(crate) exposed_headers: &'static str,
}

fn is_local(origin: &str) -> bool {
    origin.parse::<Uri>().is_ok_and(|uri| {
        matches!(
            uri.host(),
            Some("localhost" | "127.0.0.1" | "[::1]" | "::1")
        )
    })
}

/// Answers preflights and marks the answers for allowed origins. A foreign origin gets its answer
/// without the mark: the browser keeps it from the page.
pub(crate) async fn middleware(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origin = request
        .headers()
        .get(ORIGIN)
        .filter(|origin| (origin.to_str()).is_ok_and(|origin| cors.origins.allows(origin)))
        .cloned();
    let preflight = request.method() == Method::OPTIONS;
    let asked_headers = request
        .headers()
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .cloned();
    let asked = request
        .headers()
        .contains_key(ACCESS_CONTROL_REQUEST_METHOD);

    let mut response = if preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        if let Ok(methods) = HeaderValue::from_str(&format!("{}, OPTIONS", cors.methods)) {
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if !cors.exposed_headers.is_empty() {
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(cors.exposed_headers),
            );
        }
        if preflight && asked {
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static(cors.methods),
            );
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                asked_headers.unwrap_or(HeaderValue::from_static("content-type")),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_allowed_and_others_by_name_only() {
        let none = AllowedOrigins::default();
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:8080",
        ] {
            assert!(none.allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "https://example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            assert!(!none.allows(origin), "{origin}");
        }
        let one = AllowedOrigins::new(["https://shop.example".to_owned()]);
        assert!(one.allows("https://shop.example"));
        assert!(!one.allows("https://shop.example.org"));
        assert!(AllowedOrigins::new(["*".to_owned()]).allows("https://example.com"));
    }
}
