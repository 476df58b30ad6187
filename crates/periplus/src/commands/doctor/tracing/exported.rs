//! Whether proxies have reported spans, as they count it: ours or a real Envoy.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::commands::client::{Client, Failure};
use crate::commands::doctor::proxies::{admins, ask};
use crate::commands::doctor::step::Step;
use crate::commands::proxy_status::text;

const NAME: &str = "exported";

/// What proxies count of their reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    spans: u64,
    /// Reports that were taken.
    sent: u64,
    /// Those that the collector has refused.
    refused: u64,
    /// Those that nobody has answered.
    failed: u64,
    without_cluster: u64,
    /// Spans of reports that did not get there, and those that no report had room for.
    lost_spans: u64,
}

/// Whether proxies have reported spans.
pub(super) async fn exported(rows: &[Value], timeout: Duration) -> Step {
    if rows.is_empty() {
        return Step::failed(
            NAME,
            "no proxy is connected to the control plane".to_owned(),
        )
        .advice("see `periplus doctor`");
    }
    let admins = admins(rows, timeout);
    if admins.is_empty() {
        return Step::skipped(NAME, "no proxy tells where its admin port is".to_owned())
            .advice("write it into bootstraps as node.metadata.ADMIN_ADDRESS");
    }
    let mut all = Counts::default();
    let mut losing = Vec::new();
    for (name, answer) in ask(&admins, fetch).await {
        match answer {
            Ok(counts) => {
                if counts.lost() + counts.lost_spans > 0 {
                    losing.push(name);
                }
                all.add(counts);
            }
            Err(error) => return Step::failed(NAME, format!("{name}: {error}")),
        }
    }
    all.verdict(&losing.join(", "))
}

async fn fetch(client: &Result<Client, Failure>) -> Result<Counts, String> {
    let client = client.as_ref().map_err(ToString::to_string)?;
    let told = |failure: Failure| failure.to_string();
    let stats: Value = client
        .get("/stats?format=json&filter=tracing")
        .await
        .map_err(told)?;
    Ok(Counts::of(&stats))
}

impl Counts {
    /// Those of `/stats?format=json`.
    fn of(stats: &Value) -> Self {
        // By tracer, such as `tracing.zipkin`.
        let mut tracers: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for stat in stats["stats"].as_array().into_iter().flatten() {
            if let Some((tracer, counter)) = text(stat, "name").rsplit_once('.')
                && tracer.starts_with("tracing.")
            {
                let value = stat["value"].as_u64().unwrap_or_default();
                tracers.entry(tracer).or_default().insert(counter, value);
            }
        }
        let mut counts = Self::default();
        for counters in tracers.values() {
            let value = |counter: &str| counters.get(counter).copied().unwrap_or_default();
            counts.add(Self {
                spans: value("spans_sent"),
                // Envoy's OpenTelemetry does not count what becomes of reports, only when it is time for one.
                sent: match counters.get("reports_sent") {
                    Some(sent) => *sent,
                    None => value("timer_flushed"),
                },
                refused: value("reports_dropped"),
                failed: value("reports_failed"),
                without_cluster: value("reports_skipped_no_cluster"),
                lost_spans: value("spans_dropped"),
            });
        }
        counts
    }

    fn add(&mut self, other: Self) {
        self.spans += other.spans;
        self.sent += other.sent;
        self.refused += other.refused;
        self.failed += other.failed;
        self.without_cluster += other.without_cluster;
        self.lost_spans += other.lost_spans;
    }

    /// Reports that did not get there.
    fn lost(&self) -> u64 {
        self.refused + self.failed + self.without_cluster
    }

    /// What they say together; `at` are the proxies that lose spans.
    fn verdict(self, at: &str) -> Step {
        let (spans, sent, lost) = (self.spans, self.sent, self.lost());
        match self {
            Self { sent: 0, .. } if lost > 0 => self.none_taken(at),
            Self {
                spans: 0,
                lost_spans: 1..,
                ..
            } => Step::failed(
                NAME,
                format!(
                    "{} spans were lost, and none was taken: {at}",
                    self.lost_spans
                ),
            )
            .advice("see what the collector says of the spans that it gets"),
            Self { spans: 0, .. } => Step::failed(NAME, "no proxy has reported a span".to_owned())
                .advice("send a request through a proxy; spans are sent within a second"),
            _ if lost > 0 => Step::warned(
                NAME,
                format!("{spans} spans in {sent} reports, {lost} reports were lost: {at}"),
            ),
            Self {
                lost_spans: 1.., ..
            } => Step::warned(
                NAME,
                format!(
                    "{spans} spans in {sent} reports, {} spans were lost: {at}",
                    self.lost_spans
                ),
            ),
            _ => Step::passed(NAME, format!("{spans} spans in {sent} reports")),
        }
    }

