//! The parameters of the HTTP gateway.

use super::{Call, Problem, Search};
use crate::go;
use crate::params::Params;
use crate::search::json_tags;
use crate::time::parse_rfc3339;

/// A parameter's canonical name and its older ones.
pub(super) type Names = [&'static str];

const SERVICE: &Names = &["query.serviceName", "query.service_name"];
const OPERATION: &Names = &["query.operationName", "query.operation_name"];
const ATTRIBUTES: &Names = &["query.attributes"];
const FILTER: &Names = &["query.filter"];
const TIME_MIN: &Names = &["query.startTimeMin", "query.start_time_min"];
const TIME_MAX: &Names = &["query.startTimeMax", "query.start_time_max"];
const DURATION_MIN: &Names = &["query.durationMin", "query.duration_min"];
const DURATION_MAX: &Names = &["query.durationMax", "query.duration_max"];
const DEPTH: &Names = &[
    "query.searchDepth",
    "query.search_depth",
    "query.num_traces",
];
const QUERY_RAW: &Names = &["query.rawTraces", "query.raw_traces"];
pub(super) const START_TIME: &Names = &["startTime", "start_time"];
pub(super) const END_TIME: &Names = &["endTime", "end_time"];
pub(super) const RAW: &Names = &["rawTraces", "raw_traces"];
pub(super) const SPAN_KIND: &Names = &["spanKind", "span_kind"];

/// The value under the first name that has one.
pub(super) fn value<'a>(params: &'a Params<'_>, names: &'static Names) -> (&'a str, &'static str) {
    names
        .iter()
        .map(|name| (params.first(name), *name))
        .find(|(value, _)| !value.is_empty())
        .unwrap_or(("", names[0]))
}

/// The value, read by `parse`; `None` if there is none.
pub(super) fn parsed<T>(
    params: &Params<'_>,
    names: &'static Names,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Problem> {
    match value(params, names) {
        ("", _) => Ok(None),
        (text, name) => parse(text)
            .map(Some)
            .map_err(|error| Problem::Invalid(format!("malformed parameter {name}: {error}"))),
    }
}

/// A search, and the names of the ends of its time range.
pub(super) fn search(params: &Params<'_>) -> Result<(Search, [&'static str; 2]), Problem> {
    let tags = |text: &str| json_tags(text);
    let filter = |text: &str| serde_json::from_str::<Call>(text).map_err(|e| e.to_string());
    let search = Search {
        service: value(params, SERVICE).0.to_owned(),
        operation: value(params, OPERATION).0.to_owned(),
        attributes: parsed(params, ATTRIBUTES, tags)?
            .unwrap_or_default()
            .into_iter()
            .collect(),
        filter: parsed(params, FILTER, filter)?,
        start_min: parsed(params, TIME_MIN, parse_rfc3339)?,
        start_max: parsed(params, TIME_MAX, parse_rfc3339)?,
        depth: parsed(params, DEPTH, |text| go::parse_int(text, 64))?.unwrap_or(0),
        duration_min: parsed(params, DURATION_MIN, go::parse_duration)?.unwrap_or(0),
        duration_max: parsed(params, DURATION_MAX, go::parse_duration)?.unwrap_or(0),
        raw: parsed(params, QUERY_RAW, go::parse_bool)?.unwrap_or(false),
    };
    let names = [value(params, TIME_MIN).1, value(params, TIME_MAX).1];
    Ok((search, names))
}
