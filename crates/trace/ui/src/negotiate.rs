//! What the client accepts (RFC 9110 §12.5.3) and already has (RFC 9110 §13.1.2).

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH};

/// Whether gzip may be sent: named, or covered by `*`, with a weight above zero.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    let mut any = false;
    for value in request.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let wanted = parts.all(|parameter| weight(parameter) != Some(0.0));
            if coding.eq_ignore_ascii_case("gzip") {
                return wanted;
            }
            any |= coding == "*" && wanted;
        }
    }
    any
}

fn weight(parameter: &str) -> Option<f32> {
    parameter
        .strip_prefix("q=")
        .and_then(|text| text.trim().parse().ok())
}

/// Whether the client has this very version. Tags compare weakly: a proxy may have marked ours with `W/`.
pub(crate) fn is_fresh(request: &HeaderMap, etag: &http::HeaderValue) -> bool {
    let etag = etag.as_bytes();
    request.get_all(IF_NONE_MATCH).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let cases = [
            ("gzip", true),
            ("GZIP", true),
            ("br, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*;q=0", false),
            ("br", false),
            ("", false),
        ];
        for (value, expected) in cases {
            assert_eq!(
                accepts_gzip(&with(ACCEPT_ENCODING, value)),
                expected,
                "{value:?}"
            );
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn tags_compare_weakly_and_in_lists() {
        let etag = http::HeaderValue::from_static("\"a1\"");
        for (value, expected) in [
            ("\"a1\"", true),
            ("W/\"a1\"", true),
            ("\"b2\", \"a1\"", true),
            ("*", true),
            ("\"b2\"", false),
            ("a1", false),
        ] {
            assert_eq!(
                is_fresh(&with(IF_NONE_MATCH, value), &etag),
                expected,
                "{value:?}"
            );
        }
    }
}
