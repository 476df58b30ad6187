//! Matches of a VirtualService that never decide anything, since one before takes the same requests.

use periplus_resources::{Host, HttpMatch, StringMatch, VirtualService};

use super::super::code;
use super::super::{Entry, Problem};

/// Matches beyond this many are not held against those before.
const MOST: usize = 1_000;

pub(super) fn check(entry: &Entry<VirtualService>, problems: &mut Vec<Problem>) {
    let mut before: Vec<(&HttpMatch, u32)> = Vec::new();
    for route in &entry.spec.http {
        if route.matches.is_empty() || before.len() > MOST {
            // It takes every request: those behind it are complained of already.
            break;
        }
        let covered = route.matches.iter().map(|one| {
            let mut before = before.iter();
            before
                .find(|(other, _)| covers(other, one))
                .map(|(_, line)| *line)
        });
        let covered: Vec<_> = covered.collect();
        let line = route.at.0.line;
        let mut tell = |problem: fn(_, _, _) -> Problem, code, message| {
            problems.push(problem(&entry.meta.source, route.at.0, message).code(code));
        };
        if let Some(Some(first)) = covered.first()
            && covered.iter().all(Option::is_some)
        {
            let message = format!(
                "this rule of {} is never reached: the one at line {first} takes its requests",
                entry.meta
            );
            tell(Problem::warning, code::UNREACHABLE_RULE, message);
        } else {
            for (at, first) in covered.iter().enumerate() {
                let Some(first) = first else { continue };
                let message = format!(
                    "match {} of this rule of {} has no effect: the rule at line {first} takes its requests",
                    at + 1,
                    entry.meta
                );
                tell(Problem::info, code::INEFFECTIVE_MATCH, message);
            }
        }
        before.extend(route.matches.iter().map(|one| (one, line)));
    }
    check_connections(entry, problems);
}

/// The same for TLS that is passed through, by server name and port.
fn check_connections(entry: &Entry<VirtualService>, problems: &mut Vec<Problem>) {
    let mut before: Vec<(&Host, Option<u16>, u32)> = Vec::new();
    for route in &entry.spec.tls {
        for one in &route.matches {
            let is_plain = one.source_labels.is_empty()
                && one.source_namespace.is_none()
                && one.gateways.is_empty()
                && one.destination_subnets.is_empty();
            for host in &one.sni_hosts {
                let known = before.iter().find(|(other, port, _)| {
                    other.covers(host) && (port.is_none() || *port == one.port)
                });
                if let Some((_, _, line)) = known {
                    let message = format!(
                        "the rule at line {line} of {} takes connections to `{host}`: this one gets none",
                        entry.meta
                    );
                    let problem = Problem::warning(&entry.meta.source, route.at.0, message);
                    problems.push(problem.code(code::UNREACHABLE_RULE));
                } else if is_plain && before.len() < MOST {
                    before.push((host, one.port, route.at.0.line));
                }
            }
        }
    }
}

/// Whether whatever `other` takes is taken by `one`.
fn covers(one: &HttpMatch, other: &HttpMatch) -> bool {
    let text = |one: &Option<StringMatch>, other: &Option<StringMatch>| match (one, other) {
        (None, _) => true,
        (Some(one), Some(other)) => covers_text(one, other),
        (Some(_), None) => false,
    };
    let named = |one: &[(String, Option<StringMatch>)], other: &[(String, Option<StringMatch>)]| {
        one.iter().all(|condition| {
            let mut others = other.iter();
            others.any(|another| condition.0 == another.0 && text(&condition.1, &another.1))
        })
    };
    // What must not be there is compared as it is written.
    let without = |one: &HttpMatch, other: &HttpMatch| {
        let mut conditions = one.without_headers.iter();
        conditions.all(|condition| other.without_headers.contains(condition))
    };
    let within = |one: &Option<_>, other: &Option<_>| one.is_none() || one == other;
    let mut labels = one.source_labels.iter();
    text(&one.uri, &other.uri)
        && (one.uri.is_none() || one.ignores_uri_case == other.ignores_uri_case)
        && text(&one.method, &other.method)
        && text(&one.authority, &other.authority)
        && text(&one.scheme, &other.scheme)
        && named(&one.headers, &other.headers)
        && named(&one.query, &other.query)
        && without(one, other)
        && (one.port.is_none() || one.port == other.port)
        && within(&one.source_namespace, &other.source_namespace)
        && labels.all(|(key, value)| other.source_labels.get(key) == Some(value))
        && (one.gateways.is_empty() || one.gateways == other.gateways)
}

fn covers_text(one: &StringMatch, other: &StringMatch) -> bool {
    match (one, other) {
        (StringMatch::Prefix(prefix), StringMatch::Exact(text) | StringMatch::Prefix(text)) => {
            text.starts_with(prefix.as_str())
        }
        (one, other) => one == other,
    }
}
