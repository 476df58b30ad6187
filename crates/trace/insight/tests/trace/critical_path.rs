use periplus_insight::{breakdown, critical_path};

use crate::build::{Draft, MS, T0, assemble, span};

/// A name, what arrived, and the path.
type Case = (&'static str, Vec<Draft>, &'static [(u64, u64, u64)]);

/// The critical path as span id, from, until (in milliseconds).
fn path(drafts: Vec<Draft>) -> Vec<(u64, u64, u64)> {
    let trace = assemble(drafts);
    let ms = |nano: u64| (nano - T0) / MS;
    critical_path(&trace)
        .into_iter()
        .map(|segment| {
            let id = trace.span(&trace.rows[segment.row]).span_id.as_u64();
            (id, ms(segment.start_unix_nano), ms(segment.end_unix_nano))
        })
        .collect()
}

#[test]
fn the_path_goes_back_through_the_child_that_finished_last() {
    let root = || span("a", 1).at(0, 100);
    let child = |id, from, until| span("a", id).below(1).at(from, until);
    let cases: Vec<Case> = vec![
        ("nothing", vec![], &[]),
        ("a root alone", vec![root()], &[(1, 0, 100)]),
        ("no duration", vec![span("a", 1).at(0, 0)], &[]),
        (
            "one after the other",
            vec![root(), child(2, 10, 30), child(3, 30, 90)],
            &[(1, 0, 10), (2, 10, 30), (3, 30, 90), (1, 90, 100)],
        ),
        (
            "side by side: only the last to finish",
            vec![root(), child(2, 10, 80), child(3, 10, 90)],
            &[(1, 0, 10), (3, 10, 90), (1, 90, 100)],
        ),
        (
            "overlapping: the earlier one did not delay the later one's start",
            vec![root(), child(2, 0, 80), child(3, 50, 100)],
            &[(1, 0, 50), (3, 50, 100)],
        ),
        (
            "down into grandchildren",
            vec![
                root(),
                child(2, 10, 90),
                span("a", 3).below(2).at(20, 50),
                span("a", 4).below(2).at(55, 90),
                span("a", 5).below(4).at(60, 70),
            ],
            &[
                (1, 0, 10),
                (2, 10, 20),
                (3, 20, 50),
                (2, 50, 55),
                (4, 55, 60),
                (5, 60, 70),
                (4, 70, 90),
                (1, 90, 100),
            ],
        ),
        (
            "a child that outlives its parent counts until the parent's end",
            vec![root(), child(2, 10, 40), child(3, 60, 300)],
            &[(1, 0, 10), (2, 10, 40), (1, 40, 60), (3, 60, 100)],
        ),
        (
            "and so do its own children",
            vec![root(), child(2, 60, 300), span("a", 3).below(2).at(80, 200)],
            &[(1, 0, 60), (2, 60, 80), (3, 80, 100)],
        ),
        (
            "a child that starts after its parent does not count",
            vec![root(), child(2, 10, 40), child(3, 150, 300)],
            &[(1, 0, 10), (2, 10, 40), (1, 40, 100)],
        ),
        (
            "a child that starts before its parent counts from the parent's start",
            vec![root(), child(2, -20, 40)],
            &[(2, 0, 40), (1, 40, 100)],
        ),
        (
            "only the first root's tree",
            vec![root(), child(2, 10, 40), span("b", 3).at(20, 900)],
            &[(1, 0, 10), (2, 10, 40), (1, 40, 100)],
        ),
        (
            "identical copies count once",
            vec![root(), child(2, 10, 40), child(2, 10, 40)],
            &[(1, 0, 10), (2, 10, 40), (1, 40, 100)],
        ),
    ];
    for (name, drafts, expected) in cases {
        assert_eq!(path(drafts), expected, "{name}");
    }
}

#[test]
fn the_breakdown_sums_the_path_by_service_and_operation() {
    let query = |id, from, until| {
        span("db", id)
            .below(1)
            .at(from, until)
            .change(|span| "query".clone_into(&mut span.name))
    };
    let trace = assemble([
        span("a", 1).at(0, 100),
        query(2, 10, 30),
        query(3, 40, 80),
        // Beside the longer query: nobody waited for it.
        span("cache", 4).below(1).at(40, 60),
    ]);
    let shares = breakdown(&trace, &critical_path(&trace));
    let shares: Vec<_> = (shares.iter())
        .map(|share| {
            let (service, operation) = (share.service.as_str(), share.operation.as_str());
            (service, operation, share.nano / MS, share.spans)
        })
        .collect();
    assert_eq!(shares, [("db", "query", 60, 2), ("a", "op-1", 40, 1)]);
}
