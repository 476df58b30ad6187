//! Traces that are kept when retention takes them from the store.

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{Batch, Resource, Scope, Span, SpanGroup, SpanId, TraceId};
use periplus_store::{StoreError, StoredTrace};

use crate::api::Api;

/// What became of a request to archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archived {
    /// All spans that are known are in the archive.
    Done,
    /// Neither the store nor the archive has the trace.
    NotFound,
    /// There is no archive.
    NotConfigured,
}

impl Api {
    /// Copies what the archive does not have yet: a trace that is archived again is not doubled.
    pub(crate) async fn archive(&self, id: TraceId) -> Result<Archived, StoreError> {
        let Some(archive) = &self.options.archive else {
            return Ok(Archived::NotConfigured);
        };
        let kept = archive.trace(id).await?;
        let Some(trace) = self.store.trace(id).await? else {
            return Ok(match kept {
                Some(_) => Archived::Done,
                None => Archived::NotFound,
            });
        };
        let spans = trace.span_count();
        let missing = self
            .compute(spans, move || missing(&trace, kept.as_ref()))
            .await?;
        if !missing.groups.is_empty() {
            archive.append(missing).await?;
        }
        Ok(Archived::Done)
    }
}

/// The spans of the trace that were not kept; as often as they are missing.
fn missing(trace: &StoredTrace, kept: Option<&StoredTrace>) -> Batch {
    let mut known: HashMap<SpanId, Vec<(&Resource, &Scope, &Span)>> = HashMap::new();
    for group in kept.iter().flat_map(|kept| &kept.groups) {
        for span in &group.spans {
            let of_id = known.entry(span.span_id).or_default();
            of_id.push((&group.resource, &group.scope, span));
        }
    }
    let mut groups = Vec::new();
    for group in &trace.groups {
        let mut is_missing = |span: &&Span| {
            let it = (&*group.resource, &*group.scope, *span);
            let of_id = known.entry(span.span_id).or_default();
            match of_id.iter().position(|known| *known == it) {
                Some(place) => {
                    of_id.swap_remove(place);
                    false
                }
                None => true,
            }
        };
        let spans: Vec<Span> = group
            .spans
            .iter()
            .filter(&mut is_missing)
            .cloned()
            .collect();
        if !spans.is_empty() {
            groups.push(SpanGroup {
                resource: Arc::clone(&group.resource),
                scope: Arc::clone(&group.scope),
                spans,
            });
        }
    }
    Batch { groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_copied() {
        let span = |id| Span {
            span_id: SpanId::from_u64(id),
            ..Span::default()
        };
        let trace = |service: &str, ids: &[u64]| StoredTrace {
            id: TraceId::default(),
            groups: vec![Arc::new(SpanGroup {
                resource: Arc::new(Resource::of_service(service)),
                spans: ids.iter().copied().map(span).collect(),
                ..SpanGroup::default()
            })],
            incomplete: None,
        };
        let ids = |batch: Batch| -> Vec<SpanId> {
            let spans = batch.groups.into_iter().flat_map(|group| group.spans);
            spans.map(|span| span.span_id).collect()
        };
        let twice = trace("a", &[1, 2, 2]);
        let id = SpanId::from_u64;
        assert_eq!(ids(missing(&twice, None)), [id(1), id(2), id(2)]);
        assert_eq!(ids(missing(&twice, Some(&trace("a", &[2, 1])))), [id(2)]);
        assert_eq!(ids(missing(&twice, Some(&twice))), []);
        assert_eq!(ids(missing(&twice, Some(&trace("b", &[1, 2, 2])))).len(), 3);
    }
}
