//! Conditions on more than attributes: patterns, ids, the whole trace, and other spans of it.

use periplus_model::{Event, SpanKind, Status, StatusCode};

use super::build::{Draft, SECOND, Store, line, noon, span, write};

/// Asks each line; the ids of what it finds are in ascending order.
async fn check(store: &Store, cases: &[(&str, &[u64])]) {
    for (text, expected) in cases {
        let mut found = line(text).ids(store).await;
        found.sort_unstable();
        assert_eq!(found, *expected, "{text}");
    }
}

pub(crate) async fn patterns_match_all_of_a_text(store: Store) {
    write(
        &store,
        [
            span(1, "a", 1).named("GET /").with("k", "500"),
            span(2, "a", 1).named("GET").with("k", 500_i64),
            span(3, "b", 1).named("get\n/").with("k", "x"),
            span(3, "b", 2).named("PUT /").with_event("k", "500"),
        ],
    )
    .await;
    let cases: &[(&str, &[u64])] = &[
        ("name=~GET", &[2]),
        ("name=~GET.*", &[1, 2]),
        ("name=~\"(?i)get\\s?/?\"", &[1, 2, 3]),
        ("name=~\"GET|PUT /\"", &[2, 3]),
        // Some span does not match, even though another one does.
        ("name!~\"PUT.*\"", &[1, 2, 3]),
        ("NOT {name=~\"PUT.*\"}", &[1, 2]),
        ("name=GET*", &[1, 2]),
        ("name=*/", &[1, 3]),
        ("name!=GET*", &[3]),
        // Text only; a missing key neither matches nor differs.
        ("k=~\"5.*\"", &[1, 3]),
        ("k!~\"5.*\"", &[3]),
        ("event.k=~\"5.*\"", &[3]),
        ("service=~\"[a]\"", &[1, 2]),
        ("duration=~\".*\"", &[]),
        ("none!~x", &[]),
    ];
    check(&store, cases).await;
}

pub(crate) async fn ids_events_and_links_compare(store: Store) {
    let event = |draft: Draft, name: &str, nano: i64| {
        draft.change(|draft| {
            draft.span.events.push(Event {
                name: name.to_owned(),
                time_unix_nano: draft.span.start_unix_nano.wrapping_add_signed(nano),
                ..Event::default()
            });
        })
    };
    let with_events = event(event(span(2, "a", 3), "sent", 5_000), "lost", -7_000);
    write(
        &store,
        [
            span(1, "a", 1),
            span(1, "a", 2).below(1).with_link("k", "v"),
            with_events,
        ],
    )
    .await;
    let cases: &[(&str, &[u64])] = &[
        ("trace:id=00000000000000000000000000000001", &[1]),
        ("trace:id=1", &[]),
        ("span:id=0000000000000003", &[2]),
        ("span:id!=0000000000000003", &[1]),
        ("span:parentID=0000000000000001", &[1]),
        ("span:parentID?", &[1]),
        ("root", &[1, 2]),
        ("NOT {root}", &[]),
        ("event:name=lost", &[2]),
        ("event:name=found", &[]),
        // Every event counts.
        ("event:name!=lost", &[2]),
        ("event:name?", &[2]),
        ("event:name=~\"s.nt\"", &[2]),
        ("event:timeSinceStart=5us", &[2]),
        ("event:timeSinceStart<0s", &[2]),
        ("event:timeSinceStart>5us", &[]),
        ("link:traceID=000000000000000000000000000000ff", &[1]),
        ("link:spanID=~\"0*ff\"", &[1]),
        ("!link:spanID", &[1, 2]),
        ("NOT {link:spanID?}", &[2]),
    ];
    check(&store, cases).await;
}

pub(crate) async fn the_whole_trace_compares(store: Store) {
    write(
        &store,
        [
            span(1, "gateway", 1).named("in").lasting(2 * SECOND),
            span(1, "shop", 2).named("sell").below(1).lasting(SECOND),
            span(2, "shop", 1).named("in").lasting(SECOND),
            // Its root has not arrived.
            span(3, "shop", 2).named("sell").below(1),
            span(3, "shop", 3).named("in").below(2),
        ],
    )
    .await;
    let cases: &[(&str, &[u64])] = &[
        ("trace:duration>1s", &[1]),
        ("trace:duration>=1s", &[1, 2]),
        ("trace:duration<1s", &[3]),
        ("trace:rootService=shop", &[2]),
        ("trace:rootService!=shop", &[1]),
        ("trace:rootService?", &[1, 2]),
        ("!trace:rootService", &[3]),
        ("trace:rootName=~\"i.\"", &[1, 2]),
        ("trace:spans=2", &[1, 3]),
        ("trace:spans>double:1.5 service=gateway", &[1]),
        ("service=gateway OR trace:spans<2", &[1, 2]),
        ("service=shop NOT trace:spans=2", &[2]),
        ("NOT {trace:spans=2}", &[2]),
        ("NOT {trace:spans=1 service=shop}", &[1, 3]),
    ];
    check(&store, cases).await;
}

