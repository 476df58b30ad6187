use periplus_insight::{Flags, Trace};
use periplus_model::SpanKind;

use crate::build::{Draft, MS, T0, assemble, client, only_warning, outline, server, span};

/// The start of each row, in milliseconds after the trace's beginning.
fn starts(trace: &Trace) -> Vec<i64> {
    let ms = |nano: u64| (nano as i64 - T0 as i64) / MS as i64;
    (trace.rows.iter())
        .map(|row| ms(row.start_unix_nano))
        .collect()
}

#[test]
fn clocks_are_corrected_by_jaegers_rule() {
    // What the child says, and where it is shown; the parent takes 0 to 100.
    let cases = [
        ("fits", (10, 60), 10),
        ("fits exactly", (0, 100), 0),
        ("too early: centred", (-500, -440), 20),
        ("too late: centred", (700, 760), 20),
        ("sticks out: centred", (50, 110), 20),
        ("longer, starts inside: left alone", (10, 150), 10),
        ("longer, starts before: moved to the start", (-5, 150), 0),
    ];
    for (name, (from, until), expected) in cases {
        let trace = assemble([
            client("a", 1).on("x"),
            server("b", 2).on("y").below(1).at(from, until),
        ]);
        assert_eq!(starts(&trace), [0, expected], "{name}");
        let moved = expected - from;
        assert_eq!(trace.rows[1].skew_nano, moved * MS as i64, "{name}");
        let flagged = trace.rows[1].flags.contains(Flags::SKEW_ADJUSTED);
        assert_eq!(flagged, moved != 0, "{name}");
    }
}

#[test]
fn what_ran_on_the_same_host_moves_along_and_is_not_corrected_itself() {
    let trace = assemble([
        client("a", 1).on("x"),
        server("b", 2).on("y").below(1).at(1_000, 1_060),
        client("b", 3).on("y").below(2).at(1_010, 1_050),
        // On a third host, whose clock is right.
        server("c", 4).on("z").below(3).at(40, 50),
        // On the second host, and out of its parent: not the clock's fault.
        span("b", 5).on("y").below(2).at(1_050, 1_080),
    ]);
    assert_eq!(starts(&trace), [0, 20, 30, 40, 70]);
    assert_eq!(
        outline(&trace),
        [
            "a 1",
            "  b 2 skewed warning",
            "    b 3 skewed",
            "      c 4",
            "    b 5 skewed",
        ]
    );
    assert_eq!(
        only_warning(&trace),
        "clock skew: moved by -980 ms into its parent"
    );
}

#[test]
fn hosts_are_told_apart_by_whatever_the_resource_says() {
    // Each pair starts 500 ms too early; only another host is moved.
    let early = |draft: Draft| draft.below(1).at(-500, -440);
    let cases: Vec<(&str, Draft, Draft, bool)> = vec![
        ("same service", span("a", 1), span("a", 2), false),
        ("other service", span("a", 1), span("b", 2), true),
        (
            "same host, other service",
            span("a", 1).on("x"),
            span("b", 2).on("x"),
            false,
        ),
        (
            "same service, other host",
            span("a", 1).on("x"),
            span("a", 2).on("y"),
            true,
        ),
        (
            "same service, other instance",
            span("a", 1).of("service.instance.id", "1"),
            span("a", 2).of("service.instance.id", "2"),
            true,
        ),
        (
            "an address of an old client",
            span("a", 1).of("ip", "10.0.0.1"),
            span("b", 2).of("ip", "10.0.0.1"),
            false,
        ),
        (
            "host.id goes before host.name",
            span("a", 1).of("host.id", "1").on("x"),
            span("b", 2).of("host.id", "2").on("x"),
            true,
        ),
    ];
    for (name, parent, child, moved) in cases {
        let trace = assemble([parent, early(child)]);
        let child = trace.rows.iter().find(|row| row.depth == 1).expect(name);
        assert_eq!(child.skew_nano != 0, moved, "{name}");
    }
}

