//! The rules of GRPCRoutes: what is called is the path `/SERVICE/METHOD` (gRPC over HTTP/2).

use super::http_route::read_headers;
use super::route::read_backends;
use super::{Filters, RequestRule, items_up_to};
use crate::diagnostic::At;
use crate::string_match::StringMatch;
use crate::view::{Object, Shape, View};
use crate::virtual_service::HttpMatch;

pub(super) fn read_rules(object: &Object<'_>, namespace: &str) -> Option<Vec<RequestRule>> {
    let rules = items_up_to(object, "rules", 16);
    if rules.is_empty() {
        object.fail("`rules` must hold at least one rule");
        return None;
    }
    rules
        .iter()
        .map(|view| read_rule(view, namespace))
        .collect()
}

fn read_rule(view: &View<'_>, namespace: &str) -> Option<RequestRule> {
    const RULE: Shape = Shape {
        known: &["name", "matches", "filters", "backendRefs"],
        refused: &[(
            "sessionPersistence",
            "write a DestinationRule with `loadBalancer.consistentHash`",
        )],
    };
    let object = view.object(&RULE)?;
    let matches = items_up_to(&object, "matches", 64);
    let mut matches: Vec<_> = matches.iter().map(read_match).collect::<Option<_>>()?;
    if matches.is_empty() {
        matches.push(HttpMatch::default());
    }
    Some(RequestRule {
        name: object
            .optional("name", View::some_text)?
            .unwrap_or_default(),
        matches,
        filters: Filters::read_of_grpc(&object, namespace)?,
        backends: read_backends(&object, namespace)?,
        timeout: None,
        backend_timeout: None,
        retries: None,
        at: At(view.at()),
    })
}

fn read_match(view: &View<'_>) -> Option<HttpMatch> {
    const MATCH: Shape = Shape {
        known: &["method", "headers"],
        refused: &[],
    };
    let object = view.object(&MATCH)?;
    let uri = match object.get("method") {
        Some(view) => Some(read_method(view)?),
        None => None,
    };
    Some(HttpMatch {
        uri,
        headers: read_headers(&object)?,
        ..HttpMatch::default()
    })
}

fn read_method(view: &View<'_>) -> Option<StringMatch> {
    const METHOD: Shape = Shape {
        known: &["type", "service", "method"],
        refused: &[],
    };
    let object = view.object(&METHOD)?;
    let kinds = [("Exact", false), ("RegularExpression", true)];
    let is_regex = object.optional("type", |view| view.choice(&kinds))?;
    let is_regex = is_regex.unwrap_or(false);
    let read = |field: &str| match object.get(field) {
        None => Some(None),
        Some(view) if is_regex => match StringMatch::read_regex(view)? {
            StringMatch::Regex(pattern) => Some(Some(pattern)),
            _ => None,
        },
        Some(view) => {
            let name = view.some_ascii()?;
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if !name.chars().all(valid) {
                view.fail(format!("`{name}` is no name of a {field} of gRPC"));
                return None;
            }
            Some(Some(name))
        }
    };
    let any = || "[^/]+".to_owned();
    Some(match (read("service")?, read("method")?, is_regex) {
        (None, None, _) => {
            object.fail("expected `service`, `method` or both");
            return None;
        }
        (Some(service), Some(method), false) => StringMatch::Exact(format!("/{service}/{method}")),
        (Some(service), None, false) => StringMatch::Prefix(format!("/{service}/")),
        (None, Some(method), false) => {
            StringMatch::Regex(format!("/[^/]+/{}", regex::escape(&method)))
        }
        (service, method, true) => StringMatch::Regex(format!(
            "/(?:{})/(?:{})",
            service.unwrap_or_else(any),
            method.unwrap_or_else(any)
        )),
    })
}
