//! Search parameters: those of Jaeger's `/api/traces`, which our own search understands too.

use std::collections::BTreeMap;

use periplus_store::{
    Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TimeRange, TraceFilter, TraceQuery,
};
use periplus_wire::jaeger::EMPTY_OPERATION;

use crate::go;
use crate::jaeger::NAMES_OF_NO_SERVICE;
use crate::params::Params;

/// The most traces that one search returns.
const MAX_LIMIT: usize = 10_000;

/// As many traces as are asked for, but not more than one search returns.
pub(crate) fn within_limit(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0).min(MAX_LIMIT)
}

/// What every search form of Jaeger's asks of one span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions<'a> {
    /// Empty: any.
    pub(crate) service: &'a str,
    /// Empty: any.
    pub(crate) operation: &'a str,
    pub(crate) tags: BTreeMap<String, String>,
    /// Nanoseconds, both ends included; zero: none.
    pub(crate) min_nano: i64,
    pub(crate) max_nano: i64,
}

impl Conditions<'_> {
    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.service.is_empty()
            && self.operation.is_empty()
            && self.tags.is_empty()
            && self.min_nano == 0
            && self.max_nano == 0
    }

    pub(crate) fn filter(&self) -> TraceFilter {
        let mut filters = Vec::new();
        if !self.service.is_empty() {
            filters.push(service_filter(self.service));
        }
        if !self.operation.is_empty() {
            filters.push(operation_filter(self.operation));
        }
        if self.min_nano > 0 {
            filters.push(duration(Comparison::GreaterOrEqual, self.min_nano));
        }
        if self.max_nano != 0 {
            filters.push(duration(Comparison::LessOrEqual, self.max_nano));
        }
        filters.extend(self.tags.iter().map(|(key, value)| tag(key, value)));
        TraceFilter::AnySpan(SpanFilter::And(filters))
    }
}

/// How the two search APIs differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) limit: usize,
    pub(crate) lookback_nano: u64,
    /// Whether `lookback` sets the start when `start` is absent.
    pub(crate) lookback_counts: bool,
}

/// Parameters that can be read each by itself, but may not go together.
#[derive(Debug)]
pub(crate) struct Unchecked {
    query: TraceQuery,
    has_service: bool,
    /// `minDuration`, `maxDuration`.
    durations: (i64, i64),
}

impl Unchecked {
    /// The query. The errors are Jaeger's, which come after those of all single parameters.
    pub(crate) fn check(self, service_required: bool) -> Result<TraceQuery, String> {
        if service_required && !self.has_service {
            return Err("parameter 'service' is required".to_owned());
        }
        let (min, max) = self.durations;
        if min != 0 && max != 0 && max < min {
            return Err("'maxDuration' should be greater than 'minDuration'".to_owned());
        }
        Ok(self.query)
    }
}

/// Reads the search parameters; the error is Jaeger's text.
pub(crate) fn parse(
    params: &Params<'_>,
    defaults: Defaults,
    now_unix_nano: u64,
) -> Result<Unchecked, String> {
    let start = params.parse("start", |text| go::parse_int(text, 64))?;
    let end = params.parse("end", |text| go::parse_int(text, 64))?;
    let tags = tags(params)?;
    let limit = match params.first("limit") {
        "" => None,
        text => Some(go::parse_int(text, 32)?),
    };
    let min = params
        .parse("minDuration", go::parse_duration)?
        .unwrap_or(0);
    let max = params
        .parse("maxDuration", go::parse_duration)?
        .unwrap_or(0);
    let lookback = if defaults.lookback_counts && params.first("lookback") != "custom" {
        params.parse("lookback", go::parse_lookback)?
    } else {
        None
    };
    let service = params.first("service");
    let end_unix_nano = end.map_or(now_unix_nano, micros_to_nano);
    let start_unix_nano = match (start, lookback) {
        (Some(start), _) => micros_to_nano(start),
        (None, Some(lookback)) => end_unix_nano.saturating_sub(lookback.unsigned_abs()),
        (None, None) if defaults.lookback_counts => {
            end_unix_nano.saturating_sub(defaults.lookback_nano)
        }
        (None, None) => now_unix_nano.saturating_sub(defaults.lookback_nano),
    };
    let conditions = Conditions {
        service,
        operation: params.first("operation"),
        tags,
        min_nano: min,
        max_nano: max,
    };
    let range = TimeRange {
        start_unix_nano,
        // Jaeger's end is inclusive.
        end_unix_nano: end_unix_nano.saturating_add(1),
    };
    let limit = match limit {
        None => defaults.limit,
        // Jaeger's memory store: no limit.
        Some(..=0) => MAX_LIMIT,
        Some(limit) => within_limit(limit),
    };
    let query = TraceQuery::new(range, conditions.filter(), limit);
    Ok(Unchecked {
        query,
        has_service: !service.is_empty(),
        durations: (min, max),
    })
}

