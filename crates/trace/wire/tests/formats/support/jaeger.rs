//! Jaeger's structs, written by themselves: as Thrift values (`jaeger.thrift`) and, by prost, as
//! protobuf (`jaeger.api_v2`).

use periplus_wire::jaeger::{Process, RefType, Span, Tag, TagValue};
use prost::Message;

use super::thrift::Thrift;

/// A tag: key and value.
pub(crate) type JTag = (Vec<u8>, JValue);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JValue {
    Text(Vec<u8>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Binary(Vec<u8>),
}

pub(crate) fn text(key: &str, value: &str) -> JTag {
    (key.into(), JValue::Text(value.into()))
}

pub(crate) fn boolean(key: &str, value: bool) -> JTag {
    (key.into(), JValue::Bool(value))
}

pub(crate) fn int(key: &str, value: i64) -> JTag {
    (key.into(), JValue::Int(value))
}

/// A reference: `FOLLOWS_FROM` or not, the high and the low half of the trace's id, the span's id.
pub(crate) type JRef = (bool, u64, u64, u64);

/// A span. Times are in microseconds, which Thrift has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct JSpan {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) id: u64,
    /// Thrift's; protobuf gets a reference instead.
    pub(crate) parent: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) references: Vec<JRef>,
    pub(crate) flags: u32,
    pub(crate) start: i64,
    pub(crate) duration: i64,
    pub(crate) tags: Vec<JTag>,
    pub(crate) logs: Vec<(i64, Vec<JTag>)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct JBatch {
    pub(crate) service: Vec<u8>,
    pub(crate) tags: Vec<JTag>,
    pub(crate) spans: Vec<JSpan>,
}

impl JBatch {
    pub(crate) fn thrift(&self) -> Thrift {
        let process = Thrift::Struct(vec![
            (1, Thrift::Bytes(self.service.clone())),
            (2, thrift_tags(&self.tags)),
        ]);
        let spans = self.spans.iter().map(JSpan::thrift).collect();
        Thrift::Struct(vec![(1, process), (2, Thrift::List(spans))])
    }

    /// A `PostSpansRequest`.
    pub(crate) fn protobuf(&self) -> Vec<u8> {
        let process = PProcess {
            service_name: self.service.clone(),
            tags: self.tags.iter().map(protobuf_tag).collect(),
        };
        let spans = self.spans.iter().map(JSpan::protobuf).collect();
        PostSpansRequest {
            batch: Some(PBatch {
                spans,
                process: Some(process),
            }),
        }
        .encode_to_vec()
    }
}

impl JSpan {
    pub(crate) fn thrift(&self) -> Thrift {
        let reference = |(follows, high, low, id): &JRef| {
            Thrift::Struct(vec![
                (1, Thrift::I32(i32::from(*follows))),
                (2, Thrift::I64(*low as i64)),
                (3, Thrift::I64(*high as i64)),
                (4, Thrift::I64(*id as i64)),
            ])
        };
        let log = |(time, fields): &(i64, Vec<JTag>)| {
            Thrift::Struct(vec![(1, Thrift::I64(*time)), (2, thrift_tags(fields))])
        };
        Thrift::Struct(vec![
            (1, Thrift::I64(self.low as i64)),
            (2, Thrift::I64(self.high as i64)),
            (3, Thrift::I64(self.id as i64)),
            (4, Thrift::I64(self.parent as i64)),
            (5, Thrift::Bytes(self.name.clone())),
            (
                6,
                Thrift::List(self.references.iter().map(reference).collect()),
            ),
            (7, Thrift::I32(self.flags as i32)),
            (8, Thrift::I64(self.start)),
            (9, Thrift::I64(self.duration)),
            (10, thrift_tags(&self.tags)),
            (11, Thrift::List(self.logs.iter().map(log).collect())),
        ])
    }

    pub(crate) fn protobuf(&self) -> PSpan {
        let parent = (self.parent != 0).then_some((false, self.high, self.low, self.parent));
        let references = parent.iter().chain(&self.references);
        PSpan {
            trace_id: id(self.high, self.low),
            span_id: self.id.to_be_bytes().into(),
            operation_name: self.name.clone(),
            references: references
                .map(|(follows, high, low, span)| PRef {
                    trace_id: id(*high, *low),
                    span_id: span.to_be_bytes().into(),
                    ref_type: i32::from(*follows),
                })
                .collect(),
            flags: self.flags,
            start_time: Some(time(self.start)),
            duration: Some(time(self.duration)),
            tags: self.tags.iter().map(protobuf_tag).collect(),
            logs: self
                .logs
                .iter()
                .map(|(at, fields)| PLog {
                    timestamp: Some(time(*at)),
                    fields: fields.iter().map(protobuf_tag).collect(),
                })
                .collect(),
            ..PSpan::default()
        }
    }

