//! `GET /live`: server-sent events (WHATWG HTML §9.2) of what is being stored.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use http::{StatusCode, Uri};
use periplus_store::{SpanFilter, TraceFilter};

use super::search;
use crate::api::{Api, now_unix_nano};
use crate::live::{MAX_WATCHERS, Watch};
use crate::params::Params;
use crate::reply::Failure;

/// How often an idle stream says that it is there, so that nothing between closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn live(State(api): State<Api>, uri: Uri) -> Result<Response, Failure> {
    let params = Params::of(uri.query());
    let query = search::parse(&params, now_unix_nano()).map_err(Failure::bad_request)?;
    let filter = on_one_span(query.filter).ok_or_else(|| {
        Failure::bad_request(
            "the live tail shows single spans: several {…}, relatives and trace: speak of whole \
             traces, and event{…} and link{…} are not looked at here; search for those",
        )
    })?;
    let watch = api.feed.watch(filter).ok_or_else(|| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{MAX_WATCHERS} clients watch already: close one, or try again later"),
        )
    })?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(watch))
        .keep_alive(keep_alive)
        .into_response())
}

/// The filter, if it can be answered span by span.
fn on_one_span(filter: TraceFilter) -> Option<SpanFilter> {
    filter.check().ok()?;
    match filter {
        TraceFilter::AnySpan(filter) if filter.is_local() => Some(filter),
        _ => None,
    }
}

/// `open` first, so that a client knows that it misses nothing from now on; then `span`s, and
/// `lost` where some were left out.
fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((watch, true), |(mut watch, is_first)| async move {
        if is_first {
            let open = Event::default().event("open").data("{}");
            return Some((Ok(open), (watch, false)));
        }
        let lost = watch.lost();
        if lost > 0 {
            let lost = Event::default()
                .event("lost")
                .data(format!("{{\"spans\":{lost}}}"));
            return Some((Ok(lost), (watch, false)));
        }
        let span = watch.events.recv().await?;
        Some((
            Ok(Event::default().event("span").data(span)),
            (watch, false),
        ))
    })
}
