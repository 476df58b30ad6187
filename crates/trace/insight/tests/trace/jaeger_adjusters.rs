//! Jaeger's adjusters: the cases of its own tests, with its words.

use periplus_insight::jaeger::{AdjustedGroup, AdjustedSpan, adjust, unadjusted};
use periplus_model::{Attribute, Event, Link, SpanId, SpanKind, TraceId, Value};

use crate::build::{Draft, MS, T0, client, groups, server, span};

fn adjusted(drafts: impl IntoIterator<Item = Draft>) -> Vec<AdjustedGroup> {
    adjust(&groups(drafts), 0)
}

fn spans(groups: &[AdjustedGroup]) -> Vec<&AdjustedSpan> {
    groups.iter().flat_map(|group| &group.spans).collect()
}

/// The ids of each span and of its parent.
fn ids(groups: &[AdjustedGroup]) -> Vec<(u64, u64)> {
    (spans(groups).iter())
        .map(|adjusted| {
            let parent = adjusted.span.parent_span_id.unwrap_or_default();
            (adjusted.span.span_id.as_u64(), parent.as_u64())
        })
        .collect()
}

#[test]
fn shared_ids_are_made_unique() {
    let groups = adjusted([
        client("a", 5).below(4),
        server("b", 5).below(4),
        span("b", 6).below(5),
        span("b", 1).below(6),
        server("c", 7).below(6),
    ]);
    // 1 is taken, so the server half gets 2; its children follow it.
    assert_eq!(ids(&groups), [(5, 4), (2, 5), (6, 2), (1, 6), (7, 6)]);
}

#[test]
fn several_server_halves_keep_their_client() {
    let groups = adjusted([
        client("a", 5),
        server("b", 5).at(0, 10),
        server("b", 5).at(20, 30),
    ]);
    assert_eq!(ids(&groups), [(5, 0), (1, 5), (2, 5)]);
}

#[test]
fn identical_copies_collapse_whatever_their_order() {
    let groups = adjusted([
        span("a", 1).with("x", "1").with("y", "2"),
        span("a", 1).with("y", "2").with("x", "1"),
        span("a", 1).with("x", "1"),
        span("b", 1).with("x", "1"),
    ]);
    assert_eq!(spans(&groups).len(), 3);
}

#[test]
fn collections_are_sorted() {
    let draft = span("a", 1)
        .of("b.key", "2")
        .of("a.key", "1")
        .with("z", "1")
        .with("c", "2")
        .change(|span| {
            for name in ["late", "early"] {
                span.events.push(Event {
                    name: name.to_owned(),
                    attributes: vec![Attribute::new("q", "1"), Attribute::new("p", "2")],
                    ..Event::default()
                });
            }
        });
    let groups = adjusted([draft]);
    let keys =
        |attributes: &[Attribute]| (attributes.iter().map(|a| a.key.clone())).collect::<Vec<_>>();
    assert_eq!(
        keys(&groups[0].resource.attributes),
        ["a.key", "b.key", "service.name"]
    );
    let span = &spans(&groups)[0].span;
    assert_eq!(keys(&span.attributes), ["c", "z"]);
    assert_eq!(span.events[0].name, "early");
    assert_eq!(keys(&span.events[0].attributes), ["p", "q"]);
}

#[test]
fn clock_skew_is_measured_and_corrected_up_to_the_limit() {
    let event_at = |nano: u64| {
        move |span: &mut periplus_model::Span| {
            span.events.push(Event {
                time_unix_nano: nano,
                ..Event::default()
            });
        }
    };
    let pair = || {
        groups([
            client("a", 1).on("x").at(0, 100),
            server("b", 2)
                .on("y")
                .below(1)
                .at(-50, 0)
                .change(event_at(T0 - 10 * MS)),
        ])
    };
    let cases = [
        (
            0,
            T0 - 50 * MS,
            "clock skew adjustment disabled; not applying calculated delta of 75ms",
        ),
        (
            10 * MS,
            T0 - 50 * MS,
            "max clock skew adjustment delta of 10ms exceeded; not applying calculated delta of 75ms",
        ),
        (
            75 * MS,
            T0 + 25 * MS,
            "This span's timestamps were adjusted by 75ms",
        ),
    ];
    for (limit, start, warning) in cases {
        let groups = adjust(&pair(), limit);
        let child = spans(&groups)[1];
        assert_eq!(child.span.start_unix_nano, start, "{warning}");
        assert_eq!(child.span.end_unix_nano, start + 50 * MS, "{warning}");
        assert_eq!(
            child.span.events[0].time_unix_nano,
            start + 40 * MS,
            "{warning}"
        );
        assert_eq!(child.warnings, [warning]);
    }
}

#[test]
fn the_delta_of_a_host_carries_over_to_its_spans() {
    let drafts = [
        client("a", 1).on("x"),
        server("b", 2).on("y").below(1).at(-50, 0),
        client("b", 3).on("y").below(2).at(-40, -10),
        server("c", 4).below(3).at(-100, -90),
        span("c", 5).below(4).at(-95, -94),
    ];
    let groups = adjust(&groups(drafts), u64::MAX);
    let starts: Vec<i64> = (spans(&groups).iter())
        .map(|adjusted| (adjusted.span.start_unix_nano as i64 - T0 as i64) / MS as i64)
        .collect();
    // The last two have no host, and so each is measured by itself: 3 takes 35 to 65 by then.
    assert_eq!(starts, [0, 25, 35, 45, 49]);
}

