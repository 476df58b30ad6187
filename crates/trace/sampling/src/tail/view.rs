use std::sync::Arc;

use periplus_model::{Attribute, Span, SpanGroup, TraceId};

/// A trace as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct TraceView<'a> {
    /// Its id.
    pub id: TraceId,
    /// What has arrived of it.
    pub groups: &'a [Arc<SpanGroup>],
    /// How many spans that are.
    pub spans: u64,
    /// How many bytes of memory they take.
    pub bytes: u64,
}

impl<'a> TraceView<'a> {
    /// All spans.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Span> + use<'a> {
        self.groups.iter().flat_map(|group| &group.spans)
    }

    /// From the earliest start to the latest end, in whole milliseconds.
    pub fn duration_ms(&self) -> u64 {
        let start = self.all().map(|span| span.start_unix_nano).min();
        let end = self.all().map(|span| span.end_unix_nano).max();
        end.unwrap_or(0).saturating_sub(start.unwrap_or(0)) / 1_000_000
    }

    /// The service and the name of the span without a parent that starts first; of the earliest
    /// span, if none is without a parent.
    pub fn root(&self) -> Option<(&'a str, &'a str)> {
        let spans = (self.groups.iter())
            .flat_map(|group| group.spans.iter().map(move |span| (group, span)));
        let (group, span) =
            spans.min_by_key(|(_, span)| (span.parent_span_id.is_some(), span.start_unix_nano))?;
        Some((group.resource.service_name(), &span.name))
    }

    /// Every value of an attribute, on resources and on spans, until one passes.
    pub(super) fn any_attribute(&self, passes: impl Fn(&Attribute) -> bool) -> bool {
        self.groups.iter().any(|group| {
            group.resource.attributes.iter().any(&passes)
                || group
                    .spans
                    .iter()
                    .any(|span| span.attributes.iter().any(&passes))
        })
    }

    /// Whether one of the services has a span in it.
    pub(super) fn has_service(&self, services: &[String]) -> bool {
        self.groups.iter().any(|group| {
            let name = group.resource.service_name();
            !group.spans.is_empty() && services.iter().any(|service| service == name)
        })
    }
}
