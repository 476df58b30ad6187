//! How many configurations are compared, by what they are about: each is another listener, cluster, route, filter,
//! filter of a log, or format of one, that both proxies get.

use std::path::Path;

use crate::policies::{authz, jwt, rbac};
use crate::{
    access_logs, balancing, expressions, filters, route_tracing, rules, sessions, tcp, world,
};

/// What they are about, and how many there are.
fn table() -> [(&'static str, usize); 21] {
    [
        (
            "listeners: direction, edge, tracing",
            world::LISTENERS.len(),
        ),
        ("clusters and protocols by route", world::routes().len()),
        ("changes of headers", rules::edits().len()),
        ("rewrites", rules::rewrites().len()),
        ("tracing of routes", route_tracing::routes().len()),
        ("redirects", rules::redirects().len()),
        ("conditions of routes", rules::conditions().len()),
        ("faults", rules::faults().len()),
        ("retries", rules::retries().len()),
        ("CORS", filters::cors().len()),
        ("copies of requests", filters::mirrors().len()),
        ("times", filters::times().len()),
        ("rate limits", filters::limits().len()),
        ("sessions and sizes of requests", sessions::routes().len()),
        (
            "rules of RBAC",
            rbac::policies().len() + 1 + rbac::by_route().len(),
        ),
        ("tokens", jwt::count() + jwt::by_route().len()),
        (
            "services that are asked",
            authz::count() + authz::by_route().len(),
        ),
        ("balancing", balancing::count()),
        ("TCP", tcp::CASES.len()),
        (
            "formats of access logs",
            access_logs::of_requests(Path::new(""), "").len(),
        ),
        ("expressions", expressions::EXPRESSIONS.len()),
    ]
}

#[test]
fn all_configurations_are_counted() {
    let text = include_str!("../../../../../docs/differences-from-envoy.md");
    let table = table();
    let all: usize = table.iter().map(|(_, count)| count).sum();
    assert!(all >= 60, "{all}");
    let rows: String = table
        .iter()
        .map(|(feature, count)| {
            assert!(*count > 0, "{feature}");
            format!("| {feature} | {count} |\n")
        })
        .collect();
    assert!(
        text.contains(&rows) && text.contains(&format!("{all} configurations")),
        "the document should say: {all} configurations\n{rows}"
    );
}