/// A time before the epoch is the epoch.
fn micros_to_nano(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).saturating_mul(1_000)
}

/// `tag=key:value`, repeatable, then `tags={"key":"value"}`, repeatable; later ones win.
fn tags(params: &Params<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut out = BTreeMap::new();
    for tag in params.all("tag") {
        let Some((key, value)) = tag.split_once(':') else {
            return Err(format!(
                "malformed 'tag' parameter, expecting key:value, received: {tag}"
            ));
        };
        out.insert(key.to_owned(), value.to_owned());
    }
    for tags in params.all("tags") {
        out.extend(json_tags(tags).map_err(|error| {
            format!("malformed 'tags' parameter, cannot unmarshal JSON: {error}")
        })?);
    }
    Ok(out)
}

/// A JSON object of strings, as Go's `map[string]string` takes it.
pub(crate) fn json_tags(text: &str) -> Result<Vec<(String, String)>, String> {
    let mismatch = |found: &serde_json::Value, wanted: &str| {
        let found = match found {
            serde_json::Value::Null => "null",
            serde_json::Value::Bool(_) => "bool",
            serde_json::Value::Number(_) => "number",
            serde_json::Value::String(_) => "string",
            serde_json::Value::Array(_) => "array",
            serde_json::Value::Object(_) => "object",
        };
        format!("json: cannot unmarshal {found} into Go value of type {wanted}")
    };
    let object = match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) => object,
        Ok(serde_json::Value::Null) => return Ok(Vec::new()),
        Ok(other) => return Err(mismatch(&other, "map[string]string")),
        Err(error) if error.is_eof() => return Err("unexpected end of JSON input".to_owned()),
        Err(error) => return Err(syntax_error(text, &error)),
    };
    object
        .into_iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(value) => Ok((key, value)),
            serde_json::Value::Null => Ok((key, String::new())),
            other => Err(mismatch(&other, "string")),
        })
        .collect()
}

/// Go names the first character that cannot stand where it stands.
fn syntax_error(text: &str, error: &serde_json::Error) -> String {
    let at = text
        .split('\n')
        .nth(error.line().saturating_sub(1))
        .and_then(|line| {
            let column = error.column().saturating_sub(1);
            line.char_indices()
                .find(|(index, _)| *index >= column)
                .map(|(_, c)| c)
        });
    match at {
        Some(c) if text.trim_start().starts_with(c) && !text.trim_start().starts_with('{') => {
            format!("invalid character '{c}' looking for beginning of value")
        }
        Some(c) => format!("invalid character '{c}': {error}"),
        None => error.to_string(),
    }
}

pub(crate) fn intrinsic(field: Intrinsic, value: &str) -> SpanFilter {
    SpanFilter::equals(Field::Intrinsic(field), value)
}

/// Spans without a service go by the names that Jaeger gives them.
pub(crate) fn service_filter(service: &str) -> SpanFilter {
    let named = intrinsic(Intrinsic::Service, service);
    if NAMES_OF_NO_SERVICE.contains(&service) {
        SpanFilter::Or(vec![named, intrinsic(Intrinsic::Service, "")])
    } else {
        named
    }
}

/// Spans without a name go by the one that Jaeger gives them.
fn operation_filter(operation: &str) -> SpanFilter {
    let named = intrinsic(Intrinsic::Name, operation);
    if operation == EMPTY_OPERATION {
        SpanFilter::Or(vec![named, intrinsic(Intrinsic::Name, "")])
    } else {
        named
    }
}

fn duration(comparison: Comparison, nano: i64) -> SpanFilter {
    SpanFilter::Compare {
        field: Field::Intrinsic(Intrinsic::Duration),
        comparison,
        literal: Literal::Int(nano),
    }
}

fn attribute(scope: Scope, key: &str, value: &str) -> SpanFilter {
    SpanFilter::equals(
        Field::Attribute {
            scope,
            key: key.to_owned(),
        },
        Literal::Untyped(value.to_owned()),
    )
}

