//! The order in which the routes of a virtual host are asked.

use std::cmp::Reverse;

use envoy_types::pb::envoy::config::route::v3::Route;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use periplus_resources::{Host, HttpMatch, Semantics, StringMatch, VirtualService};

use super::route::{Scope, routes, rule_routes};
use crate::index::Entry;

/// What decides when a route is asked; those of a lower rank are asked first, and of the same in their own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Those that take every request come last, where the order is the writer's.
    takes_all: bool,
    precedence: Reverse<Precedence>,
}

/// How specific a rule of Gateway API is: the first of these that differs decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    host: (bool, usize),
    path: PathKind,
    path_length: usize,
    has_method: bool,
    headers: usize,
    parameters: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum PathKind {
    /// Each of them.
    #[default]
    Any,
    /// It is left to each implementation where these stand; here as in Istio, but before what takes every path.
    Regex,
    Prefix,
    Exact,
}

/// The routes that a VirtualService gives for its host `host` in a scope.
pub(super) fn ranked_routes<'a>(
    entry: &'a Entry<VirtualService>,
    scope: Scope<'a>,
    host: &Host,
) -> Vec<(Rank, Route)> {
    match entry.spec.semantics {
        Semantics::Istio => {
            let rank = |route: &Route| Rank {
                takes_all: takes_all(route),
                precedence: Reverse(Precedence::default()),
            };
            let routes = routes(entry, scope).into_iter();
            routes.map(|route| (rank(&route), route)).collect()
        }
        Semantics::GatewayApi => {
            let rank = |condition: &HttpMatch| Rank {
                takes_all: false,
                precedence: Reverse(precedence(host, condition)),
            };
            let rules = entry.spec.http.iter();
            let routes = rules.flat_map(|rule| rule_routes(entry, rule, scope));
            routes
                .map(|(condition, route)| (rank(condition), route))
                .collect()
        }
    }
}

/// Routes in the order of their ranks.
pub(super) fn in_order(mut routes: Vec<(Rank, Route)>) -> Vec<Route> {
    routes.sort_by_key(|(rank, _)| *rank);
    routes.into_iter().map(|(_, route)| route).collect()
}

fn precedence(host: &Host, condition: &HttpMatch) -> Precedence {
    let (path, path_length) = match &condition.uri {
        Some(StringMatch::Exact(path)) => (PathKind::Exact, path.len()),
        Some(StringMatch::Prefix(prefix)) if prefix != "/" => (PathKind::Prefix, prefix.len()),
        Some(StringMatch::Regex(pattern)) => (PathKind::Regex, pattern.len()),
        Some(StringMatch::Prefix(_)) | None => (PathKind::Any, 1),
    };
    Precedence {
        host: host.specificity(),
        path,
        path_length,
        has_method: condition.method.is_some(),
        headers: condition.headers.len(),
        parameters: condition.query.len(),
    }
}

/// Whether a route takes every request, so that those after it are never asked.
fn takes_all(route: &Route) -> bool {
    route.r#match.as_ref().is_some_and(|conditions| {
        let any_path = match &conditions.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
            Some(PathSpecifier::SafeRegex(matcher)) => matcher.regex == ".*",
            _ => false,
        };
        any_path
            && conditions.headers.is_empty()
            && conditions.query_parameters.is_empty()
            && conditions.dynamic_metadata.is_empty()
    })
}
