use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tonic::{Code, Status};
use tower_service::Service as _;

use super::{Access, Denied, Scope, Tenant, login};
use crate::Refusal;
use crate::grpc::is_grpc;

/// Finds, or makes, the router of a tenant; `None` stands for all where there are no tenants.
///
/// The error is for the sender, who may come again.
pub type Routers =
    Arc<dyn Fn(Option<Tenant>) -> BoxFuture<'static, Result<Router, String>> + Send + Sync>;

/// What a request needs by its method and path.
pub type Needs = Arc<dyn Fn(&Method, &str) -> Need + Send + Sync>;

/// What a request needs before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is for everybody.
    Nothing,
    /// A token, whatever it is good for; no tenant.
    Token,
    /// A token that is good for this, and a tenant.
    Scope(Scope),
}

/// What stands before the routers of one port.
#[derive(Clone)]
pub struct Guard {
    access: Arc<Access>,
    needs: Needs,
    routers: Routers,
    /// What answers requests that need no tenant.
    common: Router,
    /// Whether the port speaks TLS.
    secure: bool,
}

impl Guard {
    /// A guard for a port. `routers` answers what is of a tenant, `common` everything else;
    /// `secure` says whether the port speaks TLS.
    pub fn new(
        access: Arc<Access>,
        needs: Needs,
        routers: Routers,
        common: Router,
        secure: bool,
    ) -> Self {
        Self {
            access,
            needs,
            routers,
            common,
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
        let need = match *method {
            // A preflight carries no credentials (Fetch §3.3.5): what it asks for will.
            Method::OPTIONS => Need::Nothing,
            _ => (self.needs)(method, uri.path()),
        };
        let tenant = match need {
            Need::Nothing => return unwrap(self.common.call(request).await),
            Need::Token => match self.access.check_token(request.headers()) {
                Ok(()) => return unwrap(self.common.call(request).await),
                Err(denied) => Err(denied),
            },
            Need::Scope(scope) => self.access.check(request.headers(), scope),
        };
        let tenant = match tenant {
            Ok(tenant) => tenant,
            Err(denied) => return self.access.refuse(&denied, request.headers()),
        };
        match (self.routers)(tenant).await {
            Ok(mut router) => unwrap(router.call(request).await),
            Err(reason) => unavailable(reason, request.headers()),
        }
    }
}

impl Access {
    /// A router that only those see who may see what is of no tenant, such as the server's own
    /// metrics.
    pub fn for_operators(self: Arc<Self>, router: Router) -> Router {
        self.checked(Self::check_operator, router)
    }

    /// A router that only those see who have a token, whatever it is good for: what is of no tenant
    /// and no secret, such as strategies of sampling.
    pub fn for_clients(self: Arc<Self>, router: Router) -> Router {
        self.checked(Self::check_token, router)
    }

    fn checked(
        self: Arc<Self>,
        check: fn(&Self, &HeaderMap) -> Result<(), Denied>,
        router: Router,
    ) -> Router {
        if self.is_open() {
            return router;
        }
        Router::new().fallback(move |request: Request| {
            let (access, mut router) = (Arc::clone(&self), router.clone());
            async move {
                match check(&access, request.headers()) {
                    Ok(()) => unwrap(router.call(request).await),
                    Err(denied) => access.refuse(&denied, request.headers()),
                }
            }
        })
    }

    fn refuse(&self, denied: &Denied, headers: &HeaderMap) -> Response {
        self.denied.add(denied.kind());
        tracing::debug!(reason = %denied, "a request was denied");
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
}

fn unwrap(answer: Result<Response, Infallible>) -> Response {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn unavailable(reason: String, headers: &HeaderMap) -> Response {
    if is_grpc(headers) {
        return Status::unavailable(reason).into_http();
    }
    let later = HeaderValue::from(Refusal::RETRY_AFTER_SECONDS);
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(RETRY_AFTER, later)],
        reason,
    )
        .into_response()
}
