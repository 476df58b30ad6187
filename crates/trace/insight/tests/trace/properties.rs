//! What holds for any spans whatever.

use std::collections::HashSet;
use std::sync::Arc;

use periplus_insight::{Flags, Trace, critical_path, dependencies, jaeger, summary};
use periplus_model::{SpanGroup, SpanKind};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::build::{Draft, T0, groups, span};

/// Few ids, so that shared ones, copies, circles and missing parents are common; times close
/// together, so that children stick out of their parents, by more or less than noise; now and then
/// a time without sense.
fn any_span() -> impl Strategy<Value = Draft> {
    let time = prop_oneof![
        20 => (0..200_u64).prop_map(|n| T0 + n * 100_001),
        1 => Just(0),
        1 => Just(1),
        1 => Just(u64::MAX),
    ];
    (
        0..12_u64,
        prop::option::of(0..14_u64),
        0..6_i32,
        0..4_usize,
        (time.clone(), time),
        any::<bool>(),
    )
        .prop_map(|(id, parent, kind, service, (start, end), failed)| {
            let mut draft = span(["a", "b", "c", ""][service], id)
                .kind(SpanKind::from_number(kind))
                .at_nano(start, end);
            if let Some(parent) = parent {
                draft = draft.below(parent);
            }
            if failed { draft.failed() } else { draft }
        })
}

fn any_trace() -> impl Strategy<Value = Vec<Arc<SpanGroup>>> {
    vec(any_span(), 0..40).prop_map(groups)
}

proptest! {
    #[test]
    fn every_span_has_exactly_one_row(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        let places: HashSet<_> = trace.rows.iter().map(|row| (row.group, row.span)).collect();
        prop_assert_eq!(places.len(), trace.rows.len());
        prop_assert_eq!(places.len(), groups.iter().map(|group| group.spans.len()).sum::<usize>());
    }

    #[test]
    fn rows_are_a_tree_in_depth_first_order(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        let mut way: Vec<usize> = Vec::new();
        for (i, row) in trace.rows.iter().enumerate() {
            way.truncate(row.depth);
            prop_assert_eq!(way.len(), row.depth);
            prop_assert_eq!(way.last().copied(), row.parent);
            way.push(i);
        }
        let siblings = |parent| trace.rows.iter().filter(move |row| row.parent == parent);
        for parent in std::iter::once(None).chain((0..trace.rows.len()).map(Some)) {
            prop_assert!(siblings(parent).is_sorted_by_key(|row| row.start_unix_nano));
        }
    }

    #[test]
    fn flags_and_lists_agree(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        let ids: HashSet<_> = trace.rows.iter().map(|row| trace.span(row).span_id).collect();
        for id in &trace.missing {
            prop_assert!(!ids.contains(id));
        }
        for row in &trace.rows {
            prop_assert_eq!(row.flags.contains(Flags::WARNING), !row.warnings.is_empty());
            prop_assert!(row.self_nano <= row.duration_nano);
            if row.flags.contains(Flags::PARENT_MISSING) {
                prop_assert_eq!(row.parent, None);
                prop_assert!(trace.span(row).parent_span_id.is_some_and(|id| trace.missing.contains(&id)));
            }
        }
        prop_assert_eq!(trace.root.is_some(), !trace.rows.is_empty());
    }

    #[test]
    fn a_span_that_was_moved_lies_inside_its_parent_if_it_can(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        for row in &trace.rows {
            let Some(parent) = row.parent.map(|parent| &trace.rows[parent]) else {
                prop_assert_eq!(row.skew_nano, 0);
                continue;
            };
            let other_host = trace.service(row) != trace.service(parent);
            if !other_host || row.skew_nano == 0 {
                continue;
            }
            prop_assert!(row.start_unix_nano >= parent.start_unix_nano);
            if row.duration_nano <= parent.duration_nano && trace.span(row).kind != SpanKind::Consumer {
                prop_assert!(row.end_unix_nano() <= parent.end_unix_nano());
            }
        }
    }

    #[test]
    fn the_critical_path_covers_the_root_without_gap_or_overlap(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        let path = critical_path(&trace);
        let Some(root) = trace.root.map(|root| &trace.rows[root]) else {
            prop_assert!(path.is_empty());
            return Ok(());
        };
        let mut until = root.start_unix_nano;
        for segment in &path {
            prop_assert_eq!(segment.start_unix_nano, until);
            prop_assert!(segment.start_unix_nano < segment.end_unix_nano);
            let row = &trace.rows[segment.row];
            prop_assert!(row.start_unix_nano <= segment.start_unix_nano);
            prop_assert!(segment.end_unix_nano <= row.end_unix_nano());
            until = segment.end_unix_nano;
        }
        prop_assert_eq!(until, root.end_unix_nano());
    }

    #[test]
    fn sums_agree(groups in any_trace()) {
        let trace = Trace::assemble(&groups);
        let summary = summary(&trace);
        let counted = trace.rows.iter().filter(|row| !row.flags.contains(Flags::DUPLICATE)).count();
        prop_assert_eq!(summary.spans, counted as u64);
        prop_assert!(summary.errors <= summary.spans);
        for edge in dependencies(&trace) {
            prop_assert!(edge.errors <= edge.calls);
            prop_assert!(edge.calls <= summary.spans);
        }
    }

    #[test]
    fn jaegers_adjusters_lose_copies_only(groups in any_trace(), limit in prop_oneof![Just(0), Just(u64::MAX)]) {
        let adjusted = jaeger::adjust(&groups, limit);
        let spans: Vec<_> = adjusted.iter().flat_map(|group| &group.spans).collect();
        let mut distinct: Vec<_> = Vec::new();
        for group in &groups {
            let same = (&group.spans[0], &group.resource.attributes);
            if !distinct.contains(&same) {
                distinct.push(same);
            }
        }
        prop_assert_eq!(spans.len(), distinct.len());
    }
}
