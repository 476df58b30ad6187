use periplus_insight::{dependencies, dependencies_where};
use periplus_model::{SpanKind, StatusCode};

use crate::build::{Draft, assemble, client, server, span};

fn edges(drafts: impl IntoIterator<Item = Draft>) -> Vec<(String, String, u64, u64)> {
    dependencies(&assemble(drafts))
        .into_iter()
        .map(|edge| (edge.parent, edge.child, edge.calls, edge.errors))
        .collect()
}

fn expected(edges: &[(&str, &str, u64, u64)]) -> Vec<(String, String, u64, u64)> {
    (edges.iter())
        .map(|&(parent, child, calls, errors)| (parent.to_owned(), child.to_owned(), calls, errors))
        .collect()
}

/// What the sidecars report of one request to Bookinfo's product page: a client and a server span
/// for each hop.
fn bookinfo() -> Vec<Draft> {
    vec![
        client("gateway", 1),
        server("productpage", 2).below(1),
        client("productpage", 3).below(2),
        server("details", 4).below(3),
        client("productpage", 5).below(2),
        server("reviews", 6).below(5),
        client("reviews", 7).below(6),
        server("ratings", 8).below(7),
    ]
}

const BOOKINFO: &[(&str, &str, u64, u64)] = &[
    ("gateway", "productpage", 1, 0),
    ("productpage", "details", 1, 0),
    ("productpage", "reviews", 1, 0),
    ("reviews", "ratings", 1, 0),
];

#[test]
fn each_hop_of_bookinfo_is_one_call() {
    assert_eq!(edges(bookinfo()), expected(BOOKINFO));
}

#[test]
fn shared_ids_and_copies_count_once_too() {
    // As Zipkin's clients report it: both halves of a hop under one id.
    let shared = [
        client("gateway", 1),
        server("productpage", 1),
        client("productpage", 2).below(1),
        server("details", 2).below(1),
        client("productpage", 3).below(1),
        server("reviews", 3).below(1),
        client("reviews", 4).below(3),
        server("ratings", 4).below(3),
    ];
    assert_eq!(edges(shared), expected(BOOKINFO));
    assert_eq!(edges([bookinfo(), bookinfo()].concat()), expected(BOOKINFO));
}

#[test]
fn calls_are_found_whoever_reported_them() {
    let producer = |service, id| span(service, id).kind(SpanKind::Producer);
    let consumer = |service, id| span(service, id).kind(SpanKind::Consumer);
    type Case = (
        &'static str,
        Vec<Draft>,
        &'static [(&'static str, &'static str, u64, u64)],
    );
    let cases: Vec<Case> = vec![
        (
            "no kinds at all",
            vec![span("a", 1), span("b", 2).below(1), span("b", 3).below(2)],
            &[("a", "b", 1, 0)],
        ),
        (
            "an app's client span around its sidecar's",
            vec![
                client("a", 1).with("peer.service", "b"),
                client("a", 2).below(1).with("peer.service", "b"),
                server("b", 3).below(2),
            ],
            &[("a", "b", 1, 0)],
        ),
        (
            "the same, and the called side silent",
            vec![
                client("a", 1).with("peer.service", "b"),
                client("a", 2).below(1),
            ],
            &[("a", "b", 1, 0)],
        ),
        (
            "a call to oneself",
            vec![
                server("a", 1),
                client("a", 2).below(1),
                server("a", 3).below(2),
            ],
            &[("a", "a", 1, 0)],
        ),
        (
            "a silent database",
            vec![
                server("a", 1),
                client("a", 2).below(1).with("peer.service", "mysql"),
                client("a", 3)
                    .below(1)
                    .with("service.peer.name", "mysql")
                    .failed(),
            ],
            &[("a", "mysql", 2, 1)],
        ),
        (
            "a silent caller",
            vec![server("b", 1).with("peer.service", "a")],
            &[("a", "b", 1, 0)],
        ),
        (
            "a silent caller whose span is only late",
            vec![server("b", 1).below(9).with("peer.service", "a")],
            &[],
        ),
        (
            "an uninstrumented hop",
            vec![server("a", 1), client("c", 2).below(1).failed()],
            &[("a", "c", 1, 0)],
        ),
        (
            "a span without a service in between",
            vec![
                server("a", 1),
                span("", 2).below(1),
                server("b", 3).below(2),
            ],
            &[("a", "b", 1, 0)],
        ),
        (
            "a message",
            vec![producer("a", 1), consumer("b", 2).below(1)],
            &[("a", "b", 1, 0)],
        ),
        (
            "failures, on either side",
            vec![
                server("a", 1),
                client("a", 2).below(1).failed(),
                server("b", 3).below(2),
                client("a", 4).below(1),
                server("b", 5).below(4).failed(),
                client("a", 6).below(1),
                server("b", 7).below(6),
            ],
            &[("a", "b", 3, 2)],
        ),
        (
            "a failed server does not make the calls below it failures",
            vec![server("a", 1).failed(), server("b", 2).below(1)],
            &[("a", "b", 1, 0)],
        ),
    ];
    for (name, drafts, want) in cases {
        assert_eq!(edges(drafts), expected(want), "{name}");
    }
}

#[test]
fn calls_can_be_counted_selectively() {
    let mut drafts = bookinfo();
    drafts.push(server("ratings", 9).below(7).failed());
    let failed = dependencies_where(&assemble(drafts), |span| {
        span.status.code == StatusCode::Error
    });
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].child.as_str(), failed[0].calls, failed[0].errors),
        ("ratings", 1, 1)
    );
}
