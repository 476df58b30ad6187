//! Traces in pieces: a client takes no message over 4 MiB unless it was told to.

use std::sync::Arc;

use periplus_model::{Batch, SpanGroup};

/// Spans that one message carries, as in Jaeger.
pub(super) const SPANS_PER_MESSAGE: usize = 10;

/// Pieces of the batch, in its order.
pub(super) fn chunks(batch: Batch) -> impl Iterator<Item = Batch> {
    let mut groups = batch.groups.into_iter();
    let mut rest: Option<SpanGroup> = None;
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut room = SPANS_PER_MESSAGE;
        while room > 0 {
            let Some(mut group) = rest.take().or_else(|| groups.next()) else {
                break;
            };
            if group.spans.len() > room {
                rest = Some(SpanGroup {
                    resource: Arc::clone(&group.resource),
                    scope: Arc::clone(&group.scope),
                    spans: group.spans.split_off(room),
                });
            }
            room -= group.spans.len();
            if !group.spans.is_empty() {
                chunk.push(group);
            }
        }
        (!chunk.is_empty()).then_some(Batch { groups: chunk })
    })
}

#[cfg(test)]
mod tests {
    use periplus_model::Span;

    use super::*;

    #[test]
    fn no_span_is_lost_and_no_chunk_is_too_large() {
        for sizes in [
            vec![],
            vec![3, 0, 8, 25],
            vec![10],
            vec![10, 10],
            vec![0, 0, 1],
        ] {
            let group = |spans| SpanGroup {
                spans: vec![Span::default(); spans],
                ..SpanGroup::default()
            };
            let groups = sizes.iter().copied().map(group).collect();
            let chunks: Vec<usize> = chunks(Batch { groups })
                .map(|chunk| chunk.span_count())
                .collect();
            assert_eq!(chunks.iter().sum::<usize>(), sizes.iter().sum::<usize>());
            for (i, spans) in chunks.iter().enumerate() {
                assert!(
                    *spans == SPANS_PER_MESSAGE || i + 1 == chunks.len(),
                    "{chunks:?}"
                );
            }
        }
    }
}
