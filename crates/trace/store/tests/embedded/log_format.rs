//! A reader of the log and the manifest that shares no code with ours: the chapters "The log" and "The
//! manifest" of `docs/store.md` in Rust. Whatever the page does not allow is a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};

/// A record of the log.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) file: u64,
    pub(crate) kind: u8,
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    pub(crate) received_unix_nano: u64,
    pub(crate) body: Vec<u8>,
}

/// The edits of the manifest that `CURRENT` names.
pub(crate) fn manifest(dir: &Path) -> Vec<serde_json::Value> {
    let current = fs::read_to_string(dir.join("CURRENT")).unwrap();
    let name = current.strip_suffix('\n').unwrap();
    let manifest = fs::read_to_string(dir.join(name)).unwrap();
    let edit = |line: &str| {
        let (crc, edit) = line.split_once(' ').unwrap();
        assert_eq!(crc, format!("{:08x}", crc32c::crc32c(edit.as_bytes())));
        serde_json::from_str(edit).unwrap()
    };
    manifest.lines().map(edit).collect()
}

/// All records of the log of a store with this id, in order.
pub(crate) fn records(dir: &Path, store: u64) -> Vec<Record> {
    let mut files: Vec<_> = fs::read_dir(dir.join("wal")).unwrap().collect();
    files.sort_by_key(|file| file.as_ref().unwrap().file_name());
    let mut records = Vec::new();
    for file in files {
        let path = file.unwrap().path();
        let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let seed = crc32c::crc32c(&[store.to_le_bytes(), u64::to_le_bytes(number)].concat());
        let bytes = fs::read(&path).unwrap();
        let mut at = 0;
        while bytes[at..].starts_with(b"pwal") {
            let head = &bytes[at..at + 40];
            let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
            let short = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let body = &bytes[at + 40..][..short(4) as usize];
            let checked = [&head[4..8], &head[12..], body];
            let crc = checked.into_iter().fold(seed, crc32c::crc32c_append);
            assert_eq!(crc, short(8), "{} at {at}", path.display());
            assert_eq!(head[13..16], [0, 0, 0], "the version, zeros");
            records.push(Record {
                file: number,
                kind: head[12],
                sequence: long(16),
                offset: long(24),
                received_unix_nano: long(32),
                body: body.to_vec(),
            });
            assert_eq!(long(24), at as u64);
            at += (40 + body.len()).next_multiple_of(8);
        }
        assert!(bytes[at..].iter().all(|byte| *byte == 0));
    }
    records
}

/// The body of a record of kind 1.
pub(crate) fn batch(body: &[u8]) -> Batch {
    let mut body = Body(body);
    let mut groups: Vec<SpanGroup> = Vec::new();
    for _ in 0..body.number() {
        let [same] = body.array();
        let resource = match same & 1 {
            0 => Arc::new(body.resource()),
            _ => Arc::clone(&groups.last().unwrap().resource),
        };
        let scope = match same & 2 {
            0 => Arc::new(body.scope()),
            _ => Arc::clone(&groups.last().unwrap().scope),
        };
        let spans = (0..body.number()).map(|_| body.span()).collect();
        groups.push(SpanGroup {
            resource,
            scope,
            spans,
        });
    }
    assert!(body.0.is_empty());
    Batch { groups }
}

struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        *array
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.array();
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.number() as usize;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn list(&mut self) -> Vec<Attribute> {
        let count = self.number();
        let attribute = |_| Attribute {
            key: self.text(),
            value: self.value(),
        };
        (0..count).map(attribute).collect()
    }

    fn value(&mut self) -> Value {
        let [kind] = self.array();
        match kind {
            0 => Value::Empty,
            1 => Value::String(self.text()),
            2 => Value::Bool(self.array() == [1]),
            3 => {
                let zigzag = self.number();
                Value::Int((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
            }
            4 => Value::Double(f64::from_bits(self.long())),
            5 => Value::Bytes(self.bytes()),
            6 => Value::Array((0..self.number()).map(|_| self.value()).collect()),
            7 => Value::Map(self.list()),
            kind => panic!("a value of kind {kind}"),
        }
    }

    fn resource(&mut self) -> Resource {
        Resource {
            attributes: self.list(),
            dropped_attributes_count: self.small(),
            schema_url: self.text(),
        }
    }

    fn scope(&mut self) -> Scope {
        Scope {
            name: self.text(),
            version: self.text(),
            attributes: self.list(),
            dropped_attributes_count: self.small(),
            schema_url: self.text(),
        }
    }

    fn span(&mut self) -> Span {
        let mut span = Span {
            trace_id: TraceId::from_bytes(self.array()),
            span_id: SpanId::from_bytes(self.array()),
            ..Span::default()
        };
        let [bits] = self.array();
        span.kind = SpanKind::from_number(i32::from(bits & 7));
        if bits & 32 != 0 {
            span.parent_span_id = Some(SpanId::from_bytes(self.array()));
        }
        (span.start_unix_nano, span.end_unix_nano) = (self.long(), self.long());
        span.flags = self.small();
        (span.trace_state, span.name) = (self.text(), self.text());
        span.status = Status {
            code: StatusCode::from_number(i32::from(bits >> 3 & 3)),
            message: self.text(),
        };
        span.attributes = self.list();
        span.dropped_attributes_count = self.small();
        let event = |body: &mut Self| Event {
            time_unix_nano: body.long(),
            name: body.text(),
            attributes: body.list(),
            dropped_attributes_count: body.small(),
        };
        span.events = (0..self.number()).map(|_| event(self)).collect();
        span.dropped_events_count = self.small();
        let link = |body: &mut Self| Link {
            trace_id: TraceId::from_bytes(body.array()),
            span_id: SpanId::from_bytes(body.array()),
            trace_state: body.text(),
            flags: body.small(),
            attributes: body.list(),
            dropped_attributes_count: body.small(),
        };
        span.links = (0..self.number()).map(|_| link(self)).collect();
        span.dropped_links_count = self.small();
        span
    }
}
