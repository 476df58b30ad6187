//! Spans by trace, as they arrived.

use std::collections::{BTreeMap, BTreeSet};

use periplus_model::{Batch, SpanGroup, SpanKind, TraceId};

use periplus_wire::otlp::decode_protobuf;

use super::part::{Place, earlier};
use super::payload::{Payload, Unfit};
use crate::{Operation, OtlpTaken, SpanFilter, TimeRange, span_matches};

#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) traces: BTreeMap<TraceId, Vec<SpanGroup>>,
    pub(super) bytes: u64,
    pub(super) spans: u64,
}

impl Rows {
    pub(super) fn append_payload(&mut self, payload: &Payload) -> Result<OtlpTaken, Unfit> {
        match payload {
            Payload::Batch(batch) => {
                self.append(batch);
                Ok(OtlpTaken {
                    spans: batch.span_count() as u64,
                    refused: Default::default(),
                })
            }
            Payload::Otlp(body) => {
                let decoded = decode_protobuf(body).map_err(Unfit::Decode)?;
                self.append(&decoded.batch);
                Ok(OtlpTaken {
                    spans: decoded.batch.span_count() as u64,
                    refused: decoded.refused,
                })
            }
        }
    }

    pub(super) fn append(&mut self, batch: &Batch) {
        for group in &batch.groups {
            for span in &group.spans {
                self.spans += 1;
                self.bytes += 200;
                self.traces
                    .entry(span.trace_id)
                    .or_default()
                    .push(SpanGroup {
                        resource: group.resource.clone(),
                        scope: group.scope.clone(),
                        spans: vec![span.clone()],
                    });
            }
        }
    }

    pub(super) fn chunks(&self) -> Vec<(u64, u64)> {
        let starts = || {
            self.traces
                .values()
                .flatten()
                .map(|g| g.spans[0].start_unix_nano)
        };
        starts().min().zip(starts().max()).into_iter().collect()
    }

    pub(super) fn hits(&self, filter: &SpanFilter, range: TimeRange) -> Vec<Place> {
        let hit = |groups: &[SpanGroup]| {
            groups.iter().any(|group| {
                range.contains(group.spans[0].start_unix_nano)
                    && span_matches(filter, group, &group.spans[0])
            })
        };
        (self.traces.iter())
            .filter(|(_, groups)| hit(groups))
            .map(|(id, groups)| (start(groups), *id))
            .collect()
    }

    pub(super) fn trace(&self, id: TraceId) -> Vec<SpanGroup> {
        self.traces.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn trace_start(&self, id: TraceId) -> Option<u64> {
        self.traces.get(&id).map(|groups| start(groups))
    }

    pub(super) fn services(&self, found: &mut BTreeSet<String>) {
        for group in self.traces.values().flatten() {
            found.insert(group.resource.service_name().to_owned());
        }
    }

    pub(super) fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
        found: &mut BTreeSet<Operation>,
    ) {
        for group in self.traces.values().flatten() {
            let span = &group.spans[0];
            if group.resource.service_name() == service && kind.is_none_or(|k| k == span.kind) {
                found.insert(Operation {
                    name: span.name.clone(),
                    kind: span.kind,
                });
            }
        }
    }
}

fn start(groups: &[SpanGroup]) -> u64 {
    groups
        .iter()
        .fold(0, |start, g| earlier(start, g.spans[0].start_unix_nano))
}