/// Trace 1: a → b → c and d, d failed; trace 2: a → c → b; trace 3: c and c without a parent that
/// arrived; trace 4: the two halves of a shared span, and what the called one called.
async fn write_trees(store: &Store) {
    let failed = |draft: Draft| {
        draft.change(|draft| {
            draft.span.status = Status {
                code: StatusCode::Error,
                message: String::new(),
            };
        })
    };
    let drafts = [
        span(1, "a", 1),
        span(1, "b", 2).below(1),
        span(1, "c", 3).below(2),
        failed(span(1, "d", 4).below(2)),
        span(2, "a", 1),
        span(2, "c", 2).below(1),
        span(2, "b", 3).below(2),
        span(3, "c", 1).below(9),
        span(3, "c", 2).below(9),
        span(3, "d", 3).below(2),
        span(4, "a", 7).kind(SpanKind::Client),
        span(4, "b", 7).kind(SpanKind::Server),
        span(4, "c", 8).below(7),
    ];
    // The children first, each in a batch of its own.
    for draft in drafts.into_iter().rev() {
        write(store, [draft]).await;
    }
}

pub(crate) async fn relatives_are_those_of_the_tree(store: Store) {
    write_trees(&store).await;
    let cases: &[(&str, &[u64])] = &[
        ("service=c parent{service=b}", &[1, 4]),
        ("service=c parent{service=a}", &[2]),
        ("service=c ancestor{service=a}", &[1, 2, 4]),
        ("service=c ancestor{service=c}", &[]),
        ("service=b child{service=c}", &[1, 4]),
        ("service=a descendant{service=b}", &[1, 2, 4]),
        ("service=a descendant{service=d}", &[1]),
        ("service=c sibling{service=d}", &[1]),
        // A parent that has not arrived makes nobody siblings.
        ("service=c sibling{service=c}", &[]),
        ("sibling{*}", &[1]),
        ("service=c trace{service=d}", &[1, 3]),
        ("service=c trace{service=c}>=2", &[3]),
        ("child{*}=2", &[1]),
        ("service=c !child{*}", &[1, 3, 4]),
        ("service=c child{*}=0", &[1, 3, 4]),
        ("child{*}!=0 descendant{*}=3", &[1]),
        ("ancestor{*}=2 service=b", &[2]),
        ("parent{*}=1 service=d", &[1, 3]),
        ("service=c !parent{*}", &[3]),
        ("service=c NOT ancestor{service=b}", &[2, 3]),
        // Relatives of relatives, and all sides of a negation.
        ("service=d parent{service=b parent{service=a root}}", &[1]),
        ("child{error}", &[1]),
        ("child{!error}", &[1, 2, 3, 4]),
        ("descendant{sibling{error}}", &[1]),
        (
            "service=a NOT descendant{service=d OR service=b parent{service=c}}",
            &[4],
        ),
        // Short forms.
        ("{service=a} > {service=b}", &[1, 4]),
        ("{service=a} >> {service=c}", &[1, 2, 4]),
        ("{service=b} < {service=a}", &[1, 4]),
        ("{service=d} << {service=c}", &[3]),
        ("{service=d} ~ {service=c}", &[1]),
        ("{service=a} !>> {service=c}", &[3]),
        ("{service=a} > {service=b} > {service=c}", &[1, 4]),
        // On several spans.
        ("{service=a} {service=d}", &[1]),
        (
            "{service=c child{service=d}} OR {service=c child{service=b}}",
            &[2, 3],
        ),
        ("NOT {service=c parent{service=b}}", &[2, 3]),
        ("{service=c} NOT {service=a child{service=b}}", &[2, 3]),
    ];
    check(&store, cases).await;
}

pub(crate) async fn the_tree_is_that_of_the_whole_trace(store: Store) {
    write(
        &store,
        [
            span(1, "a", 1).starting(noon()),
            span(1, "b", 2).below(1).starting(noon() + SECOND),
            span(1, "c", 3).below(2).starting(noon() + 2 * SECOND),
        ],
    )
    .await;
    // Only the last span is inside. The way to its relatives leads through the others, but they
    // do not count.
    let cases: &[(&str, &[u64])] = &[
        ("service=c", &[1]),
        ("service=b", &[]),
        ("service=c parent{*}", &[]),
        ("service=c trace:spans=3 trace:rootService=a", &[1]),
        ("child{service=c}", &[]),
    ];
    for (text, expected) in cases {
        let inside = line(text).between(noon() + 2 * SECOND, noon() + 3 * SECOND);
        assert_eq!(inside.ids(&store).await, *expected, "{text}");
    }
    let others = line("NOT {parent{*}}").between(noon() + 2 * SECOND, noon() + 3 * SECOND);
    assert_eq!(others.ids(&store).await, [1]);
    let ends = line("service=c ancestor{service=a}").between(noon(), noon() + 3 * SECOND);
    assert_eq!(ends.ids(&store).await, [1]);
}
