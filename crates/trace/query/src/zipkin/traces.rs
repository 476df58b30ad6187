//! Traces: searched for, and by id.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use periplus_store::StoredTrace;

use super::request::{Request, shown, trace_id};
use super::{Zipkin, answer, search};
use crate::api::{MAX_ANSWER_SPANS, now_unix_nano};
use crate::params::{Params, unescape};

type Answer = Result<Response, answer::Failure>;

/// The most traces that one search returns, and the most ids that one request may name.
const MAX_LIMIT: usize = 10_000;
const MAX_IDS: usize = 1000;

/// `GET /api/v2/traces`.
pub(super) async fn search(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let now_ms = i64::try_from(now_unix_nano() / 1_000_000).unwrap_or(i64::MAX);
    let lookback_ms = i64::try_from(zipkin.options.lookback_ms).unwrap_or(i64::MAX);
    let request =
        Request::of(&params, now_ms, lookback_ms).map_err(answer::Failure::bad_request)?;
    let Some(query) = search::query(&zipkin, &request).await? else {
        return Ok(answer::bytes(b"[]".to_vec()));
    };
    let limit = usize::try_from(request.limit).map_or(MAX_LIMIT, |limit| limit.min(MAX_LIMIT));
    let begins = |trace: &StoredTrace| search::begins_in(request.window, trace);
    let found = zipkin.api.find_where(query, limit, begins).await?;
    let spans = found.traces.iter().map(StoredTrace::span_count).sum();
    let traces = found.traces;
    let work = move || answer::traces(&traces);
    let body = zipkin.api.compute(spans, work).await?;
    Ok(answer::partial(answer::bytes(body), found.partial))
}

/// `GET /api/v2/trace/{traceId}`.
pub(super) async fn one(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let segment = uri.path().rsplit('/').next().unwrap_or_default();
    // In a path, a plus is a plus: no digit, and named as it is.
    let segment = segment.replace('+', "%2B");
    let text = unescape(&segment).unwrap_or_default();
    let id = trace_id(&text).map_err(answer::Failure::bad_request)?;
    let Some(trace) = zipkin.api.store.trace(id).await? else {
        let message = format!("{} not found", shown(id));
        return Err(answer::Failure::not_found(message));
    };
    let work = {
        let trace = trace.clone();
        move || answer::trace(&trace)
    };
    let body = zipkin.api.compute(trace.span_count(), work).await?;
    Ok(answer::bytes(body))
}

/// `GET /api/v2/traceMany`.
pub(super) async fn many(State(zipkin): State<Zipkin>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let ids = match params.first("traceIds") {
        "" => Err("traceIds parameter is empty".to_owned()),
        text => trace_ids(text),
    };
    let ids = ids.map_err(answer::Failure::bad_request)?;
    let mut traces = Vec::new();
    let mut spans = 0;
    let mut cut = None;
    for id in ids {
        let Some(trace) = zipkin.api.store.trace(id).await? else {
            continue;
        };
        spans += trace.span_count();
        if spans > MAX_ANSWER_SPANS && !traces.is_empty() {
            cut = Some("the answer was cut: ask for fewer traces");
            break;
        }
        traces.push(trace);
    }
    let work = move || answer::traces(&traces);
    let body = zipkin.api.compute(spans, work).await?;
    Ok(answer::partial(answer::bytes(body), cut))
}

fn trace_ids(text: &str) -> Result<Vec<periplus_model::TraceId>, String> {
    let texts: Vec<&str> = text.split(',').collect();
    if texts.len() == 1 {
        return Err("Use /api/v2/trace/{traceId} endpoint to retrieve a single trace".to_owned());
    }
    if texts.len() > MAX_IDS {
        return Err(format!("more than {MAX_IDS} ids in traceIds"));
    }
    let mut seen = BTreeSet::new();
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        let id = trace_id(text)?;
        if !seen.insert(id) {
            return Err(format!("redundant traceId: {}", shown(id)));
        }
        ids.push(id);
    }
    Ok(ids)
}
