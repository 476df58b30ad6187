//! A search as the query AST. Each condition is about some span of the service, not the same one for
//! all of them.

use periplus_store::{
    Comparison, Field, Intrinsic, Literal, Pattern, Scope, SpanFilter, StoreError, StoredTrace,
    TimeRange, TraceFilter, TraceQuery,
};
use periplus_wire::zipkin::{ABSENT_START, PEER_NAMES, PEER_SERVICE};

use super::Zipkin;
use super::request::{Request, Window};

/// Spans of a trace that begins in the window may begin behind it: those that do so by no more than
/// this still count for its conditions.
const LATE_SPANS_NANO: u64 = 60_000_000_000;

/// What is looked for, and when it is looked for. None if it cannot be there: no such service.
pub(super) async fn query(
    zipkin: &Zipkin,
    request: &Request,
) -> Result<Option<TraceQuery>, StoreError> {
    let services = match request.service.as_str() {
        "" => None,
        wanted => match services_named(zipkin, wanted).await? {
            none if none.is_empty() => return Ok(None),
            found => Some(found),
        },
    };
    let mut conditions = Vec::new();
    if !request.span_name.is_empty() {
        let names = match &services {
            Some(services) => span_names(zipkin, services, &request.span_name).await?,
            None => ignoring_case(Field::Intrinsic(Intrinsic::Name), &request.span_name)?,
        };
        conditions.push(names);
    }
    if !request.remote_service.is_empty() {
        conditions.push(remote_service(&request.remote_service)?);
    }
    conditions.extend(duration(request.min_duration, request.max_duration));
    for (key, value) in &request.annotations {
        conditions.push(match value {
            Some(value) => tag(key, value),
            None => word(key),
        });
    }
    if conditions.is_empty() {
        conditions.push(SpanFilter::True);
    }
    let of_service = |condition| match &services {
        Some(services) => SpanFilter::And(vec![any_of_services(services), condition]),
        None => condition,
    };
    let conditions = conditions.into_iter();
    let filter = TraceFilter::And(
        conditions
            .map(|condition| TraceFilter::AnySpan(of_service(condition)))
            .collect(),
    );
    Ok(Some(TraceQuery::new(
        range(request.window),
        filter,
        usize::MAX,
    )))
}

/// When spans of traces that begin in the window begin.
pub(super) fn range(window: Window) -> TimeRange {
    let nano = |ms: i64| u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000);
    TimeRange {
        start_unix_nano: nano(window.start_ms),
        end_unix_nano: nano(window.end_ms).saturating_add(LATE_SPANS_NANO),
    }
}

/// Whether the trace begins in the window: its root, or, if that has no time, its first span.
pub(super) fn begins_in(window: Window, trace: &StoredTrace) -> bool {
    let spans = trace.groups.iter().flat_map(|group| &group.spans);
    let mut first = None;
    for span in spans {
        let micros = span.start_unix_nano / 1000;
        if micros == 0 || span.attribute(ABSENT_START).is_some() {
            continue;
        }
        if span.parent_span_id.is_none() {
            first = Some(micros);
            break;
        }
        first = first.map(|first: u64| first.min(micros)).or(Some(micros));
    }
    first.is_some_and(|micros| window.contains(micros))
}

/// The services that have this name in lower case.
pub(super) async fn services_named(
    zipkin: &Zipkin,
    wanted: &str,
) -> Result<Vec<String>, StoreError> {
    let mut services = zipkin.api.store.services().await?;
    services.retain(|service| service.to_lowercase() == wanted);
    Ok(services)
}

pub(super) fn any_of_services(services: &[String]) -> SpanFilter {
    let is = |service: &String| {
        SpanFilter::equals(Field::Intrinsic(Intrinsic::Service), service.as_str())
    };
    match services {
        [service] => is(service),
        services => SpanFilter::Or(services.iter().map(is).collect()),
    }
}

/// The names of the services' spans that are this one in lower case.
async fn span_names(
    zipkin: &Zipkin,
    services: &[String],
    wanted: &str,
) -> Result<SpanFilter, StoreError> {
    let mut names = Vec::new();
    for service in services {
        let operations = zipkin.api.store.operations(service, None).await?;
        names.extend(operations.into_iter().map(|operation| operation.name));
    }
    names.retain(|name| name.to_lowercase() == wanted);
    names.sort();
    names.dedup();
    let is = |name: String| SpanFilter::equals(Field::Intrinsic(Intrinsic::Name), name.as_str());
    Ok(SpanFilter::Or(names.into_iter().map(is).collect()))
}

