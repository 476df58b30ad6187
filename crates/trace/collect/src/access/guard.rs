use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tonic::{Code, Status};
use tower_service::Service;

use super::{Access, Denied, Scope, Tenant, login};

/// Finds, or makes, the router of a tenant; `None` stands for all where there are no tenants.
///
/// The error is for the sender, who may come again.
pub type Routers =
    Arc<dyn Fn(Option<Tenant>) -> BoxFuture<'static, Result<Router, String>> + Send + Sync>;

/// What stands before the routers of one port.
#[derive(Clone)]
pub struct Guard {
    access: Arc<Access>,
    /// What a request needs; `None`: nothing, it is for everybody.
    needs: fn(&Method, &str) -> Option<Scope>,
    routers: Routers,
    /// What answers requests that need nothing.
    public: Router,
    /// Whether the port speaks TLS.
    secure: bool,
}

impl Guard {
    /// A guard for a port: `needs` says what a request needs by its method and path, and `public`
    /// answers those that need nothing.
    pub fn new(
        access: Arc<Access>,
        needs: fn(&Method, &str) -> Option<Scope>,
        routers: Routers,
        public: Router,
        secure: bool,
    ) -> Self {
        Self {
            access,
            needs,
            routers,
            public,
            secure,
        }
    }

    /// All of the port, as one router.
    pub fn into_router(self) -> Router {
        Router::new().fallback(move |request: Request| {
            let guard = self.clone();
            async move { guard.answer(request).await }
        })
    }

    async fn answer(mut self, request: Request) -> Response {
        let (method, uri) = (request.method(), request.uri());
        if let Some(response) = login::answer(&self.access, method, uri, self.secure) {
            return response;
        }
        // A preflight carries no credentials (Fetch §3.3.5): what it asks for will.
        let scope = (self.needs)(method, uri.path()).filter(|_| method != Method::OPTIONS);
        let Some(scope) = scope else {
            return unwrap(self.public.call(request).await);
        };
        let tenant = match self.access.check(request.headers(), scope) {
            Ok(tenant) => tenant,
            Err(denied) => return refuse(&denied, request.headers()),
        };
        match (self.routers)(tenant).await {
            Ok(mut router) => unwrap(router.call(request).await),
            Err(reason) => unavailable(reason, request.headers()),
        }
    }
}

impl Access {
    /// A router that only those see who may see what is of no tenant.
    pub fn for_operators(self: Arc<Self>, router: Router) -> Router {
        Router::new().fallback(move |request: Request| {
            let (access, mut router) = (Arc::clone(&self), router.clone());
            async move {
                match access.check_operator(request.headers()) {
                    Ok(()) => unwrap(router.call(request).await),
                    Err(denied) => refuse(&denied, request.headers()),
                }
            }
        })
    }
}

fn unwrap(answer: Result<Response, Infallible>) -> Response {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn refuse(denied: &Denied, headers: &HeaderMap) -> Response {
    let (status, code) = match denied {
        Denied::NoToken | Denied::UnknownToken | Denied::NoTenant => {
            (StatusCode::UNAUTHORIZED, Code::Unauthenticated)
        }
        // Jaeger's: over HTTP no different from a missing one.
        Denied::UnknownTenant => (StatusCode::UNAUTHORIZED, Code::PermissionDenied),
        Denied::LacksScope(..) | Denied::ExtraTenant | Denied::ForeignTenant(_) => {
            (StatusCode::FORBIDDEN, Code::PermissionDenied)
        }
    };
    tracing::debug!(reason = %denied, "a request was denied");
    if is_grpc(headers) {
        return Status::new(code, denied.to_string()).into_http();
    }
    let mut response = (status, denied.to_string()).into_response();
    if matches!(denied, Denied::NoToken | Denied::UnknownToken) {
        let scheme = HeaderValue::from_static("Bearer realm=\"periplus\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

fn unavailable(reason: String, headers: &HeaderMap) -> Response {
    if is_grpc(headers) {
        return Status::unavailable(reason).into_http();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
