//! A little traffic, and the proof that it was traced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use periplus_local::{Mesh, get};
use serde::Deserialize;
use tokio::time::Instant;

use super::PATIENCE;
use super::diagnosis;
use crate::commands::local::progress::Screen;
use crate::commands::local::state::{State, local};

/// How many product pages are asked for; enough for round robin to reach every reviews version.
const PAGES: usize = 10;
/// How long the first page may take to come: the proxies may still be waiting for their routes.
const FIRST_PAGE: Duration = Duration::from_secs(10);
/// How long spans may take to arrive: proxies report in batches.
const ARRIVAL: Duration = Duration::from_secs(20);
/// How long a trace with more spans is waited for once there is one: where rules lead all requests
/// to reviews v1 there is none.
const LONGER: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(100);

/// The service on whose spans a trace begins.
const ENTRY: &str = "istio-ingressgateway.istio-system";

/// A trace that is all there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Traced {
    pub(super) trace_id: String,
    pub(super) spans: usize,
}

/// Asks for product pages, and waits until one of them is to be seen in the UI's own source.
///
/// `whole` says whether the services forward the context: if not, nobody can expect whole traces.
pub(super) async fn send(
    mesh: &Mesh,
    state: &State,
    screen: &Screen,
    whole: bool,
) -> anyhow::Result<Option<Traced>> {
    screen.status("asking for the product page");
    let begun = Instant::now();
    while let Err(error) = page(mesh).await {
        if begun.elapsed() > FIRST_PAGE {
            let culprit = diagnosis::culprit(mesh, state).await;
            return Err(error.context(culprit));
        }
        tokio::time::sleep(PAUSE).await;
    }
    for _ in 1..PAGES {
        if let Err(error) = page(mesh).await {
            return Err(error.context(diagnosis::culprit(mesh, state).await));
        }
    }
    screen.line(&format!("  {PAGES} product pages loaded"));
    if !whole {
        return Ok(None);
    }

    screen.status("waiting for their spans");
    let begun = Instant::now();
    let mut found: Option<(Traced, Instant)> = None;
    while begun.elapsed() < ARRIVAL {
        if let Some(traced) = best(&traces(mesh).await?) {
            let since = found.take().map_or_else(Instant::now, |(_, since)| since);
            let enough = traced.spans == LONGEST || since.elapsed() > LONGER;
            found = Some((traced, since));
            if enough {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let Some((traced, _)) = found else {
        bail!(
            "the product page works, but no whole trace of it has arrived within {} s: look into \
             the log of the trace backend ({}) and of the gateway ({})",
            ARRIVAL.as_secs(),
            state.log(crate::commands::local::parts::SERVE).display(),
            state.log(crate::commands::local::state::GATEWAY).display()
        )
    };
    let path = format!("/trace/{}", traced.trace_id);
    let answer = get(local(mesh.ports.backend.ui), &path, PATIENCE).await?;
    ensure!(
        answer.status == 200,
        "the UI answers with status {} to {path}",
        answer.status
    );
    Ok(Some(traced))
}

/// One product page, with all its parts.
async fn page(mesh: &Mesh) -> anyhow::Result<()> {
    let address = local(mesh.ports.gateway);
    let answer = get(address, "/productpage", PATIENCE)
        .await
        .context("the product page does not load")?;
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        let text: String = text.chars().take(200).collect();
        bail!(
            "the product page answers with status {}: {text}",
            answer.status
        );
    }
    for missing in [
        "Error fetching product details",
        "Error fetching product reviews",
        "Ratings service is currently unavailable",
    ] {
        if text.contains(missing) {
            bail!("the product page says: {missing}");
        }
    }
    Ok(())
}

/// Jaeger's answer, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Traces {
    data: Vec<Trace>,
}

#[derive(Debug, Deserialize)]
struct Trace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<Span>,
    processes: BTreeMap<String, Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(default)]
    references: Vec<Reference>,
    #[serde(rename = "processID")]
    process_id: String,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
}

