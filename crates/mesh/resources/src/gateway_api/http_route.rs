//! The rules of HTTPRoutes.

use std::time::Duration;

use super::route::read_backends;
use super::{Filters, PathChange, RequestRule, items_up_to};
use crate::diagnostic::At;
use crate::path::check_path;
use crate::string_match::StringMatch;
use crate::view::{Object, Shape, View};
use crate::virtual_service::{HttpMatch, Retries};

/// What is tried again besides the codes that a rule names: an attempt whose connection fails, or that is not answered.
const ALWAYS_RETRIED: &str = "connect-failure,refused-stream,reset,unavailable,cancelled";

pub(super) fn read_rules(object: &Object<'_>, namespace: &str) -> Option<Vec<RequestRule>> {
    let rules = items_up_to(object, "rules", 16);
    if object.get("rules").is_some() && rules.is_empty() {
        object.fail(
            "`rules` must hold at least one rule: left out, there is one that takes every request",
        );
        return None;
    }
    if object.get("rules").is_none() {
        // As the schema has it: one that takes every request, and leads nowhere.
        let rule = RequestRule {
            name: String::new(),
            matches: vec![HttpMatch::default()],
            filters: Filters::default(),
            backends: Vec::new(),
            timeout: None,
            backend_timeout: None,
            retries: None,
            at: At(object.view().at()),
        };
        return Some(vec![rule]);
    }
    rules
        .iter()
        .map(|view| read_rule(view, namespace))
        .collect()
}

fn read_rule(view: &View<'_>, namespace: &str) -> Option<RequestRule> {
    const RULE: Shape = Shape {
        known: &[
            "name",
            "matches",
            "filters",
            "backendRefs",
            "timeouts",
            "retry",
        ],
        refused: &[(
            "sessionPersistence",
            "write a DestinationRule with `loadBalancer.consistentHash`",
        )],
    };
    const TIMEOUTS: Shape = Shape {
        known: &["request", "backendRequest"],
        refused: &[],
    };
    let object = view.object(&RULE)?;
    let matches = items_up_to(&object, "matches", 64);
    let mut matches: Vec<_> = matches.iter().map(read_match).collect::<Option<_>>()?;
    if matches.is_empty() {
        matches.push(HttpMatch::default());
    }
    let filters = Filters::read(&object, namespace)?;
    let backends = read_backends(&object, namespace)?;
    check_path_change(&object, &matches, &filters)?;
    if filters.redirect.is_some() && !backends.is_empty() {
        object.fail("`RequestRedirect` answers the request itself: leave out `backendRefs`");
        return None;
    }
    let (mut timeout, mut backend_timeout) = (None, None);
    if let Some(view) = object.get("timeouts") {
        let timeouts = view.object(&TIMEOUTS)?;
        let some = |time: &Duration| !time.is_zero();
        timeout = timeouts.optional("request", View::duration)?.filter(some);
        backend_timeout = timeouts
            .optional("backendRequest", View::duration)?
            .filter(some);
        if let (Some(all), Some(one)) = (timeout, backend_timeout)
            && one > all
        {
            timeouts.fail("`backendRequest` must not be longer than `request`");
            return None;
        }
    }
    Some(RequestRule {
        name: object
            .optional("name", View::some_text)?
            .unwrap_or_default(),
        matches,
        filters,
        backends,
        timeout,
        backend_timeout,
        retries: object.optional("retry", read_retry)?,
        at: At(view.at()),
    })
}

/// A prefix can be replaced only where there is one.
fn check_path_change(object: &Object<'_>, matches: &[HttpMatch], filters: &Filters) -> Option<()> {
    let of_redirect = filters.redirect.as_ref().and_then(|one| one.path.as_ref());
    let of_rewrite = filters.rewrite.as_ref().and_then(|one| one.path.as_ref());
    let is_prefix = |one: &HttpMatch| matches!(one.uri, None | Some(StringMatch::Prefix(_)));
    let replaces = matches!(of_redirect.or(of_rewrite), Some(PathChange::Prefix(_)));
    if replaces && (matches.len() != 1 || !matches.iter().all(is_prefix)) {
        object.fail("`ReplacePrefixMatch` needs exactly one match, of a path by `PathPrefix`");
        return None;
    }
    Some(())
}