#[test]
fn consumers_may_come_late_but_not_early() {
    let message = |from, until| {
        assemble([
            span("a", 1).kind(SpanKind::Producer).at(0, 10),
            span("b", 2)
                .kind(SpanKind::Consumer)
                .below(1)
                .at(from, until),
        ])
    };
    assert_eq!(starts(&message(5_000, 5_001)), [0, 5_000]);
    assert_eq!(starts(&message(-50, -49)), [0, 0]);
}

#[test]
fn what_may_be_noise_is_mended_without_a_word() {
    // What the child says, and what is added; in microseconds, the parent takes 0 to 10,000.
    for (from, until, expected) in [
        (1, 10_001, -1),
        (-1, 9_999, 1),
        (-1_000, 0, 1_000),
        // A short call at the end stays there.
        (9_500, 10_400, -400),
    ] {
        let time = |micros: i64| T0.wrapping_add_signed(micros * 1_000);
        let trace = assemble([
            client("a", 1).at_nano(T0, time(10_000)),
            server("b", 2).below(1).at_nano(time(from), time(until)),
        ]);
        assert_eq!(outline(&trace), ["a 1", "  b 2"]);
        assert_eq!(trace.rows[1].skew_nano, expected * 1_000);
    }
}

#[test]
fn times_that_make_no_sense_are_shown_and_said() {
    let cases: Vec<(Vec<Draft>, u64, u64, &str)> = vec![
        (
            vec![span("a", 1).at(5, 9), span("a", 2).below(1).at_nano(0, 0)],
            5 * MS,
            0,
            "this span has no start time; shown where its parent starts",
        ),
        // Zipkin: a duration without a timestamp.
        (
            vec![
                span("a", 1).at(5, 9),
                span("a", 2).below(1).at_nano(0, 2 * MS),
            ],
            5 * MS,
            2 * MS,
            "this span has no start time; shown where its parent starts",
        ),
        // An end without a start.
        (
            vec![span("a", 1).at(5, 9), span("a", 2).below(1).at_nano(0, T0)],
            5 * MS,
            0,
            "this span has no start time; shown where its parent starts",
        ),
        (
            vec![
                span("a", 1).at(5, 9),
                span("a", 2).below(1).at_nano(T0 + 6 * MS, 0),
            ],
            6 * MS,
            0,
            "this span has no end time; shown without a duration",
        ),
        (
            vec![span("a", 1).at(5, 9), span("a", 2).below(1).at(8, 6)],
            8 * MS,
            0,
            "this span ends 2 ms before it starts; shown without a duration",
        ),
    ];
    for (drafts, start, duration, warning) in cases {
        let trace = assemble(drafts);
        let row = &trace.rows[1];
        assert_eq!(row.start_unix_nano, T0 + start, "{warning}");
        assert_eq!(row.duration_nano, duration, "{warning}");
        assert_eq!(only_warning(&trace), warning);
        assert_eq!(trace.start_unix_nano, T0 + 5 * MS, "{warning}");
    }
}

#[test]
fn a_root_without_a_start_begins_with_the_first_span_that_has_one() {
    let trace = assemble([
        span("a", 1).at_nano(0, 0),
        span("b", 2).below(1).at(30, 40),
        span("b", 3).below(1).at(20, 40),
    ]);
    assert_eq!(starts(&trace), [20, 20, 30]);
}

#[test]
fn clocks_centuries_apart_are_given_up() {
    let trace = assemble([
        client("a", 1).on("x"),
        server("b", 2)
            .on("y")
            .below(1)
            .at_nano(u64::MAX - 10, u64::MAX - 5),
    ]);
    assert_eq!(trace.rows[1].skew_nano, 0);
    assert_eq!(
        only_warning(&trace),
        "its clock and that of its parent are centuries apart; shown where it says"
    );
}
