use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode, Uri};
use periplus_model::{SpanKind, TraceId};
use periplus_store::{StoreError, StoredTrace, TimeRange};

use super::envelope::{Envelope, EnvelopeError, Failure, is_pretty, ok, to_json};
use super::project;
use super::shapes::{DependencyLink, Operation, ShortTraceId};
use crate::api::{Api, now_unix_nano};
use crate::go;
use crate::params::{Params, unescape};
use crate::search::{self, Defaults};

pub(super) type Answer = Result<Response, Failure>;

/// Jaeger's search looks back two days when it is not told otherwise.
const SEARCH: Defaults = Defaults {
    limit: 100,
    lookback_nano: 48 * 3_600_000_000_000,
    lookback_counts: false,
};

/// The dependency graph covers a day when it is not told otherwise.
const DEPENDENCY_LOOKBACK_MS: i64 = 86_400_000;

/// `GET /api/services`.
pub(super) async fn services(State(api): State<Api>, uri: Uri) -> Answer {
    let services = api.store.services().await?;
    let total = services.len();
    let pretty = is_pretty(&Params::of(uri.query()));
    let envelope = Envelope::with_total(services, total);
    ok(to_json(&envelope.noting(api.store.damage()), pretty))
}

/// `GET /api/services/{service}/operations`. The name may hold slashes, escaped or not.
pub(super) async fn service_operations(State(api): State<Api>, uri: Uri) -> Answer {
    let Some(escaped) = uri
        .path()
        .strip_prefix("/api/services/")
        .and_then(|path| path.strip_suffix("/operations"))
        .filter(|service| !service.is_empty())
    else {
        return Err(Failure::NotServed);
    };
    let mut names = Vec::new();
    for service in readings(escaped) {
        let operations = api.store.operations(&service, None).await?;
        if !operations.is_empty() {
            names.extend(operations.into_iter().map(|operation| operation.name));
            break;
        }
    }
    names.sort();
    names.dedup();
    let total = names.len();
    let pretty = is_pretty(&Params::of(uri.query()));
    let envelope = Envelope::with_total(names, total);
    ok(to_json(&envelope.noting(api.store.damage()), pretty))
}

/// What a client may have meant by a name in a path: escaped once as a form (Jaeger's reading),
/// once as a path (`+` is a plus), or twice.
fn readings(escaped: &str) -> Vec<String> {
    let mut out = Vec::with_capacity(3);
    let mut push = |reading: String| {
        if !out.contains(&reading) {
            out.push(reading);
        }
    };
    let once = unescape(escaped).map_or_else(|| escaped.to_owned(), |name| name.into_owned());
    let plus = unescape(&escaped.replace('+', "%2B")).map(|name| name.into_owned());
    let twice = unescape(&once).map(|name| name.into_owned());
    push(once);
    plus.into_iter().chain(twice).for_each(push);
    out
}

/// `GET /api/operations`.
pub(super) async fn operations(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let service = params.first("service");
    if service.is_empty() {
        return Err(Failure::bad_request("parameter 'service' is required"));
    }
    let data: Vec<_> = operations_of(&api, service, params.first("spanKind"))
        .await?
        .into_iter()
        .map(|operation| Operation {
            name: operation.name,
            span_kind: operation.kind.as_str(),
        })
        .collect();
    let total = data.len();
    let envelope = Envelope::with_total(data, total);
    let envelope = envelope.noting(api.store.damage());
    ok(to_json(&envelope, is_pretty(&params)))
}

/// The operations of a service, of all kinds or of the kind of this name: none if no kind has it.
pub(crate) async fn operations_of(
    api: &Api,
    service: &str,
    kind: &str,
) -> Result<Vec<periplus_store::Operation>, StoreError> {
    match kind {
        "" => api.store.operations(service, None).await,
        word => match kind_of(word) {
            Some(kind) => api.store.operations(service, Some(kind)).await,
            None => Ok(Vec::new()),
        },
    }
}

pub(crate) fn kind_of(word: &str) -> Option<SpanKind> {
    [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == word)
}

/// `GET /api/traces`: a search, or the traces of the `traceID`s given.
pub(super) async fn search(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let ids: Vec<&str> = params.all("traceID").collect();
    let unchecked =
        search::parse(&params, SEARCH, now_unix_nano()).map_err(Failure::bad_request)?;
    let ids = ids
        .into_iter()
        .map(trace_id)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::bad_request(format!("cannot parse traceID param: {error}")))?;
    let raw = params.flag("raw").map_err(Failure::bad_request)?;
    let query = unchecked
        .check(ids.is_empty())
        .map_err(Failure::bad_request)?;

    let mut errors = Vec::new();
    let mut traces = Vec::new();
    let mut _turn = None;
    if ids.is_empty() {
        let found = api.find(query).await?;
        traces = found.traces;
        _turn = found.turn;
        errors.extend(found.partial.map(error));
    } else {
        for id in ids {
            match api.trace(id).await? {
                Some(trace) => traces.push(trace),
                None => errors.push(EnvelopeError {
                    trace_id: ShortTraceId(id).to_string(),
                    ..error("trace not found")
                }),
            }
        }
    }
    answer(&api, traces, errors, raw, is_pretty(&params)).await
}

fn error(message: &str) -> EnvelopeError {
    EnvelopeError {
        code: 0,
        msg: message.to_owned(),
        trace_id: String::new(),
    }
}

