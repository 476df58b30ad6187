use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{Batch, Resource, Scope, Span, SpanGroup};

use super::raw::RawSpan;
use super::translate::to_span;
use crate::otlp::{Decoded, Refused};

/// The spans of a batch, by who made them. A process may be known only after its spans: it goes by a
/// number until then.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<(usize, SpanGroup)>,
    by_maker: HashMap<(usize, String, String), usize>,
    refused: Refused,
    seen: usize,
}

impl Groups {
    /// Adds the span of this process, or refuses it.
    pub(super) fn add(&mut self, process: usize, raw: &RawSpan<'_>) {
        let at = self.seen;
        self.seen += 1;
        let (span, scope) = match to_span(raw) {
            Ok(taken) => taken,
            Err(problem) => return self.refused.add(format_args!("spans[{at}]"), &problem),
        };
        // Senders report in runs: most spans belong where the one before went.
        if let Some((last_process, last)) = self.groups.last_mut()
            && *last_process == process
            && *last.scope == scope
        {
            last.spans.push(span);
            return;
        }
        self.insert(process, scope, span);
    }

    fn insert(&mut self, process: usize, scope: Scope, span: Span) {
        let maker = (process, scope.name.clone(), scope.version.clone());
        let groups = &mut self.groups;
        let at = *self.by_maker.entry(maker).or_insert_with(|| {
            let group = SpanGroup {
                scope: Arc::new(scope),
                ..SpanGroup::default()
            };
            groups.push((process, group));
            groups.len() - 1
        });
        groups[at].1.spans.push(span);
    }

    /// All that was added, now that each process is known.
    pub(super) fn finish(self, resource_of: impl Fn(usize) -> Arc<Resource>) -> Decoded {
        let groups = self.groups.into_iter().map(|(process, group)| SpanGroup {
            resource: resource_of(process),
            ..group
        });
        Decoded {
            batch: Batch {
                groups: groups.collect(),
            },
            refused: self.refused,
        }
    }
}
