//! A browser cannot send a header on its own: a page that is opened with `?token=` gets a cookie.

use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::Access;

const NAME: &str = "periplus-token";

/// The token in the cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .map(|(_, token)| token.as_bytes())
}

/// The answer to a page that is opened with `?token=`: the same page without it, and a cookie that
/// scripts and other sites cannot use. `None` if the request is no such.
pub(super) fn answer(
    access: &Access,
    method: &Method,
    uri: &Uri,
    secure: bool,
) -> Option<Response> {
    if method != Method::GET {
        return None;
    }
    let query = uri.query()?;
    let token = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))?;
    access.find(token.as_bytes())?;
    let others: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.starts_with("token="))
        .collect();
    // Only a path: the answer must not lead elsewhere. Browsers take a backslash for a slash.
    let path = format!("/{}", uri.path().trim_start_matches(['/', '\\']));
    let location = match others.as_slice() {
        [] => path,
        others => format!("{path}?{}", others.join("&")),
    };
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{NAME}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let headers = [
        (LOCATION, HeaderValue::try_from(location).ok()?),
        (SET_COOKIE, HeaderValue::try_from(cookie).ok()?),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Some((StatusCode::SEE_OTHER, headers).into_response())
}