    /// Why reports were lost, and all of them: the cause that most have.
    fn none_taken(self, at: &str) -> Step {
        let Self {
            refused,
            failed,
            without_cluster,
            ..
        } = self;
        if without_cluster >= refused.max(failed) {
            return Step::failed(
                NAME,
                format!("proxies have no cluster for the collector: {at}"),
            )
            .advice("see `periplus proxy-config clusters`");
        }
        if refused >= failed {
            return Step::failed(
                NAME,
                format!("{refused} reports were refused, and none was taken: {at}"),
            )
            .advice(
                "see whether provider and port speak the same: Zipkin's is 9411, OTLP's over HTTP 4318, over gRPC 4317",
            );
        }
        Step::failed(
            NAME,
            format!("{failed} reports were not answered, and none was taken: {at}"),
        )
        .advice("see whether the proxies reach the collector, as `periplus proxy-config endpoints` tells, and whether it answers")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::doctor::step::State;

    fn verdict(tracer: &str, counters: &[(&str, u64)]) -> Step {
        let stats: Vec<Value> = (counters.iter())
            .map(
                |(name, value)| json!({"name": format!("tracing.{tracer}.{name}"), "value": value}),
            )
            .collect();
        Counts::of(&json!({"stats": stats})).verdict("shop")
    }

    /// Those that ours has, and Envoy's Zipkin but for `spans_dropped`.
    fn zipkin(
        (spans, flushed): (u64, u64),
        (sent, dropped, failed, skipped): (u64, u64, u64, u64),
    ) -> Vec<(&'static str, u64)> {
        vec![
            ("spans_sent", spans),
            ("timer_flushed", flushed),
            ("reports_sent", sent),
            ("reports_dropped", dropped),
            ("reports_failed", failed),
            ("reports_skipped_no_cluster", skipped),
        ]
    }

    #[test]
    fn a_timer_is_no_report() {
        let ours = |lost, spans, outcome| {
            [zipkin((spans, 50), outcome), vec![("spans_dropped", lost)]].concat()
        };
        for (what, tracer, counters, state, part) in [
            (
                "ours, refused",
                "zipkin",
                ours(5, 0, (0, 5, 0, 0)),
                State::Failed,
                "5 reports were refused",
            ),
            (
                "ours, without a cluster",
                "zipkin",
                ours(5, 0, (0, 0, 0, 5)),
                State::Failed,
                "no cluster",
            ),
            (
                "ours, unanswered",
                "zipkin",
                ours(5, 0, (0, 0, 5, 0)),
                State::Failed,
                "5 reports were not answered",
            ),
            (
                "ours, without a cluster at first",
                "zipkin",
                ours(9, 0, (0, 0, 8, 1)),
                State::Failed,
                "8 reports were not answered",
            ),
            (
                "ours, mostly unanswered",
                "zipkin",
                ours(49, 1, (1, 0, 49, 0)),
                State::Warned,
                "49 reports were lost: shop",
            ),
            (
                "ours, spans refused inside of reports",
                "opentelemetry",
                ours(5, 0, (5, 0, 0, 0)),
                State::Failed,
                "5 spans were lost",
            ),
            (
                "ours, more than there was room for",
                "zipkin",
                ours(7, 9, (3, 0, 0, 0)),
                State::Warned,
                "7 spans were lost",
            ),
            (
                "ours, all well",
                "opentelemetry",
                ours(0, 9, (3, 0, 0, 0)),
                State::Passed,
                "9 spans in 3 reports",
            ),
            (
                "ours, nothing yet",
                "zipkin",
                ours(0, 0, (0, 0, 0, 0)),
                State::Failed,
                "no proxy has reported",
            ),
            (
                "Envoy, refused",
                "zipkin",
                zipkin((5, 50), (0, 5, 0, 0)),
                State::Failed,
                "5 reports were refused",
            ),
            (
                "Envoy, without a cluster",
                "zipkin",
                zipkin((5, 50), (0, 0, 0, 5)),
                State::Failed,
                "no cluster",
            ),
            (
                "Envoy, unanswered",
                "zipkin",
                zipkin((5, 50), (0, 0, 5, 0)),
                State::Failed,
                "5 reports were not answered",
            ),
            (
                "Envoy's OpenTelemetry",
                "opentelemetry",
                vec![("spans_sent", 9), ("timer_flushed", 4)],
                State::Passed,
                "9 spans in 4 reports",
            ),
        ] {
            let step = verdict(tracer, &counters);
            assert_eq!(step.state, state, "{what}: {step:?}");
            assert!(step.said.contains(part), "{what}: {step:?}");
        }
    }
}
