use periplus_insight::Trace;
use periplus_model::{Attribute, Event, Link, Resource, Scope, SpanKind, StatusCode};
use serde::Serialize;

use super::unit::{micros, micros_between};
use super::value::TypedAttribute;

/// The most rows that one request may ask for.
const MAX_ROWS: usize = 200;

/// Which rows: `0,4,10-19`, in the order asked for.
pub(super) fn parse_rows(text: &str) -> Result<Vec<usize>, String> {
    let malformed =
        || format!("'rows' must be numbers and ranges such as 0,4,10-19, received '{text}'");
    let mut rows = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| malformed())?;
        let last: usize = last.trim().parse().map_err(|_| malformed())?;
        if last < first {
            return Err(malformed());
        }
        if last - first >= MAX_ROWS - rows.len() {
            return Err(format!(
                "'rows' asks for more than {MAX_ROWS} rows: ask in several requests"
            ));
        }
        rows.extend(first..=last);
    }
    Ok(rows)
}

/// Everything about some rows.
#[derive(Debug, Serialize)]
pub(super) struct Details<'a> {
    spans: Vec<Span<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    row: usize,
    span_id: String,
    parent_span_id: Option<String>,
    service: &'a str,
    operation: &'a str,
    kind: &'static str,
    start_us: u64,
    duration_us: u64,
    status: Status<'a>,
    trace_state: &'a str,
    flags: u32,
    attributes: Vec<TypedAttribute<'a>>,
    resource: Vec<TypedAttribute<'a>>,
    scope: ScopeDetails<'a>,
    events: Vec<EventDetails<'a>>,
    links: Vec<LinkDetails<'a>>,
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Debug, Serialize)]
struct ScopeDetails<'a> {
    name: &'a str,
    version: &'a str,
    attributes: Vec<TypedAttribute<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventDetails<'a> {
    time_us: u64,
    name: &'a str,
    attributes: Vec<TypedAttribute<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkDetails<'a> {
    trace_id: String,
    span_id: String,
    attributes: Vec<TypedAttribute<'a>>,
}

pub(super) fn details<'a>(trace: &'a Trace, rows: &[usize]) -> Result<Details<'a>, String> {
    let spans = rows
        .iter()
        .map(|&index| span(trace, index))
        .collect::<Result<_, _>>()?;
    Ok(Details { spans })
}

fn span(trace: &Trace, index: usize) -> Result<Span<'_>, String> {
    let row = trace.rows.get(index).ok_or_else(|| {
        format!(
            "there is no row {index}: the trace has {} rows",
            trace.rows.len()
        )
    })?;
    let span = trace.span(row);
    let resource: &Resource = trace.resource(row);
    let scope: &Scope = trace.scope(row);
    Ok(Span {
        row: index,
        span_id: span.span_id.to_string(),
        parent_span_id: span.parent_span_id.map(|id| id.to_string()),
        service: resource.service_name(),
        operation: &span.name,
        kind: match span.kind {
            SpanKind::Unspecified => "unspecified",
            kind => kind.as_str(),
        },
        start_us: micros(row.start_unix_nano),
        duration_us: micros_between(row.start_unix_nano, row.end_unix_nano()),
        status: Status {
            code: match span.status.code {
                StatusCode::Unset => "unset",
                StatusCode::Ok => "ok",
                StatusCode::Error => "error",
            },
            message: &span.status.message,
        },
        trace_state: &span.trace_state,
        flags: span.flags,
        attributes: typed(&span.attributes),
        resource: typed(&resource.attributes),
        scope: ScopeDetails {
            name: &scope.name,
            version: &scope.version,
            attributes: typed(&scope.attributes),
        },
        events: span
            .events
            .iter()
            .map(|event| event_details(event, row.skew_nano))
            .collect(),
        links: span.links.iter().map(link_details).collect(),
        warnings: &row.warnings,
    })
}

fn event_details(event: &Event, skew_nano: i64) -> EventDetails<'_> {
    EventDetails {
        time_us: micros(event.time_unix_nano.saturating_add_signed(skew_nano)),
        name: &event.name,
        attributes: typed(&event.attributes),
    }
}

fn link_details(link: &Link) -> LinkDetails<'_> {
    LinkDetails {
        trace_id: link.trace_id.to_string(),
        span_id: link.span_id.to_string(),
        attributes: typed(&link.attributes),
    }
}

fn typed(attributes: &[Attribute]) -> Vec<TypedAttribute<'_>> {
    attributes.iter().map(TypedAttribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_and_ranges() {
        assert_eq!(parse_rows("0,4,10-12"), Ok(vec![0, 4, 10, 11, 12]));
        assert_eq!(parse_rows("0-199").map(|rows| rows.len()), Ok(200));
        for bad in ["", "x", "1,", "5-4", "-1", "1-", "1-2-3"] {
            assert!(
                parse_rows(bad).is_err_and(|error| error.contains("numbers")),
                "{bad}"
            );
        }
        for many in ["0-200", "0-199,1", "0-18446744073709551615"] {
            assert!(
                parse_rows(many).is_err_and(|error| error.contains("200")),
                "{many}"
            );
        }
    }
}
