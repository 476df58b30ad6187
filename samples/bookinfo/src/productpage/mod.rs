//! The page that people see, and the public API.

mod backends;
mod page;
mod results;
mod session;

use http::header::{LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::reply::{self, Reply};
use crate::{Environment, Role, SetupError, form};
use backends::Backends;
use page::Page;

/// The only book in the store.
const PRODUCT_ID: &str = "0";
const TITLE: &str = "The Comedy of Errors";
const DESCRIPTION_HTML: &str = "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">\
    Wikipedia Summary</a>: The Comedy of Errors is one of <b>William Shakespeare's</b> early \
    plays. It is his shortest and one of his most farcical comedies, with a major part of the \
    humour coming from slapstick and mistaken identity, in addition to puns and word play.";

/// Where people go after they have signed in or out and do not say where they came from.
const FRONT: &str = "/productpage";

#[derive(Debug)]
pub(crate) struct Productpage {
    backends: Backends,
}

impl Productpage {
    pub(crate) fn new(environment: &Environment) -> Result<Self, SetupError> {
        Ok(Self {
            backends: Backends::new(environment)?,
        })
    }

    pub(crate) async fn respond(&self, request: &Parts, body: &[u8]) -> Reply {
        let path = request.uri.path();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        match path {
            "/login" if request.method == Method::POST => return login(&request.headers, body),
            "/login" => return reply::not_allowed("POST"),
            _ if !reads => return reply::not_allowed("GET, HEAD"),
            _ => {}
        }
        match path {
            "/" | "/index.html" => html(page::index(&self.backends)),
            "/health" => reply::text(StatusCode::OK, "Product page is healthy"),
            "/logout" => redirect(&request.headers, Some(session::signed_out())),
            "/productpage" => self.front(request).await,
            "/static/bookinfo.css" => {
                reply::with_type(StatusCode::OK, "text/css; charset=utf-8", page::STYLE)
            }
            "/metrics" => reply::with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.backends.results().to_string(),
            ),
            _ => self.api(path, &request.headers).await,
        }
    }

    /// The page: details first, then reviews, as the original does.
    async fn front(&self, request: &Parts) -> Reply {
        let user = session::user(&request.headers);
        let headers = self.backends.forward(&request.headers, user.as_deref());
        let details = self.backends.details(PRODUCT_ID, &headers).await;
        self.backends.flood_reviews(PRODUCT_ID, &headers).await;
        let reviews = self.backends.reviews(PRODUCT_ID, &headers).await;
        html(
            Page {
                user: user.as_deref(),
                details: &details,
                reviews: &reviews,
            }
            .to_string(),
        )
    }

    /// `/api/v1/products[/ID[/reviews|/ratings]]`.
    async fn api(&self, path: &str, received: &HeaderMap) -> Reply {
        let Some(rest) = path.strip_prefix("/api/v1/products") else {
            return reply::not_found();
        };
        let mut segments = rest.split('/').skip(1);
        let (id, part) = (segments.next(), segments.next());
        if segments.next().is_some() || !(rest.is_empty() || rest.starts_with('/')) {
            return reply::not_found();
        }
        let headers = self
            .backends
            .forward(received, session::user(received).as_deref());
        let answer = match (id, part) {
            (None, _) => return reply::json(StatusCode::OK, &products()),
            (Some(""), _) => return reply::not_found(),
            (Some(id), None) => self.backends.details(id, &headers).await,
            (Some(id), Some("reviews")) => self.backends.reviews(id, &headers).await,
            (Some(id), Some("ratings")) => self.backends.ratings(id, &headers).await,
            (Some(_), Some(_)) => return reply::not_found(),
        };
        match answer {
            Ok(body) => reply::json(StatusCode::OK, &body),
            Err(failure) => reply::error(failure.status, &failure.text),
        }
    }
}

fn products() -> serde_json::Value {
    serde_json::json!([{"id": 0, "title": TITLE, "descriptionHtml": DESCRIPTION_HTML}])
}

fn login(received: &HeaderMap, body: &[u8]) -> Reply {
    let form = String::from_utf8_lossy(body);
    let user = form::field(&form, "username").unwrap_or_default();
    match session::signed_in(&user) {
        Some(cookie) => redirect(received, Some(cookie)),
        None => reply::text(
            StatusCode::BAD_REQUEST,
            "the form needs a user name of 1 to 128 printable characters\n",
        ),
    }
}

/// Back to the page that the browser comes from, when that is a page of ours.
fn redirect(received: &HeaderMap, cookie: Option<HeaderValue>) -> Reply {
    let mut reply = reply::text(StatusCode::FOUND, "");
    let headers = reply.headers_mut();
    let target = own_referrer(received)
        .and_then(|path| HeaderValue::try_from(path).ok())
        .unwrap_or(HeaderValue::from_static(FRONT));
    headers.insert(LOCATION, target);
    if let Some(cookie) = cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    reply
}

fn own_referrer(received: &HeaderMap) -> Option<String> {
    let text = |name| received.get(name)?.to_str().ok();
    let referrer: http::Uri = text(http::header::REFERER)?.parse().ok()?;
    let host = text(http::header::HOST)?;
    let path = referrer.path_and_query()?.as_str();
    // `//elsewhere/` as a location would lead to another host.
    let ours = referrer.authority()?.as_str() == host && !path.starts_with("//");
    ours.then(|| path.to_owned())
}

fn html(body: String) -> Reply {
    let mut reply = reply::with_type(StatusCode::OK, "text/html; charset=utf-8", body);
    let headers = reply.headers_mut();
    headers.insert(
        http::header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'",
        ),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    reply
}

/// The services behind the page, for the index.
const CALLED: [Role; 3] = [Role::Details, Role::Reviews, Role::Ratings];