    /// What a view says, times cut to microseconds.
    pub(crate) fn of(view: &Span<'_>) -> Self {
        Self {
            high: view.trace_id.high(),
            low: view.trace_id.low(),
            id: view.span_id.as_u64(),
            parent: 0,
            name: view.operation_name.into(),
            references: view
                .references
                .iter()
                .map(|it| {
                    let follows = it.ref_type == RefType::FollowsFrom;
                    (
                        follows,
                        it.trace_id.high(),
                        it.trace_id.low(),
                        it.span_id.as_u64(),
                    )
                })
                .collect(),
            flags: 0,
            start: (view.start_unix_nano / 1_000) as i64,
            duration: (view.duration_nano / 1_000) as i64,
            tags: tags_of(&view.tags),
            logs: view
                .logs
                .iter()
                .map(|log| ((log.time_unix_nano / 1_000) as i64, tags_of(&log.fields)))
                .collect(),
        }
    }
}

impl JBatch {
    pub(crate) fn of(process: &Process<'_>, spans: Vec<JSpan>) -> Self {
        Self {
            service: process.service_name.into(),
            tags: tags_of(&process.tags),
            spans,
        }
    }
}

fn tags_of(tags: &[Tag<'_>]) -> Vec<JTag> {
    tags.iter()
        .map(|tag| {
            let value = match &tag.value {
                TagValue::Text(text) => JValue::Text(text.as_bytes().to_vec()),
                TagValue::Bool(value) => JValue::Bool(*value),
                TagValue::Int(number) => JValue::Int(*number),
                TagValue::Double(number) => JValue::Double(*number),
                TagValue::Binary(bytes) => JValue::Binary(bytes.to_vec()),
            };
            (tag.key.into(), value)
        })
        .collect()
}

fn thrift_tags(tags: &[JTag]) -> Thrift {
    let tag = |(key, value): &JTag| {
        let (kind, field, value) = match value {
            JValue::Text(text) => (0, 3, Thrift::Bytes(text.clone())),
            JValue::Double(number) => (1, 4, Thrift::Double(*number)),
            JValue::Bool(value) => (2, 5, Thrift::Bool(*value)),
            JValue::Int(number) => (3, 6, Thrift::I64(*number)),
            JValue::Binary(bytes) => (4, 7, Thrift::Bytes(bytes.clone())),
        };
        Thrift::Struct(vec![
            (1, Thrift::Bytes(key.clone())),
            (2, Thrift::I32(kind)),
            (field, value),
        ])
    };
    Thrift::List(tags.iter().map(tag).collect())
}

fn protobuf_tag((key, value): &JTag) -> PKeyValue {
    let mut out = PKeyValue {
        key: key.clone(),
        ..PKeyValue::default()
    };
    match value {
        JValue::Text(text) => out.v_str.clone_from(text),
        JValue::Bool(value) => (out.v_type, out.v_bool) = (1, *value),
        JValue::Int(number) => (out.v_type, out.v_int64) = (2, *number),
        JValue::Double(number) => (out.v_type, out.v_float64) = (3, *number),
        JValue::Binary(bytes) => {
            out.v_type = 4;
            out.v_binary.clone_from(bytes);
        }
    }
    out
}

fn id(high: u64, low: u64) -> Vec<u8> {
    [high.to_be_bytes(), low.to_be_bytes()].concat()
}

/// Microseconds as `Timestamp` or `Duration`, of which both parts have the same sign.
fn time(micros: i64) -> PTime {
    PTime {
        seconds: micros / 1_000_000,
        nanos: (micros % 1_000_000) as i32 * 1_000,
    }
}

// What the declaration calls strings are bytes here: senders' texts are not always UTF-8.

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PostSpansRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) batch: Option<PBatch>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PBatch {
    #[prost(message, repeated, tag = "1")]
    pub(crate) spans: Vec<PSpan>,
    #[prost(message, optional, tag = "2")]
    pub(crate) process: Option<PProcess>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) operation_name: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) references: Vec<PRef>,
    #[prost(uint32, tag = "5")]
    pub(crate) flags: u32,
    #[prost(message, optional, tag = "6")]
    pub(crate) start_time: Option<PTime>,
    #[prost(message, optional, tag = "7")]
    pub(crate) duration: Option<PTime>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) tags: Vec<PKeyValue>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) logs: Vec<PLog>,
    #[prost(message, optional, tag = "10")]
    pub(crate) process: Option<PProcess>,
    #[prost(string, tag = "11")]
    pub(crate) process_id: String,
    #[prost(string, repeated, tag = "12")]
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PRef {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) ref_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PProcess {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) service_name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) tags: Vec<PKeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PLog {
    #[prost(message, optional, tag = "1")]
    pub(crate) timestamp: Option<PTime>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) fields: Vec<PKeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PKeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub(crate) v_type: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) v_str: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(crate) v_bool: bool,
    #[prost(int64, tag = "5")]
    pub(crate) v_int64: i64,
    #[prost(double, tag = "6")]
    pub(crate) v_float64: f64,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) v_binary: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PTime {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}
