//! Zipkin's merge, tree and dependency links: a case for each rule.

use std::net::Ipv4Addr;

use periplus_insight::zipkin::{Endpoint, Links, Span, Tree, merge};
use periplus_model::{SpanId, SpanKind, TraceId};

fn span(id: u64, parent: u64) -> Span<'static> {
    Span {
        trace_id: TraceId::from_halves(0, 1),
        parent_id: (parent != 0).then(|| SpanId::from_u64(parent)),
        id: SpanId::from_u64(id),
        ..Span::default()
    }
}

fn host(service: &'static str) -> Endpoint<'static> {
    Endpoint {
        service_name: (!service.is_empty()).then(|| service.into()),
        ..Endpoint::default()
    }
}

fn of(kind: SpanKind, service: &'static str, id: u64, parent: u64) -> Span<'static> {
    Span {
        kind,
        local: host(service),
        ..span(id, parent)
    }
}

fn client(service: &'static str, id: u64, parent: u64) -> Span<'static> {
    of(SpanKind::Client, service, id, parent)
}

fn server(service: &'static str, id: u64, parent: u64) -> Span<'static> {
    of(SpanKind::Server, service, id, parent)
}

fn local(service: &'static str, id: u64, parent: u64) -> Span<'static> {
    of(SpanKind::Unspecified, service, id, parent)
}

fn shared(span: Span<'static>) -> Span<'static> {
    Span {
        shared: true,
        ..span
    }
}

fn to(span: Span<'static>, service: &'static str) -> Span<'static> {
    Span {
        remote: host(service),
        ..span
    }
}

fn failed(mut span: Span<'static>) -> Span<'static> {
    span.tags.insert("error".into(), "".into());
    span
}

fn at(span: Span<'static>, timestamp: u64) -> Span<'static> {
    Span {
        timestamp: Some(timestamp),
        ..span
    }
}

#[test]
fn parts_of_a_span_become_one() {
    let first = Span {
        timestamp: Some(1),
        annotations: vec![(3, "b".into()), (2, "a".into())],
        tags: [("k".into(), "first".into())].into(),
        ..client("web", 2, 1)
    };
    let late = Span {
        name: "get".into(),
        timestamp: Some(9),
        duration: Some(10),
        local: Endpoint {
            ipv4: Some(Ipv4Addr::LOCALHOST.into()),
            ..host("web")
        },
        remote: host("app"),
        annotations: vec![(2, "a".into()), (1, "c".into())],
        tags: [("k".into(), "late".into())].into(),
        debug: true,
        ..span(2, 1)
    };
    let [whole] = <[_; 1]>::try_from(merge(vec![late, first])).expect("one span");
    assert_eq!(
        whole,
        Span {
            name: "get".into(),
            timestamp: Some(1),
            duration: Some(10),
            local: Endpoint {
                ipv4: Some(Ipv4Addr::LOCALHOST.into()),
                ..host("web")
            },
            remote: host("app"),
            annotations: vec![(1, "c".into()), (2, "a".into()), (3, "b".into())],
            tags: [("k".into(), "late".into())].into(),
            debug: true,
            ..client("web", 2, 1)
        }
    );
}

/// Id, parent, service and `shared` of each.
fn merged(spans: &[Span<'static>]) -> Vec<(u64, u64, String, bool)> {
    let spans = merge(spans.to_vec()).into_iter();
    spans
        .map(|span| {
            (
                span.id.as_u64(),
                span.parent_id.map_or(0, SpanId::as_u64),
                span.local.service_name.unwrap_or_default().into_owned(),
                span.shared,
            )
        })
        .collect()
}

#[test]
fn what_is_not_one_span_stays_apart() {
    let elsewhere = |ip: [u8; 4]| Span {
        local: Endpoint {
            ipv4: Some(ip.into()),
            ..host("web")
        },
        ..client("web", 2, 1)
    };
    type Expected = &'static [(u64, u64, &'static str, bool)];
    let cases: [(&str, Vec<Span<'static>>, Expected); 7] = [
        ("one", vec![span(2, 1)], &[(2, 1, "", false)]),
        (
            "sorted by id",
            vec![span(3, 1), span(2, 1)],
            &[(2, 1, "", false), (3, 1, "", false)],
        ),
        (
            "two places",
            vec![client("web", 2, 1), client("app", 2, 1)],
            &[(2, 1, "app", false), (2, 1, "web", false)],
        ),
        (
            "a place not known is any",
            vec![client("web", 2, 1), client("", 2, 1)],
            &[(2, 1, "web", false)],
        ),
        (
            "what is known adds up",
            vec![
                elsewhere([1, 1, 1, 1]),
                elsewhere([2, 2, 2, 2]),
                client("web", 2, 1),
            ],
            &[(2, 1, "web", false), (2, 1, "web", false)],
        ),
        (
            "a server behind its client is shared, and takes its parent",
            vec![server("app", 2, 0), client("web", 2, 1)],
            &[(2, 1, "web", false), (2, 1, "app", true)],
        ),
        (
            "a shared half comes last and takes the parent",
            vec![shared(server("app", 2, 0)), client("web", 2, 1)],
            &[(2, 1, "web", false), (2, 1, "app", true)],
        ),
    ];
    for (name, spans, expected) in cases {
        let expected: Vec<_> = (expected.iter())
            .map(|&(id, parent, service, shared)| (id, parent, service.to_owned(), shared))
            .collect();
        assert_eq!(merged(&spans), expected, "{name}");
    }
}

#[test]
fn the_longest_trace_id_is_that_of_all() {
    let long = Span {
        trace_id: TraceId::from_halves(7, 1),
        ..span(2, 1)
    };
    let spans = merge(vec![span(1, 0), long, span(3, 1)]);
    assert!(spans.iter().all(|span| span.trace_id.high() == 7));
}

/// `service id` of each node, breadth first, with the depth; `-` for a root that did not arrive.
fn outline(spans: Vec<Span<'static>>) -> Vec<String> {
    let tree = Tree::new(spans);
    let mut depths: Vec<usize> = Vec::new();
    (tree.nodes.iter())
        .map(|node| {
            let depth = node.parent.map_or(0, |parent| depths[parent] + 1);
            depths.push(depth);
            let name = match node.span {
                None => "-".to_owned(),
                Some(span) => {
                    let span = &tree.spans[span];
                    let service = span.local.service_name.as_deref().unwrap_or("?");
                    format!("{service} {}", span.id.as_u64())
                }
            };
            format!("{}{name}", " ".repeat(depth))
        })
        .collect()
}

#[test]
fn trees_are_built_as_zipkin_builds_them() {
    let cases: [(&str, Vec<Span<'static>>, &[&str]); 9] = [
        ("nothing", vec![], &[]),
        (
            "a chain",
            vec![local("c", 3, 2), local("b", 2, 1), local("a", 1, 0)],
            &["a 1", " b 2", "  c 3"],
        ),
        (
            "a shared half hangs below its client",
            vec![client("web", 2, 0), shared(server("app", 2, 0))],
            &["web 2", " app 2"],
        ),
        (
            "the shared half adopts what ran beside it",
            vec![
                client("web", 2, 0),
                shared(server("app", 2, 0)),
                local("app", 3, 2),
                local("web", 4, 2),
            ],
            &["web 2", " app 2", " web 4", "  app 3"],
        ),
        (
            "a second root and one whose parent is missing hang below the first",
            vec![local("a", 1, 0), local("b", 2, 0), local("c", 3, 99)],
            &["a 1", " b 2", " c 3"],
        ),
        (
            "without a root there is one without a span",
            vec![local("b", 2, 98), local("c", 3, 99), local("d", 4, 3)],
            &["-", " b 2", " c 3", "  d 4"],
        ),
        (
            "siblings by time, those without one first",
            vec![
                local("a", 1, 0),
                at(local("b", 2, 1), 20),
                at(local("c", 3, 1), 10),
                local("d", 4, 1),
            ],
            &["a 1", " d 4", " c 3", " b 2"],
        ),
        (
            "its own parent hangs below the root",
            vec![local("a", 1, 0), local("b", 2, 2)],
            &["a 1", " b 2"],
        ),
        (
            "a circle is left out",
            vec![local("a", 1, 0), local("b", 2, 3), local("c", 3, 2)],
            &["a 1"],
        ),
    ];
    for (name, spans, expected) in cases {
        assert_eq!(outline(spans), expected, "{name}");
    }
}

type Edge = (&'static str, &'static str, u64, u64);

fn check(name: &str, spans: Vec<Span<'static>>, expected: &[Edge]) {
    let mut links = Links::default();
    links.add_trace(spans);
    let found = links.into_sorted();
    let found: Vec<_> = (found.iter())
        .map(|link| (&*link.parent, &*link.child, link.calls, link.errors))
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn calls_are_found_by_zipkins_rules() {
    let producer = |service, id, parent| of(SpanKind::Producer, service, id, parent);
    let consumer = |service, id, parent| of(SpanKind::Consumer, service, id, parent);
    let cases: Vec<(&str, Vec<Span<'static>>, &[Edge])> = vec![
        ("nothing", vec![], &[]),
        (
            "shared halves are one call",
            vec![client("web", 2, 0), shared(server("app", 2, 0))],
            &[("web", "app", 1, 0)],
        ),
        (
            "and so are halves with ids of their own",
            vec![client("web", 2, 0), server("app", 3, 2)],
            &[("web", "app", 1, 0)],
        ),
        (
            "the server's name for itself wins over the client's",
            vec![to(client("web", 2, 0), "backend"), server("app", 3, 2)],
            &[("web", "app", 1, 0)],
        ),
        (
            "a client whose other side is silent",
            vec![server("web", 1, 0), to(client("web", 2, 1), "mysql")],
            &[("web", "mysql", 1, 0)],
        ),
        (
            "a client that knows no name",
            vec![server("web", 1, 0), client("web", 2, 1)],
            &[],
        ),
        (
            "a server whose caller is silent",
            vec![to(server("app", 1, 0), "browser")],
            &[("browser", "app", 1, 0)],
        ),
        (
            "a server that knows no caller",
            vec![server("app", 1, 0)],
            &[],
        ),
        (
            "the server's caller is who is above it, whatever it thinks",
            vec![client("web", 1, 0), to(server("app", 2, 1), "proxy")],
            &[("web", "app", 1, 0)],
        ),
        (
            "spans without a kind are looked through",
            vec![
                server("web", 1, 0),
                local("web", 2, 1),
                local("web", 3, 2),
                server("app", 4, 3),
            ],
            &[("web", "app", 1, 0)],
        ),
        (
            "without a kind, but both sides known: a client",
            vec![server("web", 1, 0), to(local("web", 2, 1), "redis")],
            &[("web", "redis", 1, 0)],
        ),
        (
            "without a kind, one side known: nothing",
            vec![server("web", 1, 0), local("app", 2, 1)],
            &[],
        ),
        (
            "a service that calls itself",
            vec![client("web", 1, 0), server("web", 2, 1)],
            &[("web", "web", 1, 0)],
        ),
        (
            "a message, to the broker and from it",
            vec![
                to(producer("web", 1, 0), "kafka"),
                to(consumer("app", 2, 1), "kafka"),
            ],
            &[("kafka", "app", 1, 0), ("web", "kafka", 1, 0)],
        ),
        (
            "a message whose broker is not known",
            vec![producer("web", 1, 0), consumer("app", 2, 1)],
            &[],
        ),
        (
            "a failed message",
            vec![failed(to(consumer("app", 2, 1), "kafka"))],
            &[("kafka", "app", 1, 1)],
        ),
        (
            "a hop that reports nothing, which never failed",
            vec![
                server("web", 1, 0),
                failed(to(client("app", 2, 1), "mysql")),
            ],
            &[("app", "mysql", 1, 1), ("web", "app", 1, 0)],
        ),
        (
            "a client without a service takes that of the span above",
            vec![server("web", 1, 0), to(client("", 2, 1), "mysql")],
            &[("web", "mysql", 1, 0)],
        ),
        (
            "errors: the tag on the server",
            vec![client("web", 1, 0), failed(server("app", 2, 1))],
            &[("web", "app", 1, 1)],
        ),
        (
            "errors: the tag on the client above it",
            vec![failed(client("web", 1, 0)), server("app", 2, 1)],
            &[("web", "app", 1, 1)],
        ),
        (
            "errors: a client further up does not count",
            vec![
                failed(client("web", 1, 0)),
                local("web", 2, 1),
                server("app", 3, 2),
            ],
            &[("web", "app", 1, 0)],
        ),
        (
            "errors: a server above does not count",
            vec![failed(server("web", 1, 0)), server("app", 2, 1)],
            &[("web", "app", 1, 0)],
        ),
        (
            "errors: a note of that name does not count",
            vec![
                client("web", 1, 0),
                Span {
                    annotations: vec![(1, "error".into())],
                    ..server("app", 2, 1)
                },
            ],
            &[("web", "app", 1, 0)],
        ),
        (
            "spans without a root",
            vec![server("app", 2, 99), to(client("app", 3, 2), "mysql")],
            &[("app", "mysql", 1, 0)],
        ),
    ];
    for (name, spans, expected) in cases {
        check(name, spans, expected);
    }
}

#[test]
fn calls_add_up_over_traces() {
    let mut links = Links::default();
    for errors in [false, true, false] {
        let server = server("app", 2, 1);
        let server = if errors { failed(server) } else { server };
        links.add_trace(vec![client("web", 1, 0), server]);
    }
    let links = links.into_sorted();
    assert_eq!(links.len(), 1);
    assert_eq!((links[0].calls, links[0].errors), (3, 1));
}

#[test]
fn a_long_chain_is_no_trouble() {
    let chain = (1..=100_000).map(|id| local("a", id, id - 1)).collect();
    assert_eq!(Tree::new(merge(chain)).nodes.len(), 100_000);
}
