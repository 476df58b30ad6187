//! `StatefulSession`: requests of a session go to the endpoint that had the first of them.

use std::net::SocketAddr;

use super::Cookie;

/// How a session is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What tells the endpoint.
    pub by: SessionBy,
    /// `strict`: no other endpoint has its requests.
    pub is_strict: bool,
}

/// What tells a session's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionBy {
    /// Nothing: there are no sessions.
    Nothing,
    /// A cookie, for requests below its path.
    Cookie(Cookie),
    /// A header, by its name in lower case.
    Header(String),
}

/// The endpoint that a request is to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its address; none is one that no endpoint has.
    pub(crate) address: Option<SocketAddr>,
    /// No other one may have it.
    pub(crate) is_strict: bool,
}

impl Session {
    /// Whether it is about requests for this path.
    pub(crate) fn is_for(&self, path: &[u8]) -> bool {
        let SessionBy::Cookie(cookie) = &self.by else {
            return self.by != SessionBy::Nothing;
        };
        let of_cookie = cookie.path.as_bytes();
        if of_cookie.is_empty() || of_cookie == b"/" {
            return true;
        }
        match path.strip_prefix(of_cookie) {
            None => false,
            Some(_) if of_cookie.ends_with(b"/") => true,
            Some(rest) => matches!(rest.first(), None | Some(b'/' | b'?' | b'#')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_cookies() {
        for (of_cookie, path, expected) in [
            ("", "/a", true),
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/a?b", true),
            ("/a", "/ab", false),
            ("/a/", "/a/b", true),
            ("/a/", "/a", false),
        ] {
            let cookie = Cookie {
                path: of_cookie.to_owned(),
                ..Cookie::default()
            };
            let session = Session {
                by: SessionBy::Cookie(cookie),
                is_strict: false,
            };
            assert_eq!(
                session.is_for(path.as_bytes()),
                expected,
                "{of_cookie} {path}"
            );
        }
    }
}
