//! Where a proxy in front shows us.

use std::str::FromStr;

use axum::Router;

/// A path that begins with a slash and does not end with one; empty at the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BasePath(String);

/// Parses `/jaeger`; `/` and the empty text are the root.
pub(super) fn parse(text: &str) -> Result<BasePath, String> {
    let path = text.trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
    let is_path = path.is_empty() || path.starts_with('/');
    if !is_path || !path.chars().all(is_plain) || path.contains("//") {
        return Err(format!(
            "'{text}' is no path: begin with a slash and use letters, digits and -_.~, such as /jaeger"
        ));
    }
    Ok(BasePath(path.to_owned()))
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text)
    }
}

impl BasePath {
    /// The path; empty at the root.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What `make` makes, at the root and below this path: some clients forget the path, and a proxy
    /// may or may not take it away.
    pub(super) fn mount(&self, make: impl Fn(&str) -> Router) -> Router {
        let root = make(&self.0);
        if self.0.is_empty() {
            return root;
        }
        Router::new()
            .nest_service(&self.0, make(&self.0))
            .fallback_service(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain() {
        for (text, path) in [
            ("/", ""),
            ("", ""),
            ("/jaeger", "/jaeger"),
            ("/a/b/", "/a/b"),
        ] {
            assert_eq!(parse(text), Ok(BasePath(path.to_owned())), "{text}");
        }
        for text in [
            "jaeger",
            "/{id}",
            "/a b",
            "//a",
            "/a?b",
            "/%2f",
            "https://x/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
