//! Jaeger's structs as they came, in whichever encoding.

use periplus_model::{SpanId, TraceId};

use super::error::SpanProblem;
use super::project::RefType;
use crate::otlp::{MAX_ATTRIBUTES, MAX_EVENTS, MAX_LINKS, push_bounded};

#[derive(Debug, Default)]
pub(super) struct RawSpan<'a> {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    /// Thrift's; protobuf has references only.
    pub(super) parent_span_id: Option<SpanId>,
    pub(super) operation_name: &'a [u8],
    pub(super) references: Vec<RawReference>,
    pub(super) dropped_references: u32,
    pub(super) flags: u32,
    pub(super) start_unix_nano: u64,
    pub(super) duration_nano: i128,
    pub(super) tags: RawTags<'a>,
    pub(super) logs: Vec<RawLog<'a>>,
    pub(super) dropped_logs: u32,
    /// The first rule that it breaks. The rest of it is read all the same, to get past it.
    pub(super) problem: Option<SpanProblem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawReference {
    pub(super) ref_type: RefType,
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

#[derive(Debug, Default)]
pub(super) struct RawProcess<'a> {
    pub(super) service_name: &'a [u8],
    pub(super) tags: RawTags<'a>,
}

#[derive(Debug, Default)]
pub(super) struct RawLog<'a> {
    pub(super) time_unix_nano: u64,
    pub(super) fields: RawTags<'a>,
}

/// Tags up to the limit, and how many were over it.
#[derive(Debug, Default)]
pub(super) struct RawTags<'a> {
    pub(super) list: Vec<RawTag<'a>>,
    pub(super) dropped: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RawTag<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: RawValue<'a>,
}

/// What senders call text is not always UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RawValue<'a> {
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Binary(&'a [u8]),
    /// Of a type that has this number, which is none of Jaeger's.
    Unknown(i32),
}

impl<'a> RawSpan<'a> {
    pub(super) fn push_reference(&mut self, reference: RawReference) {
        let dropped = &mut self.dropped_references;
        push_bounded(&mut self.references, MAX_LINKS, dropped, reference);
    }

    pub(super) fn push_log(&mut self, log: RawLog<'a>) {
        push_bounded(&mut self.logs, MAX_EVENTS, &mut self.dropped_logs, log);
    }

    /// Notes a rule that it breaks.
    pub(super) fn breaks(&mut self, problem: SpanProblem) {
        self.problem.get_or_insert(problem);
    }
}

impl<'a> RawTags<'a> {
    pub(super) fn push(&mut self, tag: RawTag<'a>) {
        push_bounded(&mut self.list, MAX_ATTRIBUTES, &mut self.dropped, tag);
    }
}

impl<'a> RawTag<'a> {
    /// The text of the tag, if it is one.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value {
            RawValue::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}
