use std::collections::HashSet;

use periplus_filter::{TimeRange, TraceFilter, matches};
use periplus_model::{StatusCode, Value};
use regex::Regex;

use super::limit::{Bucket, Composite};
use super::policies::Policy;
use super::{TraceView, Verdict, hash};

/// What a policy asks of a trace.
#[derive(Debug)]
pub(super) enum Condition {
    Always,
    /// In milliseconds: at least the first without the second, else behind the first and up to the
    /// second.
    Latency(u64, Option<u64>),
    Status(Vec<StatusCode>),
    Probabilistic {
        salt: Vec<u8>,
        threshold: u64,
    },
    Spans(Bucket),
    Bytes(Bucket),
    Attribute {
        key: String,
        wanted: Wanted,
        invert: bool,
    },
    TraceState {
        key: String,
        values: Vec<String>,
    },
    TraceFlags,
    SpanCount(u64, Option<u64>),
    Query(TraceFilter),
    And(Vec<Policy>),
    Not(Box<Policy>),
    Drop(Vec<Policy>),
    Composite(Composite),
}

/// A value that an attribute is to have.
#[derive(Debug)]
pub(super) enum Wanted {
    Text(HashSet<String>),
    Match(Vec<Regex>),
    Int(i64, i64),
    Bool(bool),
}

impl Wanted {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(wanted), Value::String(text)) => wanted.contains(text),
            (Self::Match(patterns), Value::String(text)) => {
                patterns.iter().any(|pattern| pattern.is_match(text))
            }
            (Self::Int(min, max), Value::Int(value)) => (min..=max).contains(&value),
            (Self::Bool(wanted), Value::Bool(value)) => wanted == value,
            _ => false,
        }
    }
}

impl Condition {
    pub(super) fn judge(&mut self, trace: &TraceView<'_>, now_unix_nano: u64) -> Verdict {
        let sampled = match self {
            Self::Always => true,
            Self::Latency(min, None) => trace.duration_ms() >= *min,
            Self::Latency(min, Some(max)) => {
                let duration = trace.duration_ms();
                *min < duration && duration <= *max
            }
            Self::Status(codes) => trace.all().any(|span| codes.contains(&span.status.code)),
            Self::Probabilistic { salt, threshold } => hash::hash(salt, trace.id) <= *threshold,
            Self::Spans(bucket) => bucket.take(trace.spans, now_unix_nano),
            Self::Bytes(bucket) => bucket.take(trace.bytes, now_unix_nano),
            Self::Attribute {
                key,
                wanted,
                invert,
            } => {
                let found = trace.any_attribute(|attribute| {
                    attribute.key == *key && wanted.is(&attribute.value)
                });
                return match (found, *invert) {
                    (true, false) => Verdict::Sampled,
                    (false, false) => Verdict::NotSampled,
                    (true, true) => Verdict::InvertNotSampled,
                    (false, true) => Verdict::InvertSampled,
                };
            }
            Self::TraceState { key, values } => (trace.all())
                .any(|span| entry(&span.trace_state, key).any(|found| values.contains(&found))),
            Self::TraceFlags => trace.all().any(|span| span.flags & 1 == 1),
            Self::SpanCount(min, max) => {
                *min <= trace.spans && max.is_none_or(|max| trace.spans <= max)
            }
            Self::Query(filter) => matches(filter, trace.groups, TimeRange::ALL),
            Self::And(parts) => all(parts, trace, now_unix_nano),
            Self::Not(part) => !part.judge(trace, now_unix_nano).samples(),
            Self::Drop(parts) => {
                return match all(parts, trace, now_unix_nano) {
                    true => Verdict::Dropped,
                    false => Verdict::NotSampled,
                };
            }
            Self::Composite(composite) => return composite.judge(trace, now_unix_nano),
        };
        match sampled {
            true => Verdict::Sampled,
            false => Verdict::NotSampled,
        }
    }
}

/// Whether all of them sample; those behind the first that does not are not asked.
fn all(parts: &mut [Policy], trace: &TraceView<'_>, now_unix_nano: u64) -> bool {
    (parts.iter_mut()).all(|part| part.judge(trace, now_unix_nano).samples())
}

/// The values of a key in a W3C `tracestate`.
fn entry<'a>(trace_state: &'a str, key: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let entries = trace_state
        .split(',')
        .filter_map(|part| part.split_once('='));
    entries
        .filter(move |(found, _)| found.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
}
