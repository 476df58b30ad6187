//! `GET /api/v2/dependencies`: Zipkin's links, worked out from the traces of the window.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use http::Uri;
use periplus_insight::zipkin::{Endpoint, Link, Links, Span};
use periplus_model::{SpanGroup, StatusCode};
use periplus_store::{Outcome, SpanFilter, StoreError, StoredTrace, TraceFilter, TraceQuery};
use periplus_wire::zipkin::{self as wire, ABSENT_START, SHARED};
use serde::Serialize;

use super::request::Window;
use super::{Zipkin, answer, search};
use crate::api::BUDGET;
use crate::params::Params;

/// Traces with more spans are worked on where they hold up nobody.
const INLINE_SPANS: usize = 2_000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    parent: String,
    child: String,
    call_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    error_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(super) async fn links(
    State(zipkin): State<Zipkin>,
    uri: Uri,
) -> Result<Response, answer::Failure> {
    let params = Params::of(uri.query());
    let lookback_ms = i64::try_from(zipkin.options.lookback_ms).unwrap_or(i64::MAX);
    let window = Window::of(&params, None, lookback_ms).map_err(answer::Failure::bad_request)?;
    let (links, cut) = of_window(&zipkin, window).await?;
    let shown: Vec<Shown> = (links.into_iter())
        .map(|link| Shown {
            parent: link.parent,
            child: link.child,
            call_count: link.calls,
            error_count: link.errors,
        })
        .collect();
    Ok(answer::partial(answer::json(&shown), cut))
}

/// The links of the traces that begin in the window, newest first until the time is up.
async fn of_window(
    zipkin: &Zipkin,
    window: Window,
) -> Result<(Vec<Link>, Option<&'static str>), StoreError> {
    let filter = TraceFilter::AnySpan(SpanFilter::True);
    let mut query = TraceQuery::new(search::range(window), filter, usize::MAX);
    query.budget = BUDGET;
    // Traces are dropped as soon as they are read.
    query.budget.answer_bytes = u64::MAX;
    let _turn = zipkin.api.turn().await;
    let mut found = zipkin.api.store.search(query)?;
    let mut links = Links::default();
    while let Some(trace) = found.next().await {
        let trace = trace?;
        if !search::begins_in(window, &trace) {
            continue;
        }
        if trace.span_count() <= INLINE_SPANS {
            add(&mut links, &trace);
            continue;
        }
        let work = move || {
            add(&mut links, &trace);
            links
        };
        links = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| StoreError::Io {
                action: "linking a trace",
                source: std::io::Error::other(error),
            })?;
    }
    let cut = match found.outcome() {
        Some(Outcome::Partial { .. }) => {
            Some("there was no time for all traces of the window: only the newest are counted")
        }
        _ => None,
    };
    Ok((links.into_sorted(), cut))
}

fn add(links: &mut Links, trace: &StoredTrace) {
    let spans = trace.groups.iter().flat_map(spans).collect();
    links.add_trace(spans);
}

/// Spans with what matters for links: of the tags only the error, and no annotations.
fn spans(group: &Arc<SpanGroup>) -> impl Iterator<Item = Span<'_>> {
    group.spans.iter().map(|span| {
        let (local, remote) = wire::endpoints(&group.resource, span);
        let is_error = span.status.code == StatusCode::Error || span.attribute("error").is_some();
        let micros = span.start_unix_nano / 1000;
        let has_start = micros > 0 && span.attribute(ABSENT_START).is_none();
        let mut tags = std::collections::BTreeMap::new();
        if is_error {
            tags.insert(Cow::Borrowed("error"), Cow::Borrowed(""));
        }
        Span {
            trace_id: span.trace_id,
            parent_id: span.parent_span_id,
            id: span.span_id,
            kind: span.kind,
            name: Cow::Borrowed(&span.name),
            timestamp: has_start.then_some(micros),
            duration: Some(span.duration_nano() / 1000).filter(|micros| *micros > 0),
            local: endpoint(local),
            remote: endpoint(remote),
            annotations: Vec::new(),
            tags,
            debug: false,
            shared: span.attribute(SHARED).is_some(),
        }
    })
}

fn endpoint(from: wire::Endpoint<'_>) -> Endpoint<'_> {
    Endpoint {
        service_name: from.service_name,
        ipv4: from.ipv4,
        ipv6: from.ipv6,
        port: from.port,
    }
}
