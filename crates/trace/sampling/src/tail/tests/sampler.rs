use periplus_model::{Span, StatusCode, TraceId};
use proptest::prelude::*;

use super::{MS, SECOND, T0, batch, config, span};
use crate::tail::{Cause, Full, TailSampler};

const ERRORS: &str =
    "policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}]";

fn sampler(text: &str) -> TailSampler {
    let (config, policies) = config(text);
    TailSampler::new(config, policies)
}

fn failing(trace: u64, id: u64) -> Span {
    let mut span = span(trace, id, 0, 1);
    span.status.code = StatusCode::Error;
    span
}

fn id(trace: u64) -> TraceId {
    TraceId::from_halves(0, trace)
}

/// The traces and numbers of spans that are to be stored; they are stored then.
fn kept(sampler: &mut TailSampler) -> Vec<(u64, u64)> {
    let kept = sampler.take_kept(u64::MAX);
    for kept in &kept {
        sampler.stored(kept.bytes);
    }
    (kept.iter())
        .map(|kept| (kept.trace_id.low(), kept.spans))
        .collect()
}

#[test]
fn a_trace_is_decided_when_it_has_waited() {
    let mut sampler = sampler(&format!("decision_wait: 10s\n{ERRORS}"));
    sampler
        .take(batch("a", vec![span(1, 1, 0, 1), span(2, 1, 0, 1)]), T0)
        .unwrap();
    sampler
        .take(batch("b", vec![failing(1, 2)]), T0 + 9 * SECOND)
        .unwrap();
    assert_eq!(sampler.next_due_unix_nano(), Some(T0 + 10 * SECOND));
    assert_eq!(sampler.pending(id(1)), Some((T0 + 10 * SECOND, 2)));
    sampler.tick(T0 + 10 * SECOND - 1);
    assert_eq!(kept(&mut sampler), []);
    assert!(sampler.stats().bytes > 0);
    sampler.tick(T0 + 10 * SECOND);
    assert_eq!(kept(&mut sampler), [(1, 2)]);
    assert_eq!(sampler.next_due_unix_nano(), None);

    let stats = sampler.stats();
    assert_eq!(
        (stats.kept_traces, stats.dropped_traces, stats.new_traces),
        (1, 1, 2)
    );
    assert_eq!((stats.kept_spans, stats.dropped_spans), (2, 1));
    assert_eq!((stats.bytes, stats.pending_traces), (0, 0));
    assert_eq!(
        (stats.policies[0].sampled, stats.policies[0].not_sampled),
        (1, 1)
    );
    assert_eq!(
        (stats.removal_age.buckets[4], stats.removal_age.count()),
        (2, 2)
    );
    let decision = sampler
        .decisions()
        .find(|decision| decision.trace_id == id(1))
        .unwrap();
    assert!(decision.kept);
    assert_eq!(
        (decision.cause, decision.by, decision.spans),
        (Cause::Wait, Some(0), 2)
    );
    assert_eq!(
        (decision.service.as_str(), decision.operation.as_str()),
        ("a", "op 1")
    );
    let decision = sampler
        .decisions()
        .find(|decision| decision.trace_id == id(2))
        .unwrap();
    assert_eq!((decision.kept, decision.by), (false, None));
}

#[test]
fn a_root_shortens_the_wait() {
    let mut sampler = sampler(&format!(
        "decision_wait: 30s\ndecision_wait_after_root_received: 2s\n{ERRORS}"
    ));
    sampler.take(batch("a", vec![failing(1, 2)]), T0).unwrap();
    sampler
        .take(batch("a", vec![span(1, 1, 0, 1)]), T0 + SECOND)
        .unwrap();
    // A root so late that the wait ends before.
    sampler.take(batch("a", vec![failing(2, 2)]), T0).unwrap();
    sampler.tick(T0 + 3 * SECOND - 1);
    assert_eq!(kept(&mut sampler), []);
    sampler.tick(T0 + 3 * SECOND);
    assert_eq!(kept(&mut sampler), [(1, 2)]);
    assert_eq!(
        sampler.decisions().next().map(|decision| decision.cause),
        Some(Cause::Root)
    );
    sampler
        .take(batch("a", vec![span(2, 1, 0, 1)]), T0 + 29 * SECOND)
        .unwrap();
    sampler.tick(T0 + 30 * SECOND);
    assert_eq!(kept(&mut sampler), [(2, 2)]);
    assert_eq!(
        sampler.decisions().next().map(|decision| decision.cause),
        Some(Cause::Wait)
    );
}