fn ignoring_case(field: Field, text: &str) -> Result<SpanFilter, StoreError> {
    let mut pattern = String::from("(?i)");
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || !c.is_ascii() => pattern.push(c),
            c => pattern.push_str(&format!("\\x{{{:x}}}", c as u32)),
        }
    }
    Ok(SpanFilter::Compare {
        field,
        comparison: Comparison::Matches,
        literal: Literal::Pattern(Pattern::new(&pattern)?),
    })
}

fn attribute(scope: Scope, key: &str) -> Field {
    Field::Attribute {
        scope,
        key: key.to_owned(),
    }
}

/// The name of the remote endpoint, by the encoder's rule: Zipkin's own, or, of a client or a
/// producer, the first attribute that names a peer.
fn remote_service(wanted: &str) -> Result<SpanFilter, StoreError> {
    let own = attribute(Scope::Span, PEER_SERVICE);
    let mut before = vec![SpanFilter::Not(Box::new(SpanFilter::Exists(own.clone())))];
    let mut ways = vec![ignoring_case(own, wanted)?];
    let sends = ["client", "producer"].map(|kind| intrinsic(Intrinsic::Kind, kind));
    before.push(SpanFilter::Or(sends.to_vec()));
    for key in PEER_NAMES {
        let field = attribute(Scope::Span, key);
        let mut way = before.clone();
        way.push(ignoring_case(field.clone(), wanted)?);
        ways.push(SpanFilter::And(way));
        before.push(SpanFilter::Not(Box::new(SpanFilter::Exists(field))));
    }
    Ok(SpanFilter::Or(ways))
}

/// Any remote endpoint that has a name.
pub(super) fn has_remote_service() -> SpanFilter {
    let keys = [PEER_SERVICE].into_iter().chain(PEER_NAMES);
    SpanFilter::Or(
        keys.map(|key| SpanFilter::Exists(attribute(Scope::Span, key)))
            .collect(),
    )
}

/// Microseconds, both ends included, of one span.
fn duration(min: Option<i64>, max: Option<i64>) -> Option<SpanFilter> {
    let bound = |comparison, micros: i64, rest: i64| SpanFilter::Compare {
        field: Field::Intrinsic(Intrinsic::Duration),
        comparison,
        literal: Literal::Int(micros.saturating_mul(1000).saturating_add(rest)),
    };
    let min = bound(Comparison::GreaterOrEqual, min?, 0);
    // Zipkin's durations have no nanoseconds.
    let max = max.map(|max| bound(Comparison::LessOrEqual, max, 999));
    Some(SpanFilter::And(
        [Some(min), max].into_iter().flatten().collect(),
    ))
}

fn intrinsic(field: Intrinsic, value: &str) -> SpanFilter {
    SpanFilter::equals(Field::Intrinsic(field), value)
}

/// A tag with this value. Some tags are written of what the model has a place for.
fn tag(key: &str, value: &str) -> SpanFilter {
    let mut ways: Vec<_> = [Scope::Span, Scope::Resource]
        .into_iter()
        .map(|scope| SpanFilter::equals(attribute(scope, key), Literal::Untyped(value.to_owned())))
        .collect();
    let status = |status| intrinsic(Intrinsic::Status, status);
    match (key, value) {
        ("error", message) => ways.push(SpanFilter::And(vec![
            SpanFilter::Not(Box::new(SpanFilter::Exists(attribute(Scope::Span, key)))),
            status("error"),
            intrinsic(Intrinsic::StatusMessage, message),
        ])),
        ("otel.status_code", "ERROR") => ways.push(status("error")),
        ("otel.status_code", "OK") => ways.push(status("ok")),
        ("otel.status_description", message) => {
            ways.push(intrinsic(Intrinsic::StatusMessage, message));
        }
        ("span.kind", "internal") => ways.push(intrinsic(Intrinsic::Kind, value)),
        ("otel.scope.name" | "otel.library.name", name) => {
            ways.push(intrinsic(Intrinsic::ScopeName, name));
        }
        ("otel.scope.version" | "otel.library.version", version) => {
            ways.push(intrinsic(Intrinsic::ScopeVersion, version));
        }
        _ => {}
    }
    SpanFilter::Or(ways)
}

/// An annotation, or a tag with any value.
fn word(word: &str) -> SpanFilter {
    let mut ways = vec![
        intrinsic(Intrinsic::EventName, word),
        SpanFilter::Exists(attribute(Scope::Span, word)),
        SpanFilter::Exists(attribute(Scope::Resource, word)),
    ];
    if word == "error" {
        ways.push(intrinsic(Intrinsic::Status, "error"));
    }
    SpanFilter::Or(ways)
}