fn read_match(view: &View<'_>) -> Option<HttpMatch> {
    const MATCH: Shape = Shape {
        known: &["path", "headers", "queryParams", "method"],
        refused: &[],
    };
    let object = view.object(&MATCH)?;
    let uri = match object.get("path") {
        Some(view) => Some(read_path(view)?),
        None => None,
    };
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let methods = methods.map(|name| (name, name));
    let method = object.optional("method", |view| view.choice(&methods))?;
    Some(HttpMatch {
        uri,
        is_of_whole_segments: true,
        method: method.map(|name| StringMatch::Exact(name.to_owned())),
        headers: read_headers(&object)?,
        query: read_values(&object, "queryParams", |view| view.some_ascii())?,
        ..HttpMatch::default()
    })
}

/// The headers of a match, of which names in another case are the same.
pub(super) fn read_headers(object: &Object<'_>) -> Option<Vec<(String, Option<StringMatch>)>> {
    read_values(object, "headers", |view| view.header_name())
}

/// Of several for one name the first counts.
fn read_values(
    object: &Object<'_>,
    field: &str,
    name: impl Fn(&View<'_>) -> Option<String>,
) -> Option<Vec<(String, Option<StringMatch>)>> {
    const VALUE: Shape = Shape {
        known: &["type", "name", "value"],
        refused: &[],
    };
    let mut values: Vec<(String, Option<StringMatch>)> = Vec::new();
    for view in items_up_to(object, field, 16) {
        let value = view.object(&VALUE)?;
        let name = name(value.require("name")?)?;
        let is_regex = value.optional("type", |view| {
            view.choice(&[("Exact", false), ("RegularExpression", true)])
        })?;
        let text = value.require("value")?;
        let condition = match is_regex.unwrap_or(false) {
            true => StringMatch::read_regex(text)?,
            false => StringMatch::Exact(text.some_ascii()?),
        };
        if !values.iter().any(|(known, _)| *known == name) {
            values.push((name, Some(condition)));
        }
    }
    Some(values)
}

fn read_path(view: &View<'_>) -> Option<StringMatch> {
    const PATH: Shape = Shape {
        known: &["type", "value"],
        refused: &[],
    };
    let object = view.object(&PATH)?;
    let kinds = [("PathPrefix", 0), ("Exact", 1), ("RegularExpression", 2)];
    let kind = object
        .optional("type", |view| view.choice(&kinds))?
        .unwrap_or(0);
    let Some(value) = object.get("value") else {
        return Some(StringMatch::Prefix("/".to_owned()));
    };
    if kind == 2 {
        return StringMatch::read_regex(value);
    }
    let path = value.some_ascii()?;
    if !check_path(value, &path) || !is_encoded(value, &path) {
        return None;
    }
    Some(match kind {
        1 => StringMatch::Exact(path),
        _ => match path.trim_end_matches('/') {
            "" => StringMatch::Prefix("/".to_owned()),
            trimmed => StringMatch::Prefix(trimmed.to_owned()),
        },
    })
}

/// Whether a path holds only what is left as it is in one (RFC 3986 §3.3); it is said if not.
fn is_encoded(view: &View<'_>, path: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@%".contains(c);
    if let Some(c) = path.chars().find(|c| !valid(*c)) {
        view.fail(format!("`{path}`: a path has no `{c}`"));
        return false;
    }
    let is_code = |rest: &str| {
        let code = rest.as_bytes().get(..2);
        code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    };
    if !path.split('%').skip(1).all(is_code) {
        view.fail(format!(
            "`{path}`: `%` stands before two hexadecimal digits in a path"
        ));
        return false;
    }
    true
}

fn read_retry(view: &View<'_>) -> Option<Retries> {
    const RETRY: Shape = Shape {
        known: &["codes", "attempts", "backoff"],
        refused: &[],
    };
    let object = view.object(&RETRY)?;
    let codes = items_up_to(&object, "codes", 64);
    let codes = codes.iter().map(|view| view.number(400, 599));
    let codes: Vec<_> = codes.collect::<Option<_>>()?;
    let codes = codes.iter().map(|code| format!(",{code}"));
    let attempts = object.optional("attempts", |view| view.number(0, 1 << 16))?;
    let unset = Retries::default();
    Some(Retries {
        attempts: attempts.map_or(unset.attempts, |attempts| attempts as u32),
        on: Some(format!("{ALWAYS_RETRIED}{}", codes.collect::<String>())),
        back_off: object.optional("backoff", View::duration)?,
        ..unset
    })
}
