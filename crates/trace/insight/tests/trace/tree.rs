use periplus_insight::Flags;
use periplus_model::{Event, Link, SpanId, SpanKind};

use crate::build::{Draft, assemble, client, only_warning, outline, server, span};

/// What arrived, and the tree that it must become.
type Case = (&'static str, Vec<Draft>, &'static [&'static str]);

#[test]
fn spans_become_the_tree_that_they_name() {
    let cases: Vec<Case> = vec![
        ("nothing", vec![], &[]),
        ("one span", vec![span("a", 1)], &["a 1"]),
        (
            "arrival in any order, children by start",
            vec![
                span("c", 4).below(2).at(30, 40),
                span("b", 3).below(1).at(50, 90),
                span("b", 2).below(1).at(10, 45),
                span("a", 1),
            ],
            &["a 1", "  b 2", "    c 4", "  b 3"],
        ),
        (
            "equal starts keep the order of arrival",
            vec![span("a", 1), span("b", 3).below(1), span("b", 2).below(1)],
            &["a 1", "  b 3", "  b 2"],
        ),
        (
            "several roots, by start",
            vec![
                span("a", 1).at(50, 60),
                span("b", 2).at(0, 10),
                span("b", 3).below(2).at(1, 2),
            ],
            &["b 2", "  b 3", "a 1"],
        ),
        (
            "a parent of zeros is none",
            vec![span("a", 1).below(0)],
            &["a 1"],
        ),
        (
            "missing parents",
            vec![
                span("a", 1).below(9).at(0, 50),
                span("b", 2).below(1).at(10, 20),
                span("c", 3).below(8).at(60, 70),
            ],
            &["a 1 missing", "  b 2", "c 3 missing"],
        ),
        (
            "its own parent",
            vec![span("a", 1).below(1), span("b", 2).below(1)],
            &["a 1 warning", "  b 2"],
        ),
        (
            "a circle opens above its earliest span, and keeps what hangs on it",
            vec![
                span("a", 1).below(3).at(20, 30),
                span("b", 2).below(1).at(10, 40),
                span("c", 3).below(2).at(20, 35),
                span("d", 4).below(3).at(21, 22),
            ],
            &["b 2 warning", "  c 3", "    a 1", "    d 4"],
        ),
    ];
    for (name, drafts, expected) in cases {
        assert_eq!(outline(&assemble(drafts)), expected, "{name}");
    }
}

#[test]
fn shared_ids_are_split_between_client_and_server() {
    let cases: Vec<Case> = vec![
        (
            "Zipkin's hop: the server is the client's child, and takes the children of its service",
            vec![
                server("b", 2).below(1).at(10, 90),
                client("b", 3).below(2).at(20, 80),
                client("a", 2).below(1).at(5, 95),
                server("a", 1),
                server("c", 3).below(2).at(30, 70),
            ],
            &[
                "a 1",
                "  a 2 shared",
                "    b 2 shared",
                "      b 3 shared",
                "        c 3 shared",
            ],
        ),
        (
            "work that the caller did below the shared id stays with the caller",
            vec![
                client("a", 2).at(0, 100),
                server("b", 2).at(20, 90),
                span("a", 3).below(2).at(1, 2),
                span("b", 4).below(2).at(30, 40),
                span("c", 5).below(2).at(50, 60),
            ],
            &["a 2 shared", "  a 3", "  b 2 shared", "    b 4", "    c 5"],
        ),
        (
            "two servers answered under one id",
            vec![
                client("a", 2),
                server("b", 2).at(10, 20),
                server("b", 2).at(30, 40),
            ],
            &["a 2 shared", "  b 2 shared", "  b 2 shared"],
        ),
        (
            "a server without its client half hangs where it says",
            vec![span("a", 1), server("b", 2).below(1)],
            &["a 1", "  b 2"],
        ),
        (
            "an id used twice without being a hop",
            vec![
                span("a", 1),
                span("b", 2).below(1).at(1, 5),
                span("c", 2).below(1).at(6, 9),
                span("c", 3).below(2).at(7, 8),
            ],
            &[
                "a 1",
                "  b 2 shared warning",
                "  c 2 shared warning",
                "    c 3",
            ],
        ),
    ];
    for (name, drafts, expected) in cases {
        assert_eq!(outline(&assemble(drafts)), expected, "{name}");
    }
}

#[test]
fn identical_copies_stay_beside_the_original() {
    let child = span("b", 2).below(1).at(10, 20).with("k", "v");
    let cases: Vec<Case> = vec![
        (
            "the copy has no children",
            vec![
                span("a", 1),
                child.clone(),
                child.clone(),
                span("c", 3).below(2).at(11, 12),
            ],
            &["a 1", "  b 2", "    c 3", "  b 2 copy warning"],
        ),
        (
            "a different attribute is a different span",
            vec![span("a", 1), child.clone(), child.clone().with("k", "w")],
            &["a 1", "  b 2 shared warning", "  b 2 shared warning"],
        ),
        (
            "a different resource is a different span",
            vec![span("a", 1), child.clone(), child.clone().on("elsewhere")],
            &["a 1", "  b 2 shared warning", "  b 2 shared warning"],
        ),
        (
            "copies of an orphan miss the same parent",
            vec![child.clone(), child],
            &["b 2 missing", "b 2 missing copy warning"],
        ),
        (
            "copies of both halves of a hop",
            vec![
                client("a", 2),
                server("b", 2).at(10, 20),
                client("a", 2),
                server("b", 2).at(10, 20),
            ],
            &[
                "a 2 shared",
                "  b 2 shared",
                "  b 2 copy warning",
                "a 2 copy warning",
            ],
        ),
    ];
    for (name, drafts, expected) in cases {
        assert_eq!(outline(&assemble(drafts)), expected, "{name}");
    }
}

#[test]
fn the_root_is_the_earliest_span_without_a_parent() {
    let cases = [
        (vec![], None),
        (vec![span("a", 1).below(9)], Some(1)),
        (
            vec![span("a", 1).below(9).at(0, 1), span("a", 2).at(5, 6)],
            Some(2),
        ),
        (
            vec![
                span("a", 1).below(9).at(3, 4),
                span("a", 2).below(8).at(1, 2),
            ],
            Some(2),
        ),
        (vec![span("a", 1).at(3, 4), span("a", 2).at(1, 2)], Some(2)),
        // One that names itself as its parent is a root only for want of a better one.
        (
            vec![span("a", 1).below(1).at(0, 1), span("a", 2).at(1, 2)],
            Some(2),
        ),
    ];
    for (drafts, expected) in cases {
        let trace = assemble(drafts);
        let root = trace.root.map(|root| trace.span(&trace.rows[root]).span_id);
        assert_eq!(
            root,
            expected.map(SpanId::from_u64),
            "{:?}",
            outline(&trace)
        );
    }
}

#[test]
fn missing_parents_are_listed_once_each() {
    let trace = assemble([
        span("a", 1).below(9).at(2, 3),
        span("a", 2).below(8).at(1, 3),
        span("a", 3).below(9).at(4, 5),
    ]);
    assert_eq!(trace.missing, [8, 9].map(SpanId::from_u64));
}

#[test]
fn warnings_say_what_was_done() {
    for (drafts, expected) in [
        (
            vec![span("a", 1).below(1)],
            "this span names itself as its parent; shown as a root",
        ),
        (
            vec![
                span("a", 1).below(2).at(0, 9),
                span("b", 2).below(1).at(1, 2),
            ],
            "parent span 0000000000000002 is a descendant of this span; shown as a root",
        ),
        (
            vec![span("a", 1), span("a", 1)],
            "an identical copy of this span arrived before",
        ),
    ] {
        assert_eq!(only_warning(&assemble(drafts)), expected);
    }
}

#[test]
fn flags_have_the_bits_of_the_api() {
    let full = span("a", 1)
        .kind(SpanKind::Internal)
        .failed()
        .change(|span| {
            span.events.push(Event::default());
            span.links.push(Link::default());
        });
    let trace = assemble([full]);
    assert_eq!(trace.rows[0].flags.bits(), 1 | 64 | 128);
    let flags = [
        Flags::ERROR,
        Flags::PARENT_MISSING,
        Flags::SKEW_ADJUSTED,
        Flags::SHARED_ID,
        Flags::DUPLICATE,
        Flags::WARNING,
        Flags::EVENTS,
        Flags::LINKS,
    ];
    assert_eq!(flags.map(Flags::bits), [1, 2, 4, 8, 16, 32, 64, 128]);
}

#[test]
fn own_time_is_what_no_child_covers() {
    let trace = assemble([
        span("a", 1).at(0, 100),
        span("a", 2).below(1).at(10, 30),
        span("a", 3).below(1).at(20, 40),
        span("a", 4).below(1).at(25, 35),
        span("a", 5).below(1).at(90, 130),
    ]);
    let own: Vec<u64> = (trace.rows.iter())
        .map(|row| row.self_nano / 1_000_000)
        .collect();
    assert_eq!(own, [60, 20, 20, 10, 40]);
}

#[test]
fn errors_are_statuses_and_true_tags() {
    for (draft, expected) in [
        (span("a", 1), false),
        (span("a", 1).failed(), true),
        (span("a", 1).with("error", true), true),
        (span("a", 1).with("error", false), false),
        (span("a", 1).with("error", "true"), true),
        (span("a", 1).with("error", "false"), false),
        (span("a", 1).with("error", 1_i64), false),
    ] {
        let trace = assemble([draft]);
        assert_eq!(
            trace.rows[0].flags.contains(Flags::ERROR),
            expected,
            "{:?}",
            trace.span(&trace.rows[0])
        );
    }
}
