//! Who is signed in: a cookie with the name. Any name will do, there are no passwords here, hence
//! no signature either.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::form;

const MAX_NAME: usize = 128;

/// The user of a request, fit for a header.
pub(super) fn user(received: &HeaderMap) -> Option<String> {
    received
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("session="))
        .map(form::decode)
        .filter(|name| is_usable(name))
}

/// The cookie of a user who signs in.
pub(super) fn signed_in(user: &str) -> Option<HeaderValue> {
    let user = user.trim();
    if !is_usable(user) {
        return None;
    }
    let cookie = format!(
        "session={}; Path=/; HttpOnly; SameSite=Lax",
        form::encode(user)
    );
    HeaderValue::try_from(cookie).ok()
}

/// The cookie that ends a session.
pub(super) fn signed_out() -> HeaderValue {
    HeaderValue::from_static("session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}

fn is_usable(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_cookies() {
        let cases = [
            ("session=jason", Some("jason")),
            ("a=b; session=jason; c=d", Some("jason")),
            ("session=%3Cb%3E", Some("<b>")),
            ("session=a%0d%0ax-evil: 1", None),
            ("session=", None),
            ("xsession=jason", None),
        ];
        for (cookie, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(cookie));
            assert_eq!(user(&headers).as_deref(), expected, "{cookie}");
        }
    }

    #[test]
    fn a_session_survives_the_round_trip() {
        for name in ["jason", "Jörg; Path=/evil", "<script>", "a=b"] {
            let set = signed_in(name).unwrap();
            let cookie = set.to_str().unwrap().split("; ").next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::try_from(cookie).unwrap());
            assert_eq!(user(&headers).as_deref(), Some(name));
        }
        assert!(signed_in(" \t").is_none());
        assert!(signed_in(&"x".repeat(MAX_NAME + 1)).is_none());
    }
}