#[test]
fn late_spans_follow_the_decision() {
    let mut sampler = sampler(&format!("decision_wait: 1s\n{ERRORS}"));
    sampler
        .take(batch("a", vec![failing(1, 1), span(2, 1, 0, 1)]), T0)
        .unwrap();
    sampler.tick(T0 + SECOND);
    assert_eq!(kept(&mut sampler), [(1, 1)]);
    sampler
        .take(
            batch("a", vec![span(1, 2, 0, 1), failing(2, 2)]),
            T0 + 4 * SECOND,
        )
        .unwrap();
    assert_eq!(kept(&mut sampler), [(1, 1)]);
    let stats = sampler.stats();
    assert_eq!((stats.late_kept_spans, stats.late_dropped_spans), (1, 1));
    assert_eq!(
        (stats.new_traces, stats.pending_traces, stats.bytes),
        (2, 0, 0)
    );
    assert_eq!(stats.late_age.buckets[3], 2);
}

#[test]
fn what_is_forgotten_is_a_new_trace() {
    let mut sampler = sampler(&format!(
        "decision_wait: 1s\ndecision_cache: {{sampled_cache_size: 1}}\n{ERRORS}"
    ));
    for trace in [1, 2] {
        sampler
            .take(batch("a", vec![failing(trace, 1)]), T0)
            .unwrap();
    }
    sampler.tick(T0 + SECOND);
    assert_eq!(kept(&mut sampler).len(), 2);
    sampler
        .take(
            batch("a", vec![span(1, 2, 0, 1), span(2, 2, 0, 1)]),
            T0 + 2 * SECOND,
        )
        .unwrap();
    assert_eq!(kept(&mut sampler), [(2, 1)]);
    assert_eq!(sampler.stats().pending_traces, 1);
}

#[test]
fn without_room_the_oldest_is_decided_early_or_the_sender_waits() {
    let mut evicting = sampler(&format!("num_traces: 2\n{ERRORS}"));
    for trace in 1..=4 {
        evicting
            .take(batch("a", vec![failing(trace, 1)]), T0 + trace)
            .unwrap();
    }
    assert_eq!(kept(&mut evicting), [(1, 1), (2, 1)]);
    let stats = evicting.stats();
    assert_eq!((stats.early_traces, stats.pending_traces), (2, 2));
    assert_eq!(
        evicting.decisions().next().map(|decision| decision.cause),
        Some(Cause::Overflow)
    );

    let mut blocking = sampler(&format!("num_traces: 2\nblock_on_overflow: true\n{ERRORS}"));
    blocking
        .take(batch("a", vec![span(1, 1, 0, 1), span(2, 1, 0, 1)]), T0)
        .unwrap();
    let more = || batch("a", vec![span(1, 2, 0, 1), span(3, 1, 0, 1)]);
    assert_eq!(blocking.take(more(), T0), Err(Full::Now));
    assert_eq!(
        blocking.pending(id(1)).map(|(_, spans)| spans),
        Some(1),
        "all or nothing"
    );
    blocking
        .take(batch("a", vec![span(1, 2, 0, 1)]), T0)
        .unwrap();
    blocking.tick(T0 + 30 * SECOND);
    blocking.take(more(), T0 + 31 * SECOND).unwrap();
    assert_eq!(blocking.stats().refused_requests, 1);
}

#[test]
fn a_store_that_does_not_keep_up_stops_the_senders() {
    let mut sampler = sampler("max_bytes: 1048576\npolicies: [{name: all, type: always_sample}]");
    let sized = |trace: u64, bytes: usize| {
        let mut span = span(trace, 1, 0, 1);
        span.name = "x".repeat(bytes);
        batch("a", vec![span])
    };
    let large = |trace: u64| sized(trace, 400_000);
    sampler.take(large(1), T0).unwrap();
    sampler.take(large(2), T0).unwrap();
    // Deciding early makes no room: what is kept is still in memory.
    assert_eq!(sampler.take(large(3), T0), Err(Full::Now));
    assert_eq!(kept(&mut sampler), [(1, 1), (2, 1)]);
    sampler.take(large(3), T0).unwrap();
    let huge = sized(4, 2_000_000);
    assert!(matches!(sampler.take(huge, T0), Err(Full::Ever { .. })));
}

