//! Shapes that break naive code: deep, wide, and hostile.

use periplus_insight::{Trace, critical_path, dependencies, jaeger, summary};

use crate::build::{Draft, assemble, client, groups, server, span};

const MANY: u64 = 100_000;

fn everything(drafts: Vec<Draft>) -> Trace {
    let groups = groups(drafts);
    let trace = Trace::assemble(&groups);
    assert_eq!(trace.rows.len(), groups.len());
    critical_path(&trace);
    dependencies(&trace);
    summary(&trace);
    jaeger::adjust(&groups, u64::MAX);
    trace
}

#[test]
fn a_chain_of_a_hundred_thousand_spans() {
    let mut drafts: Vec<Draft> = (1..MANY).map(|i| span("a", i + 1).below(i)).collect();
    drafts.push(span("a", 1));
    let trace = everything(drafts);
    assert_eq!(summary(&trace).depth, MANY);
}

#[test]
fn a_hundred_thousand_siblings() {
    let mut drafts: Vec<Draft> = (1..MANY).map(|i| server("b", i + 1).below(1)).collect();
    drafts.push(client("a", 1));
    let trace = everything(drafts);
    assert_eq!(dependencies(&trace)[0].calls, MANY - 1);
}

#[test]
fn a_circle_of_a_hundred_thousand_spans() {
    let trace = everything(
        (0..MANY)
            .map(|i| span("a", i + 1).below((i + 1) % MANY + 1))
            .collect(),
    );
    assert_eq!(
        trace.rows.iter().filter(|row| row.parent.is_none()).count(),
        1
    );
}

#[test]
fn one_id_a_hundred_thousand_times() {
    let halves = |i: u64| match i {
        0 => client("a", 7).with("n", i as i64),
        _ if i.is_multiple_of(2) => server("b", 7).below(7).with("n", i as i64),
        _ => span("c", i << 8).below(7),
    };
    // The client last: looking for it must not cost a walk for each server.
    everything((0..MANY).rev().map(halves).collect());
}

#[test]
fn a_span_delivered_a_hundred_thousand_times() {
    let trace = everything(vec![span("a", 1).below(2); MANY as usize]);
    assert_eq!(summary(&trace).spans, 1);
    assert_eq!(trace.missing.len(), 1);
}

#[test]
fn nothing() {
    assert_eq!(assemble([]), Trace::default());
}