#[test]
fn spans_that_cannot_be_compared_say_so() {
    let groups = adjusted([
        span("a", 0xab).below(9),
        span("a", 1),
        span("a", 1).with("different", true),
    ]);
    let warnings: Vec<_> = (spans(&groups).iter())
        .flat_map(|adjusted| &adjusted.warnings)
        .collect();
    assert_eq!(
        warnings,
        [
            "parent span ID=0000000000000009 is not in the trace; skipping clock skew adjustment",
            "duplicate span IDs; skipping clock skew adjustment",
        ]
    );
}

#[test]
fn circles_are_left_alone() {
    let groups = adjusted([span("a", 1).below(2), span("b", 2).below(1).at(-9, 9)]);
    assert_eq!(ids(&groups), [(1, 2), (2, 1)]);
    assert!(
        spans(&groups)
            .iter()
            .all(|adjusted| adjusted.warnings.is_empty())
    );
}

#[test]
fn numeric_addresses_are_spelled_out() {
    for (value, text) in [
        (Value::Int(1 << 24 | 2 << 16 | 3 << 8 | 4), "1.2.3.4"),
        (Value::Int(-1), "255.255.255.255"),
        (Value::Double(16_909_060.0), "1.2.3.4"),
        (Value::String("as it is".to_owned()), "as it is"),
    ] {
        let draft = span("a", 1)
            .of("ip", value.clone())
            .with("peer.ipv4", value.clone())
            .with("other", 7_i64);
        let groups = adjusted([draft]);
        let expected = Some(Value::String(text.to_owned()));
        assert_eq!(groups[0].resource.attribute("ip").cloned(), expected);
        let span = &spans(&groups)[0].span;
        assert_eq!(span.attribute("peer.ipv4").cloned(), expected);
        assert_eq!(span.attribute("other"), Some(&Value::Int(7)));
    }
}

#[test]
fn library_attributes_move_to_the_resource_unless_they_conflict() {
    let groups = adjusted([span("a", 1)
        .of("telemetry.sdk.name", "here")
        .with("telemetry.sdk.name", "there")
        .with("telemetry.sdk.language", "rust")
        .with("mine", "1")]);
    let resource = &groups[0].resource;
    let adjusted = spans(&groups)[0];
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    assert_eq!(
        text(resource.attribute("telemetry.sdk.name")).as_deref(),
        Some("here")
    );
    assert_eq!(
        text(resource.attribute("telemetry.sdk.language")).as_deref(),
        Some("rust")
    );
    assert_eq!(adjusted.span.attribute("telemetry.sdk.language"), None);
    assert_eq!(
        text(adjusted.span.attribute("telemetry.sdk.name")).as_deref(),
        Some("there")
    );
    assert_eq!(
        adjusted.warnings,
        ["conflicting values between Span and Resource for attribute telemetry.sdk.name"]
    );
}

#[test]
fn links_that_lead_nowhere_are_removed() {
    let groups = adjusted([span("a", 1).change(|span| {
        span.links.push(Link::default());
        span.links.push(Link {
            trace_id: TraceId::from_halves(0, 1),
            span_id: SpanId::from_u64(1),
            ..Link::default()
        });
    })]);
    let adjusted = spans(&groups)[0];
    assert_eq!(adjusted.span.links.len(), 1);
    assert_eq!(adjusted.warnings, ["Invalid span link removed"]);
}

#[test]
fn raw_means_raw() {
    let groups = groups([
        client("a", 5).with("z", "1").with("a", "2"),
        server("b", 5).kind(SpanKind::Server),
        server("b", 5),
    ]);
    let raw = unadjusted(&groups);
    assert_eq!(ids(&raw), [(5, 0), (5, 0), (5, 0)]);
    assert_eq!(spans(&raw)[0].span, groups[0].spans[0]);
}

#[test]
fn spans_that_do_not_end_after_they_start_last_a_nanosecond() {
    let start = 1_795_332_558_000_000_000;
    let groups = groups([
        span("a", 1).at_nano(start, start - 500_000_000),
        span("a", 2).below(1).at_nano(start, start),
        span("a", 3).below(1).at_nano(start, start + 1),
    ]);
    let warning = |end: &str| {
        format!(
            "Negative duration detected, sanitizing end timestamp. Original end timestamp: \
             2026-11-22 07:29:{end} +0000 UTC, adjusted to: 2026-11-22 07:29:18.000000001 +0000 UTC"
        )
    };
    // Jaeger does it before it stores, so that raw spans have it too.
    for shown in [unadjusted(&groups), adjust(&groups, 0)] {
        let spans = spans(&shown);
        for adjusted in &spans {
            assert_eq!(adjusted.span.end_unix_nano, start + 1);
        }
        assert_eq!(spans[0].warnings, [warning("17.5")]);
        assert_eq!(spans[1].warnings, [warning("18")]);
        assert_eq!(spans[2].warnings, [""; 0]);
    }
}

#[test]
fn spans_that_only_their_ends_tell_apart_are_no_copies() {
    let start = 1_795_332_558_000_000_000;
    let one = || span("a", 1).at_nano(start, start - 1);
    let other = || span("a", 1).at_nano(start, start - 2);
    // Both are made to last a nanosecond first.
    let adjusted = adjust(&groups([one(), other(), one(), other()]), 0);
    let ends: Vec<&str> = (spans(&adjusted).iter())
        .map(|adjusted| adjusted.warnings[0].split("timestamp: ").nth(1).unwrap())
        .collect();
    assert_eq!(ends.len(), 2);
    assert_ne!(ends[0], ends[1]);
}
