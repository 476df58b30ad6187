//! Trace ids, however somebody copied them.

use periplus_model::TraceId;

/// A trace, and where a link says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) id: TraceId,
    pub(super) server: Option<String>,
}

/// Reads an id (1 to 32 hex digits, upper or lower case, `0x` before or hyphens inside), a header's
/// value (`traceparent`, `b3`, `uber-trace-id`, X-Ray's `Root=`), or the link of a page or an API.
pub(super) fn parse(text: &str) -> Result<Reference, String> {
    let text = text.trim();
    let (server, path) = match text.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (Some(format!("{scheme}://{host}")), path)
        }
        None => (None, text),
    };
    let found = if server.is_some() || path.contains('/') {
        let (base, id) = in_path(path).ok_or_else(|| {
            format!("'{text}' is no link to a trace: it has no /trace/ID or /traces/ID")
        })?;
        (server.map(|server| server + base.trim_end_matches('/')), id)
    } else {
        (None, in_header(path))
    };
    let (server, digits) = found;
    let digits: String = digits.chars().filter(|c| *c != '-').collect();
    let digits = digits.strip_prefix("0x").unwrap_or(&digits);
    match digits.parse::<TraceId>() {
        Ok(id) if !id.is_zero() => Ok(Reference { id, server }),
        Ok(_) => Err(format!("'{text}' is no trace id: all of it is zero")),
        Err(error) => Err(format!("'{text}' is no trace id: {error}")),
    }
}

/// The id in a link's path, and the base path before it.
fn in_path(path: &str) -> Option<(String, &str)> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let at = segments
        .iter()
        .rposition(|segment| ["trace", "traces"].contains(segment))?;
    let id = segments.get(at + 1)?;
    // What stands before the pages and APIs of Jaeger, Zipkin and ours.
    let end = segments[..at]
        .iter()
        .position(|segment| ["api", "zipkin"].contains(segment))
        .unwrap_or(at);
    let base: String = segments[..end]
        .iter()
        .map(|segment| format!("/{segment}"))
        .collect();
    Some((base, id))
}

/// The id in a header's value; the text itself if it is none.
fn in_header(text: &str) -> &str {
    let parts: Vec<&str> = text.split('-').collect();
    // X-Ray: the id is eight digits of time and 24 others.
    if let Some(root) = text
        .split(';')
        .find_map(|part| part.trim().strip_prefix("Root="))
    {
        return root.strip_prefix("1-").unwrap_or(root);
    }
    if let Some(rest) = text.strip_prefix("1-")
        && rest.len() == 33
    {
        return rest;
    }
    match parts.as_slice() {
        [version, id, span, flags] if (version.len(), span.len(), flags.len()) == (2, 16, 2) => id,
        [id, span, ..] if span.len() == 16 && (id.len() == 16 || id.len() == 32) => id,
        _ => text.split([':', ' ']).next().unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_in_any_form() {
        let id = TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124);
        for text in [
            "463ac35c9f6413ad48485a3953bb6124",
            " 463AC35C9F6413AD48485A3953BB6124 ",
            "0x463ac35c9f6413ad48485a3953bb6124",
            "463ac35c-9f64-13ad-4848-5a3953bb6124",
            "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01",
            "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1",
            "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312",
            "463ac35c9f6413ad48485a3953bb6124:a2fb4a1d1a96d312:0:1",
            "Root=1-463ac35c-9f6413ad48485a3953bb6124;Parent=a2fb4a1d1a96d312;Sampled=1",
            "1-463ac35c-9f6413ad48485a3953bb6124",
            "/trace/463ac35c9f6413ad48485a3953bb6124?uiFind=x",
        ] {
            let expected = Ok(Reference { id, server: None });
            assert_eq!(parse(text), expected, "{text}");
        }
        let short = parse("abc").map(|found| found.id);
        assert_eq!(short, Ok(TraceId::from_halves(0, 0xabc)));
    }

    #[test]
    fn links_name_their_server() {
        for (link, server) in [
            (
                "http://host:16686/trace/abc?uiFind=x#y",
                "http://host:16686",
            ),
            ("http://host/jaeger/trace/abc", "http://host/jaeger"),
            ("http://host/api/traces/abc", "http://host"),
            (
                "http://host/base/api/periplus/v1/traces/abc/spans",
                "http://host/base",
            ),
            ("http://host:9411/zipkin/traces/abc", "http://host:9411"),
        ] {
            let found = parse(link).unwrap();
            assert_eq!(found.server.as_deref(), Some(server), "{link}");
            assert_eq!(found.id, TraceId::from_halves(0, 0xabc));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, part) in [
            ("", "cannot be empty"),
            ("xyz", "is not a hex digit"),
            ("0", "all of it is zero"),
            ("463ac35c9f6413ad48485a3953bb61240", "longer than 32"),
            ("http://host/search", "no link to a trace"),
            ("http://host/trace/", "no link to a trace"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