/// `GET /api/traces/{traceID}`. `start` and `end` are hints for stores that need them: read, for
/// their errors, and otherwise ignored, since clients disagree about their unit.
pub(super) async fn trace(State(api): State<Api>, uri: Uri) -> Answer {
    let id = trace_id(last_segment(&uri)).map_err(Failure::bad_request)?;
    let params = Params::of(uri.query());
    for hint in ["start", "end"] {
        params
            .parse(hint, |text| go::parse_int(text, 64))
            .map_err(Failure::bad_request)?;
    }
    let raw = params.flag("raw").map_err(Failure::bad_request)?;
    let Some(trace) = api.trace(id).await? else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "trace not found"));
    };
    answer(&api, vec![trace], Vec::new(), raw, is_pretty(&params)).await
}

/// The part of the path behind the last slash, still escaped.
pub(crate) fn last_segment(uri: &Uri) -> &str {
    uri.path().rsplit('/').next().unwrap_or_default()
}

/// A trace id as Jaeger reads it: 1 to 32 hex digits, padded on the left.
pub(crate) fn trace_id(text: &str) -> Result<TraceId, String> {
    if text.len() > 32 {
        return Err(format!(
            "TraceID cannot be longer than 32 hex characters: {text}"
        ));
    }
    // Jaeger parses the two halves on their own, so the error names the half.
    let (high, low) = match text.len().checked_sub(16) {
        Some(middle @ 1..) if text.is_char_boundary(middle) => {
            let (high, low) = text.split_at(middle);
            (go::parse_hex(high)?, low)
        }
        _ => (0, text),
    };
    Ok(TraceId::from_halves(high, go::parse_hex(low)?))
}

/// Whole traces in an envelope.
async fn answer(
    api: &Api,
    traces: Vec<StoredTrace>,
    mut errors: Vec<EnvelopeError>,
    raw: bool,
    pretty: bool,
) -> Answer {
    errors.extend(traces.iter().filter_map(|trace| {
        Some(EnvelopeError {
            trace_id: ShortTraceId(trace.id).to_string(),
            ..error(trace.incomplete?.reason())
        })
    }));
    let spans = traces.iter().map(StoredTrace::span_count).sum();
    let view = api.view(raw);
    let body = api
        .compute(spans, move || {
            let adjusted: Vec<_> = traces
                .iter()
                .map(|trace| (trace.id, view.of(trace)))
                .collect();
            let data: Vec<_> = adjusted
                .iter()
                .map(|(id, groups)| project::trace(*id, groups))
                .collect();
            let mut envelope = Envelope::of(data);
            envelope.errors = Some(errors).filter(|errors| !errors.is_empty());
            to_json(&envelope, pretty)
        })
        .await?;
    ok(body)
}

/// The time from `start` to `end`, in µs; without an `end` until now, without a `start` so far back.
pub(super) fn recent(params: &Params<'_>, lookback_micros: i64) -> Result<TimeRange, String> {
    let micros = |name| params.parse(name, |text| go::parse_int(text, 64));
    let to_nano = |micros: i64| u64::try_from(micros).unwrap_or(0).saturating_mul(1_000);
    let end_unix_nano = micros("end")?.map_or_else(now_unix_nano, to_nano);
    let start_unix_nano = match micros("start")? {
        Some(start) => to_nano(start),
        None => end_unix_nano.saturating_sub(to_nano(lookback_micros)),
    };
    Ok(TimeRange {
        start_unix_nano,
        end_unix_nano: end_unix_nano.saturating_add(1),
    })
}

/// `GET /api/dependencies`: times in milliseconds.
pub(super) async fn dependencies(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let millis = |name| {
        params
            .parse(name, |text| go::parse_int(text, 64))
            .map_err(Failure::bad_request)
    };
    let to_nano = |millis: i64| u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000);
    let end = millis("endTs")?.map_or_else(now_unix_nano, to_nano);
    let lookback = to_nano(millis("lookback")?.unwrap_or(DEPENDENCY_LOOKBACK_MS));
    let range = TimeRange {
        start_unix_nano: end.saturating_sub(lookback),
        end_unix_nano: end.saturating_add(1),
    };
    let service = params.first("service");
    let data: Vec<_> = api
        .store
        .dependencies(range)
        .await?
        .into_iter()
        .filter(|edge| service.is_empty() || edge.parent == service || edge.child == service)
        .map(|edge| DependencyLink {
            parent: edge.parent,
            child: edge.child,
            call_count: edge.call_count,
        })
        .collect();
    let envelope = Envelope::of(data).noting(api.store.damage());
    ok(to_json(&envelope, is_pretty(&params)))
}

/// A path below `/api` that nobody serves.
pub(super) async fn unknown() -> Failure {
    Failure::NotServed
}

/// A path that is served, but not for this method.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_are_read_as_jaeger_reads_them() {
        assert_eq!(trace_id("1F"), Ok(TraceId::from_halves(0, 0x1f)));
        assert_eq!(
            trace_id("123456789abcdef01"),
            Ok(TraceId::from_halves(1, 0x2345_6789_abcd_ef01))
        );
        for (text, error) in [
            ("xyz", "strconv.ParseUint: parsing \"xyz\": invalid syntax"),
            ("", "strconv.ParseUint: parsing \"\": invalid syntax"),
            (
                "x0000000000000001",
                "strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "000000000000000000000000000000001",
                "TraceID cannot be longer than 32 hex characters: 000000000000000000000000000000001",
            ),
        ] {
            assert_eq!(trace_id(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn a_name_in_a_path_is_read_in_every_way_it_is_written() {
        assert_eq!(readings("a"), ["a"]);
        assert_eq!(readings("a%2Fb"), ["a/b"]);
        assert_eq!(readings("a%252Fb"), ["a%2Fb", "a/b"]);
        assert_eq!(readings("a+b"), ["a b", "a+b"]);
        assert_eq!(readings("100%"), ["100%"]);
    }
}
