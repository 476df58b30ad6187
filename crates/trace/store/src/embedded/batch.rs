//! A batch as bytes: what the log keeps of spans that did not arrive as OTLP. Nothing is lost, and
//! nothing is checked but the form.
//!
//! Numbers are LEB128, texts have their length in front. A resource or scope that is that of the
//! group before is not written again.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status,
    StatusCode, TraceId, Value,
};
use periplus_segment::limits::MAX_DEPTH;
use thiserror::Error;

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DecodeError {
    /// They end too early.
    #[error("it ends in the middle")]
    Truncated,
    /// They go on.
    #[error("it goes on behind its end")]
    Trailing,
    /// Some number or text has no meaning.
    #[error("a {0} is malformed")]
    Malformed(&'static str),
}

/// Writes a batch behind what is there; `false` if its values nest too deeply.
#[must_use]
pub(super) fn encode(batch: &Batch, out: &mut Vec<u8>) -> bool {
    let mut w = Writer { out, shallow: true };
    w.number(batch.groups.len() as u64);
    let mut before: Option<&SpanGroup> = None;
    for group in &batch.groups {
        let same_resource = before.is_some_and(|b| Arc::ptr_eq(&b.resource, &group.resource));
        let same_scope = before.is_some_and(|b| Arc::ptr_eq(&b.scope, &group.scope));
        w.out
            .push(u8::from(same_resource) | u8::from(same_scope) << 1);
        if !same_resource {
            w.resource(&group.resource);
        }
        if !same_scope {
            w.scope(&group.scope);
        }
        w.number(group.spans.len() as u64);
        for span in &group.spans {
            w.span(span);
        }
        before = Some(group);
    }
    w.shallow
}

/// Reads a batch; the bytes must hold it and nothing else.
pub(super) fn decode(bytes: &[u8]) -> Result<Batch, DecodeError> {
    let mut r = Reader { bytes };
    let mut groups: Vec<SpanGroup> = Vec::new();
    for _ in 0..r.count()? {
        let [same] = r.array()?;
        let before = groups.last();
        let resource = match before {
            Some(before) if same & 1 != 0 => Arc::clone(&before.resource),
            _ => Arc::new(r.resource()?),
        };
        let scope = match before {
            Some(before) if same & 2 != 0 => Arc::clone(&before.scope),
            _ => Arc::new(r.scope()?),
        };
        let spans = r.list(Reader::span)?;
        groups.push(SpanGroup {
            resource,
            scope,
            spans,
        });
    }
    if r.bytes.is_empty() {
        Ok(Batch { groups })
    } else {
        Err(DecodeError::Trailing)
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    shallow: bool,
}

impl Writer<'_> {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.out.push(n as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn resource(&mut self, resource: &Resource) {
        self.attributes(&resource.attributes, 0);
        self.number(resource.dropped_attributes_count.into());
        self.bytes(resource.schema_url.as_bytes());
    }

    fn scope(&mut self, scope: &Scope) {
        self.bytes(scope.name.as_bytes());
        self.bytes(scope.version.as_bytes());
        self.attributes(&scope.attributes, 0);
        self.number(scope.dropped_attributes_count.into());
        self.bytes(scope.schema_url.as_bytes());
    }

    fn span(&mut self, span: &Span) {
        self.out.extend_from_slice(&span.trace_id.to_bytes());
        self.out.extend_from_slice(&span.span_id.to_bytes());
        let parent = span.parent_span_id;
        self.out.push(
            span.kind as u8 | (span.status.code as u8) << 3 | u8::from(parent.is_some()) << 5,
        );
        if let Some(parent) = parent {
            self.out.extend_from_slice(&parent.to_bytes());
        }
        self.out
            .extend_from_slice(&span.start_unix_nano.to_le_bytes());
        self.out
            .extend_from_slice(&span.end_unix_nano.to_le_bytes());
        self.number(span.flags.into());
        for text in [&span.trace_state, &span.name, &span.status.message] {
            self.bytes(text.as_bytes());
        }
        self.attributes(&span.attributes, 0);
        self.number(span.dropped_attributes_count.into());
        self.number(span.events.len() as u64);
        for event in &span.events {
            self.out
                .extend_from_slice(&event.time_unix_nano.to_le_bytes());
            self.bytes(event.name.as_bytes());
            self.attributes(&event.attributes, 0);
            self.number(event.dropped_attributes_count.into());
        }
        self.number(span.dropped_events_count.into());
        self.number(span.links.len() as u64);
        for link in &span.links {
            self.out.extend_from_slice(&link.trace_id.to_bytes());
            self.out.extend_from_slice(&link.span_id.to_bytes());
            self.bytes(link.trace_state.as_bytes());
            self.number(link.flags.into());
            self.attributes(&link.attributes, 0);
            self.number(link.dropped_attributes_count.into());
        }
        self.number(span.dropped_links_count.into());
    }

    fn attributes(&mut self, attributes: &[Attribute], depth: usize) {
        self.number(attributes.len() as u64);
        for attribute in attributes {
            self.bytes(attribute.key.as_bytes());
            self.value(&attribute.value, depth);
        }
    }

    fn value(&mut self, value: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            self.shallow = false;
            return;
        }
        match value {
            Value::Empty => self.out.push(0),
            Value::String(v) => {
                self.out.push(1);
                self.bytes(v.as_bytes());
            }
            Value::Bool(v) => self.out.extend_from_slice(&[2, u8::from(*v)]),
            Value::Int(v) => {
                self.out.push(3);
                // Zigzag: small numbers of either sign are short.
                self.number(((v << 1) ^ (v >> 63)) as u64);
            }
            Value::Double(v) => {
                self.out.push(4);
                self.out.extend_from_slice(&v.to_bits().to_le_bytes());
            }
            Value::Bytes(v) => {
                self.out.push(5);
                self.bytes(v);
            }
            Value::Array(values) => {
                self.out.push(6);
                self.number(values.len() as u64);
                for value in values {
                    self.value(value, depth + 1);
                }
            }
            Value::Map(attributes) => {
                self.out.push(7);
                self.attributes(attributes, depth + 1);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn fixed(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(DecodeError::Malformed("number"))
    }

    fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Malformed("number"))
    }

    /// A number of things that take a byte each at least.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count()?;
        // What is claimed is not yet there: let the vector grow with what is.
        let mut items = Vec::with_capacity(count.min(1_024));
        for _ in 0..count {
            items.push(item(self)?);
        }
        items.shrink_to_fit();
        Ok(items)
    }

    fn raw(&mut self) -> Result<Vec<u8>, DecodeError> {
        let count = self.count()?;
        self.take(count).map(<[u8]>::to_vec)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        String::from_utf8(self.raw()?).map_err(|_| DecodeError::Malformed("text"))
    }

    fn trace_id(&mut self) -> Result<TraceId, DecodeError> {
        self.array().map(TraceId::from_bytes)
    }

    fn span_id(&mut self) -> Result<SpanId, DecodeError> {
        self.array().map(SpanId::from_bytes)
    }

    fn resource(&mut self) -> Result<Resource, DecodeError> {
        Ok(Resource {
            attributes: self.attributes(0)?,
            dropped_attributes_count: self.small()?,
            schema_url: self.text()?,
        })
    }

    fn scope(&mut self) -> Result<Scope, DecodeError> {
        Ok(Scope {
            name: self.text()?,
            version: self.text()?,
            attributes: self.attributes(0)?,
            dropped_attributes_count: self.small()?,
            schema_url: self.text()?,
        })
    }

    fn span(&mut self) -> Result<Span, DecodeError> {
        let (trace_id, span_id) = (self.trace_id()?, self.span_id()?);
        let [bits] = self.array()?;
        let parent_span_id = (bits & 0x20 != 0).then(|| self.span_id()).transpose()?;
        let (start_unix_nano, end_unix_nano) = (self.fixed()?, self.fixed()?);
        let flags = self.small()?;
        let (trace_state, name, message) = (self.text()?, self.text()?, self.text()?);
        Ok(Span {
            trace_id,
            span_id,
            parent_span_id,
            trace_state,
            flags,
            name,
            kind: SpanKind::from_number((bits & 7).into()),
            start_unix_nano,
            end_unix_nano,
            attributes: self.attributes(0)?,
            dropped_attributes_count: self.small()?,
            events: self.list(Self::event)?,
            dropped_events_count: self.small()?,
            links: self.list(Self::link)?,
            dropped_links_count: self.small()?,
            status: Status {
                code: StatusCode::from_number((bits >> 3 & 3).into()),
                message,
            },
        })
    }

    fn event(&mut self) -> Result<Event, DecodeError> {
        Ok(Event {
            time_unix_nano: self.fixed()?,
            name: self.text()?,
            attributes: self.attributes(0)?,
            dropped_attributes_count: self.small()?,
        })
    }

    fn link(&mut self) -> Result<Link, DecodeError> {
        Ok(Link {
            trace_id: self.trace_id()?,
            span_id: self.span_id()?,
            trace_state: self.text()?,
            flags: self.small()?,
            attributes: self.attributes(0)?,
            dropped_attributes_count: self.small()?,
        })
    }

    fn attributes(&mut self, depth: usize) -> Result<Vec<Attribute>, DecodeError> {
        self.list(|r| {
            Ok(Attribute {
                key: r.text()?,
                value: r.value(depth)?,
            })
        })
    }

    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::Malformed("value"));
        }
        let [kind] = self.array()?;
        Ok(match kind {
            0 => Value::Empty,
            1 => Value::String(self.text()?),
            2 => Value::Bool(self.array()? != [0]),
            3 => {
                let n = self.number()?;
                Value::Int((n >> 1) as i64 ^ -((n & 1) as i64))
            }
            4 => Value::Double(f64::from_bits(self.fixed()?)),
            5 => Value::Bytes(self.raw()?),
            6 => Value::Array(self.list(|r| r.value(depth + 1))?),
            7 => Value::Map(self.attributes(depth + 1)?),
            _ => return Err(DecodeError::Malformed("value")),
        })
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