#[test]
fn a_trace_that_is_too_large_is_dropped_at_once() {
    let mut sampler =
        sampler("maximum_trace_size_bytes: 10000\npolicies: [{name: all, type: always_sample}]");
    for id in 1..=100 {
        sampler
            .take(batch("a", vec![span(1, id, 0, 1)]), T0)
            .unwrap();
    }
    let stats = sampler.stats();
    assert_eq!(
        (stats.too_large_traces, stats.pending_traces, stats.bytes),
        (1, 0, 0)
    );
    assert_eq!(stats.dropped_spans, 100);
    assert_eq!(
        sampler.decisions().next().map(|decision| decision.cause),
        Some(Cause::TooLarge)
    );
}

#[test]
fn the_end_decides_or_drops_what_is_there() {
    for (more, expected) in [
        ("", vec![(1, 1)]),
        ("drop_pending_traces_on_shutdown: true\n", vec![]),
    ] {
        let mut sampler = sampler(&format!("{more}{ERRORS}"));
        sampler
            .take(batch("a", vec![failing(1, 1), span(2, 1, 0, 1)]), T0)
            .unwrap();
        sampler.drain(T0 + 10 * MS);
        assert_eq!(kept(&mut sampler), expected);
        assert_eq!(sampler.stats().pending_traces, 0);
        assert_eq!(sampler.stats().bytes, 0);
    }
}

#[test]
fn decisions_are_kept_within_a_limit() {
    let mut sampler = sampler(&format!("recent_decisions: 3\ndecision_wait: 1s\n{ERRORS}"));
    for trace in 1..=5 {
        sampler
            .take(batch("a", vec![span(trace, 1, 0, 1)]), T0 + trace)
            .unwrap();
    }
    sampler.tick(T0 + 2 * SECOND);
    let traces: Vec<u64> = sampler
        .decisions()
        .map(|decision| decision.trace_id.low())
        .collect();
    assert_eq!(traces, [5, 4, 3]);
}

proptest! {
    /// Whatever comes in whatever order: every span is kept, dropped or pending, no limit is passed,
    /// and nothing is left at the end.
    #[test]
    fn every_span_has_a_fate(
        steps in prop::collection::vec((0_u64..12, 1_u64..6, 0_u64..4_000, any::<bool>()), 1..200),
        block in any::<bool>(),
    ) {
        let mut sampler = sampler(&format!(
            "decision_wait: 5s\ndecision_wait_after_root_received: 1s\nnum_traces: 4\nblock_on_overflow: {block}\ndecision_cache: {{sampled_cache_size: 3, non_sampled_cache_size: 2}}\n{ERRORS}"
        ));
        let (mut now, mut taken, mut stored) = (T0, 0, 0);
        for (trace, id, wait_ms, fails) in steps {
            now += wait_ms * MS;
            sampler.tick(now);
            let span = if fails { failing(trace, id) } else { span(trace, id, 0, 1) };
            taken += u64::from(sampler.take(batch("a", vec![span]), now).is_ok());
            let stats = sampler.stats();
            prop_assert!(stats.pending_traces <= 4);
            prop_assert!(stats.bytes <= stats.max_bytes);
            if wait_ms % 3 == 0 {
                stored += kept(&mut sampler).iter().map(|(_, spans)| spans).sum::<u64>();
            }
        }
        sampler.drain(now);
        stored += kept(&mut sampler).iter().map(|(_, spans)| spans).sum::<u64>();
        let stats = sampler.stats();
        prop_assert_eq!(stats.kept_spans, stored);
        prop_assert_eq!(stats.kept_spans + stats.dropped_spans, taken);
        prop_assert_eq!((stats.bytes, stats.pending_traces), (0, 0));
        prop_assert_eq!(sampler.next_due_unix_nano(), None);
    }
}
