//! Rules of routes in the form of a VirtualService's.

use periplus_resources::gateway_api::{PathChange, Redirection, RequestRule, UrlRewrite};
use periplus_resources::{
    Action, ConnectionMatch, ConnectionRoute, DirectResponse, Host, HttpMatch, HttpRoute, Meta,
    Mirror, Redirect, Retries, Rewrite, StringMatch, WeightedDestination,
};

use super::backends::{Lookup, lead_anywhere};
use super::status::Flaw;

/// A rule for each condition; what is wrong with the backends is added to `flaws`.
pub(super) fn of_requests(
    lookup: Lookup<'_>,
    meta: &Meta,
    rule: &RequestRule,
    flaws: &mut Vec<Flaw>,
) -> Vec<HttpRoute> {
    let destinations = lookup.destinations(meta, &rule.backends, flaws);
    let mut mirrors = Vec::new();
    for mirror in &rule.filters.mirrors {
        match lookup.destination(meta, &mirror.backend) {
            Ok(destination) if mirror.share > 0 => mirrors.push(Mirror {
                destination,
                share: mirror.share,
            }),
            Ok(_) => {}
            Err(flaw) => flaws.push(flaw),
        }
    }
    let retries = rule.retries.clone();
    let retries = retries.unwrap_or_else(|| lookup.index.mesh().retries.clone());
    // Without another attempt there is one time only, the shorter one.
    let timeout = match (retries.attempts, rule.timeout, rule.backend_timeout) {
        (0, all, one) => one.or(all),
        (_, all, _) => all,
    };
    let route = |condition: &HttpMatch| HttpRoute {
        name: rule.name.clone(),
        matches: vec![condition.clone()],
        action: action(rule, condition, &destinations),
        timeout,
        retries: Some(Retries {
            per_try_timeout: rule.backend_timeout.or(retries.per_try_timeout),
            ..retries.clone()
        }),
        fault: None,
        rewrite: rule
            .filters
            .rewrite
            .as_ref()
            .and_then(|change| rewrite(change, condition)),
        headers: rule.filters.headers.clone(),
        mirrors: mirrors.clone(),
        cors: rule.filters.cors.clone(),
        at: rule.at,
    };
    rule.matches.iter().map(route).collect()
}

fn action(
    rule: &RequestRule,
    condition: &HttpMatch,
    destinations: &[WeightedDestination],
) -> Action {
    match (&rule.filters.redirect, destinations) {
        (Some(change), _) => Action::Redirect(redirect(change, condition)),
        (None, nowhere) if !lead_anywhere(nowhere) => Action::Respond(DirectResponse {
            status: 500,
            body: String::new(),
        }),
        (None, destinations) => Action::Route(destinations.to_vec()),
    }
}

fn redirect(change: &Redirection, condition: &HttpMatch) -> Redirect {
    let (uri, regex) = match &change.path {
        None => (None, None),
        Some(PathChange::Full(path)) => (Some(path.clone()), None),
        Some(PathChange::Prefix(by)) => (None, prefix_regex(prefix_of(condition), by)),
    };
    Redirect {
        uri,
        regex,
        authority: change.hostname.clone(),
        scheme: change.scheme.clone(),
        port: change.port,
        derives_port: true,
        keeps_port: false,
        prefix: None,
        status: change.status,
    }
}

fn rewrite(change: &UrlRewrite, condition: &HttpMatch) -> Option<Rewrite> {
    let prefix = prefix_of(condition);
    let (uri, regex) = match &change.path {
        None => (None, None),
        Some(PathChange::Full(path)) => (None, Some(("/.*".to_owned(), literal(path)))),
        // Where both have segments, Envoy's own way to replace prefixes does what is meant.
        Some(PathChange::Prefix(by)) if prefix != "/" && !without_end(by).is_empty() => {
            (Some(without_end(by).to_owned()), None)
        }
        Some(PathChange::Prefix(by)) => (None, prefix_regex(prefix, by)),
    };
    let rewrite = Rewrite {
        uri,
        regex,
        authority: change.hostname.clone(),
    };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

/// The prefix that a condition asks for.
fn prefix_of(condition: &HttpMatch) -> &str {
    match &condition.uri {
        Some(StringMatch::Prefix(prefix)) => prefix,
        _ => "/",
    }
}

fn without_end(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// The expression that replaces a prefix of whole segments, and what becomes of it: there is one slash between what
/// replaces it and the rest, whether or not either has one.
fn prefix_regex(prefix: &str, by: &str) -> Option<(String, String)> {
    let by = without_end(by);
    let escaped = escape(without_end(prefix));
    match (prefix, by) {
        ("/", "") => None,
        (_, "") => Some((format!("^{escaped}/?(.*)$"), r"/\1".to_owned())),
        ("/", by) => Some(("^/(.*)$".to_owned(), format!(r"{}/\1", literal(by)))),
        (_, by) => Some((format!("^{escaped}(/.*)?$"), format!(r"{}\1", literal(by)))),
    }
}

/// A text within a regular expression of RE2.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A text in place of what an expression has matched.
fn literal(text: &str) -> String {
    text.replace('\\', r"\\")
}

/// Connections at a gateway; with names, those of TLS that ask for one of them.
pub(super) fn of_connections(
    names: &[Host],
    destinations: Vec<WeightedDestination>,
    at: periplus_resources::At,
) -> ConnectionRoute {
    let condition = (!names.is_empty()).then(|| ConnectionMatch {
        sni_hosts: names.to_vec(),
        ..ConnectionMatch::default()
    });
    ConnectionRoute {
        name: String::new(),
        matches: condition.into_iter().collect(),
        destinations,
        at,
    }
}