async fn traces(mesh: &Mesh) -> anyhow::Result<Vec<Trace>> {
    let path = format!("/api/traces?service={ENTRY}&limit={}", 2 * PAGES);
    let answer = get(local(mesh.ports.backend.ui), &path, PATIENCE)
        .await
        .context("the trace backend does not answer")?;
    let traces: Traces = serde_json::from_slice(&answer.body).with_context(|| {
        format!(
            "the trace backend does not answer with traces (status {})",
            answer.status
        )
    })?;
    Ok(traces.data)
}

/// Spans of a page with stars: two for each of four calls, and one of the gateway itself.
const LONGEST: usize = 9;
/// Services that a page passes, with the spans that they report: first with stars, then without.
const PATHS: [&[(&str, usize)]; 2] = [
    &[
        (ENTRY, 2),
        ("productpage.default", 3),
        ("details.default", 1),
        ("reviews.default", 2),
        ("ratings.default", 1),
    ],
    &[
        (ENTRY, 2),
        ("productpage.default", 3),
        ("details.default", 1),
        ("reviews.default", 1),
    ],
];

/// The whole trace with the most spans.
fn best(traces: &[Trace]) -> Option<Traced> {
    traces
        .iter()
        .filter(|trace| trace.is_whole())
        .max_by_key(|trace| trace.spans.len())
        .map(|trace| Traced {
            trace_id: trace.trace_id.clone(),
            spans: trace.spans.len(),
        })
}

impl Trace {
    /// Whether every span of a product page is there, below one root.
    fn is_whole(&self) -> bool {
        let ids: BTreeSet<&str> = self
            .spans
            .iter()
            .map(|span| span.span_id.as_str())
            .collect();
        let mut roots = 0;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for span in &self.spans {
            match span.references.first() {
                None => roots += 1,
                Some(parent) if ids.contains(parent.span_id.as_str()) => {}
                Some(_) => return false,
            }
            let Some(process) = self.processes.get(&span.process_id) else {
                return false;
            };
            *counts.entry(&process.service_name).or_default() += 1;
        }
        let is_path = |path: &&[(&str, usize)]| counts == path.iter().copied().collect();
        roots == 1 && PATHS.iter().any(is_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans as `id parent service`, `-` for no parent.
    fn trace(spans: &[&str]) -> Trace {
        let mut processes = BTreeMap::new();
        let spans = spans
            .iter()
            .map(|span| {
                let fields: Vec<&str> = span.split(' ').collect();
                let process = Process {
                    service_name: fields[2].to_owned(),
                };
                processes.insert(fields[2].to_owned(), process);
                let references = match fields[1] {
                    "-" => Vec::new(),
                    parent => vec![Reference {
                        span_id: parent.to_owned(),
                    }],
                };
                Span {
                    span_id: fields[0].to_owned(),
                    references,
                    process_id: fields[2].to_owned(),
                }
            })
            .collect();
        Trace {
            trace_id: "t".to_owned(),
            spans,
            processes,
        }
    }

    const PAGE: [&str; 9] = [
        "a - istio-ingressgateway.istio-system",
        "b a istio-ingressgateway.istio-system",
        "c b productpage.default",
        "d c productpage.default",
        "e d details.default",
        "f c productpage.default",
        "g f reviews.default",
        "h g reviews.default",
        "i h ratings.default",
    ];

    #[test]
    fn whole_traces() {
        let without_stars: Vec<_> = PAGE[..7].to_vec();
        let traces = [trace(&without_stars), trace(&PAGE)];
        assert_eq!(best(&traces).unwrap().spans, 9);
        assert_eq!(best(&traces[..1]).unwrap().spans, 7);
    }

    #[test]
    fn traces_that_are_not_whole() {
        for missing in PAGE {
            let spans: Vec<_> = PAGE.into_iter().filter(|span| *span != missing).collect();
            assert!(!trace(&spans).is_whole(), "without {missing}");
        }
        let mut split = PAGE;
        split[2] = "c - productpage.default";
        assert!(!trace(&split).is_whole());
        assert!(best(&[]).is_none());
    }
}
