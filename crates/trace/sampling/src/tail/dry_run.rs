use std::sync::Arc;

use periplus_model::{SpanGroup, TraceId, heap};
use serde::{Deserialize, Serialize};

use super::{Policies, TraceView};

/// Examples of each policy.
const EXAMPLES: usize = 3;

/// Judges traces that are stored already.
///
/// Traces come newest first, so rates are filled by the time from one trace's start back to the
/// next one's: the numbers are those of the same traffic played backwards.
#[derive(Debug)]
pub struct DryRun {
    policies: Policies,
    newest_unix_nano: Option<u64>,
    report: DryRunReport,
}

/// What would become of the traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunReport {
    /// All that were looked at.
    pub all: Sum,
    /// Those that would be kept.
    pub kept: Sum,
    /// Those that would be dropped.
    pub dropped: Sum,
    /// By policy, in the order of the configuration.
    pub policies: Vec<PolicyReport>,
    /// Examples of traces that no policy wants.
    pub unwanted: Vec<Example>,
    /// Why not all traces were looked at, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}

/// What one policy says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The traces that it wants.
    pub sampled: Sum,
    /// The traces that it keeps out.
    pub dropped: Sum,
    /// The traces whose fate it is: it is the first with the strongest verdict.
    pub decides: Sum,
    /// Examples of those.
    pub examples: Vec<Example>,
}

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Traces.
    pub traces: u64,
    /// Spans.
    pub spans: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// Its id.
    pub trace_id: String,
    /// The service of its root.
    pub service: String,
    /// The name of its root.
    pub operation: String,
    /// From the earliest start to the latest end, in whole milliseconds.
    pub duration_ms: u64,
    /// Its spans.
    pub spans: u64,
}

impl Sum {
    fn add(&mut self, trace: &TraceView<'_>) {
        self.traces += 1;
        self.spans += trace.spans;
        self.bytes += trace.bytes;
    }
}

impl DryRun {
    /// With these policies.
    pub fn new(policies: Policies) -> Self {
        let reports = policies.names().map(|(name, kind)| PolicyReport {
            name: name.to_owned(),
            kind: kind.to_owned(),
            ..PolicyReport::default()
        });
        let report = DryRunReport {
            policies: reports.collect(),
            ..DryRunReport::default()
        };
        Self {
            policies,
            newest_unix_nano: None,
            report,
        }
    }

    /// Judges the next trace, which is not newer than those before.
    pub fn add(&mut self, id: TraceId, groups: &[Arc<SpanGroup>]) {
        let spans = || groups.iter().flat_map(|group| &group.spans);
        let start = spans().map(|span| span.start_unix_nano).min().unwrap_or(0);
        let newest = *self.newest_unix_nano.get_or_insert(start);
        let mirrored = newest.saturating_add(newest.saturating_sub(start));
        let trace = TraceView {
            id,
            groups,
            spans: spans().count() as u64,
            bytes: spans()
                .map(|span| (size_of_val(span) + heap::span(span)) as u64)
                .sum(),
        };
        let judgement = self.policies.judge(&trace, mirrored);
        let report = &mut self.report;
        report.all.add(&trace);
        if judgement.kept {
            report.kept.add(&trace);
        } else {
            report.dropped.add(&trace);
        }
        for (policy, verdict) in report.policies.iter_mut().zip(&judgement.verdicts) {
            if verdict.samples() {
                policy.sampled.add(&trace);
            } else if *verdict == super::Verdict::Dropped {
                policy.dropped.add(&trace);
            }
        }
        let examples = match judgement.by {
            Some(by) => {
                report.policies[by].decides.add(&trace);
                &mut report.policies[by].examples
            }
            None => &mut report.unwanted,
        };
        if examples.len() < EXAMPLES {
            let (service, operation) = trace.root().unwrap_or_default();
            examples.push(Example {
                trace_id: id.to_string(),
                service: service.to_owned(),
                operation: operation.to_owned(),
                duration_ms: trace.duration_ms(),
                spans: trace.spans,
            });
        }
    }

    /// What would become of them.
    pub fn finish(self) -> DryRunReport {
        self.report
    }
}