/// One tag condition. Tags that Jaeger derives from the span itself are looked up there.
fn tag(key: &str, value: &str) -> SpanFilter {
    let plain = attribute(Scope::Any, key, value);
    let derived = match key {
        "error" => return error_tag(value),
        "span.kind" => Some(intrinsic(Intrinsic::Kind, value)),
        "span.status" | "otel.status_code" => {
            Some(intrinsic(Intrinsic::Status, &value.to_ascii_lowercase()))
        }
        "otel.status_description" => Some(intrinsic(Intrinsic::StatusMessage, value)),
        "scope.name" | "otel.scope.name" => Some(intrinsic(Intrinsic::ScopeName, value)),
        "scope.version" | "otel.scope.version" => Some(intrinsic(Intrinsic::ScopeVersion, value)),
        _ => key
            .strip_prefix("resource.")
            .map(|key| attribute(Scope::Resource, key, value)),
    };
    match derived {
        Some(derived) => SpanFilter::Or(vec![derived, plain]),
        None => plain,
    }
}

/// `error` asks for the span's status; the tag of that name, which Zipkin's and OpenTracing's
/// clients set, says the same. `error=false` finds every span that is no error.
fn error_tag(value: &str) -> SpanFilter {
    let failed = SpanFilter::Or(vec![
        intrinsic(Intrinsic::Status, "error"),
        attribute(Scope::Span, "error", "true"),
    ]);
    match go::parse_bool(value) {
        Ok(true) => failed,
        Ok(false) => SpanFilter::Not(Box::new(failed)),
        Err(_) => attribute(Scope::Any, "error", value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAEGER: Defaults = Defaults {
        limit: 100,
        lookback_nano: 48 * 3_600_000_000_000,
        lookback_counts: false,
    };

    fn parsed(query: &str) -> Result<TraceQuery, String> {
        parse(&Params::of(Some(query)), JAEGER, 1_000_000_000_000_000_000)?.check(true)
    }

    #[test]
    fn every_parameter_lands_in_the_query() {
        let query = parsed(
            "service=s&operation=o&start=1&end=2&minDuration=1ms&maxDuration=2ms&limit=7\
             &tag=a:b:c&tags=%7B%22http.status_code%22%3A%22200%22%7D&lookback=1h&uiEmbed=v0",
        )
        .unwrap();
        assert_eq!(
            query,
            TraceQuery::new(
                TimeRange {
                    start_unix_nano: 1_000,
                    end_unix_nano: 2_001
                },
                TraceFilter::AnySpan(SpanFilter::And(vec![
                    intrinsic(Intrinsic::Service, "s"),
                    intrinsic(Intrinsic::Name, "o"),
                    duration(Comparison::GreaterOrEqual, 1_000_000),
                    duration(Comparison::LessOrEqual, 2_000_000),
                    attribute(Scope::Any, "a", "b:c"),
                    attribute(Scope::Any, "http.status_code", "200"),
                ])),
                7,
            )
        );
    }

    #[test]
    fn defaults_are_jaegers() {
        let query = parsed("service=s").unwrap();
        assert_eq!(query.limit, 100);
        assert_eq!(query.range.end_unix_nano, 1_000_000_000_000_000_001);
        assert_eq!(
            query.range.start_unix_nano,
            1_000_000_000_000_000_000 - 172_800_000_000_000
        );
        assert_eq!(parsed("service=s&limit=0").unwrap().limit, MAX_LIMIT);
        assert_eq!(parsed("service=s&limit=2000000").unwrap().limit, MAX_LIMIT);
    }

    #[test]
    fn errors_are_jaegers() {
        for (query, error) in [
            ("", "parameter 'service' is required"),
            (
                "service=s&minDuration=2ms&maxDuration=1ms",
                "'maxDuration' should be greater than 'minDuration'",
            ),
            (
                "service=s&tag=k",
                "malformed 'tag' parameter, expecting key:value, received: k",
            ),
            (
                "service=s&tags={\"a\":1}",
                "malformed 'tags' parameter, cannot unmarshal JSON: \
                 json: cannot unmarshal number into Go value of type string",
            ),
            (
                "service=s&tags=[]",
                "malformed 'tags' parameter, cannot unmarshal JSON: \
                 json: cannot unmarshal array into Go value of type map[string]string",
            ),
            (
                "service=s&tags={",
                "malformed 'tags' parameter, cannot unmarshal JSON: unexpected end of JSON input",
            ),
            (
                "service=s&tags=x",
                "malformed 'tags' parameter, cannot unmarshal JSON: \
                 invalid character 'x' looking for beginning of value",
            ),
            (
                "service=s&start=x",
                "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "service=s&limit=x",
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "service=s&minDuration=10",
                "unable to parse param 'minDuration': time: missing unit in duration \"10\"",
            ),
        ] {
            assert_eq!(parsed(query).unwrap_err(), error, "{query}");
        }
        assert!(parsed("service=s&minDuration=1ms&maxDuration=1ms").is_ok());
        assert!(parsed("service=s&tags=null").is_ok());
    }
}
