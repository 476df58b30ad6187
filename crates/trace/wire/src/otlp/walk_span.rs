//! The part of the walk that runs for every span: it knows the one form in which encoders write a
//! span, and leaves everything else, errors included, to the decoder.

use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};

use super::limits::{MAX_ATTRIBUTES, MAX_EVENTS, MAX_LINKS};
use super::walk::{AttributeRef, EventRef, LinkRef, SpanRef, ValueRef};

/// Lists that are filled anew for each span.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    attributes: Vec<AttributeRef<'a>>,
    nested: Vec<AttributeRef<'a>>,
    events: Vec<EventRef<'a>>,
    links: Vec<LinkRef<'a>>,
}

impl<'a> Scratch<'a> {
    /// The span of this message; `None` if it is written in any other than the usual form.
    #[inline]
    pub(super) fn span<'s>(&'s mut self, bytes: &'a [u8]) -> Option<SpanRef<'s, 'a>> {
        self.attributes.clear();
        self.nested.clear();
        self.events.clear();
        self.links.clear();
        let mut span = SpanRef {
            trace_id: TraceId::ZERO,
            span_id: SpanId::ZERO,
            parent_span_id: None,
            trace_state: &[],
            flags: 0,
            name: &[],
            kind: SpanKind::Unspecified,
            start_unix_nano: 0,
            end_unix_nano: 0,
            attributes: &[],
            dropped_attributes_count: 0,
            events: &[],
            dropped_events_count: 0,
            links: &[],
            dropped_links_count: 0,
            status_code: StatusCode::Unset,
            status_message: &[],
            nested: &[],
        };
        let mut rest = Rest(bytes);
        while let Some(tag) = rest.tag() {
            match tag {
                0x0a => span.trace_id = trace_id(rest.bytes()?)?,
                0x12 => span.span_id = span_id(rest.bytes()?)?,
                0x1a => rest.text(&mut span.trace_state)?,
                0x22 => span.parent_span_id = parent_span_id(rest.bytes()?)?,
                0x2a => rest.text(&mut span.name)?,
                0x30 => span.kind = SpanKind::from_number(rest.varint()? as i32),
                0x39 => span.start_unix_nano = rest.fixed64()?,
                0x41 => span.end_unix_nano = rest.fixed64()?,
                0x4a => {
                    let attribute = attribute(rest.bytes()?)?;
                    self.attributes.push(attribute);
                }
                0x50 => span.dropped_attributes_count = rest.varint()? as u32,
                0x5a => self.event(rest.bytes()?)?,
                0x60 => span.dropped_events_count = rest.varint()? as u32,
                0x6a => self.link(rest.bytes()?)?,
                0x70 => span.dropped_links_count = rest.varint()? as u32,
                0x7a => status(rest.bytes()?, &mut span)?,
                // The key of field 16, flags, takes two bytes.
                0x85 if rest.tag() == Some(0x01) => span.flags = rest.fixed32()?,
                _ => return None,
            }
        }
        let usual = !span.trace_id.is_zero()
            && !span.span_id.is_zero()
            && self.attributes.len() <= MAX_ATTRIBUTES
            && self.events.len() <= MAX_EVENTS
            && self.links.len() <= MAX_LINKS;
        span.attributes = &self.attributes;
        span.nested = &self.nested;
        span.events = &self.events;
        span.links = &self.links;
        usual.then_some(span)
    }

    fn event(&mut self, bytes: &'a [u8]) -> Option<()> {
        let first = self.nested.len();
        let mut event = EventRef {
            time_unix_nano: 0,
            name: &[],
            dropped_attributes_count: 0,
            attributes: (first, first),
        };
        let mut rest = Rest(bytes);
        while let Some(tag) = rest.tag() {
            match tag {
                0x09 => event.time_unix_nano = rest.fixed64()?,
                0x12 => rest.text(&mut event.name)?,
                0x1a => self.nested.push(attribute(rest.bytes()?)?),
                0x20 => event.dropped_attributes_count = rest.varint()? as u32,
                _ => return None,
            }
        }
        event.attributes.1 = self.nested.len();
        self.events.push(event);
        (self.nested.len() - first <= MAX_ATTRIBUTES).then_some(())
    }

    fn link(&mut self, bytes: &'a [u8]) -> Option<()> {
        let first = self.nested.len();
        let mut link = LinkRef {
            trace_id: TraceId::ZERO,
            span_id: SpanId::ZERO,
            trace_state: &[],
            flags: 0,
            dropped_attributes_count: 0,
            attributes: (first, first),
        };
        let mut rest = Rest(bytes);
        while let Some(tag) = rest.tag() {
            match tag {
                0x0a => link.trace_id = trace_id(rest.bytes()?)?,
                0x12 => link.span_id = span_id(rest.bytes()?)?,
                0x1a => rest.text(&mut link.trace_state)?,
                0x22 => self.nested.push(attribute(rest.bytes()?)?),
                0x28 => link.dropped_attributes_count = rest.varint()? as u32,
                0x35 => link.flags = rest.fixed32()?,
                _ => return None,
            }
        }
        link.attributes.1 = self.nested.len();
        self.links.push(link);
        (self.nested.len() - first <= MAX_ATTRIBUTES).then_some(())
    }
}

fn status<'a>(bytes: &'a [u8], span: &mut SpanRef<'_, 'a>) -> Option<()> {
    let mut rest = Rest(bytes);
    while let Some(tag) = rest.tag() {
        match tag {
            0x12 => rest.text(&mut span.status_message)?,
            0x18 => span.status_code = StatusCode::from_number(rest.varint()? as i32),
            _ => return None,
        }
    }
    Some(())
}

/// A `KeyValue`: the key, which is left out when empty, then the value.
#[inline]
fn attribute(bytes: &[u8]) -> Option<AttributeRef<'_>> {
    let mut rest = Rest(bytes);
    let mut attribute = AttributeRef {
        key: &[],
        value: ValueRef::Empty,
    };
    let mut tag = rest.tag();
    if tag == Some(0x0a) {
        attribute.key = rest.bytes()?;
        tag = rest.tag();
    }
    if let Some(tag) = tag {
        if tag != 0x12 {
            return None;
        }
        attribute.value = any_value(rest.bytes()?)?;
    }
    rest.0.is_empty().then_some(attribute)
}

/// An `AnyValue` of one scalar.
#[inline]
fn any_value(bytes: &[u8]) -> Option<ValueRef<'_>> {
    let mut rest = Rest(bytes);
    let value = match rest.tag() {
        None => ValueRef::Empty,
        Some(0x0a) => ValueRef::Text(rest.bytes()?),
        Some(0x10) => ValueRef::Bool(rest.varint()? != 0),
        Some(0x18) => ValueRef::Int(rest.varint()? as i64),
        Some(0x21) => ValueRef::Double(f64::from_bits(rest.fixed64()?)),
        Some(0x3a) => ValueRef::Bytes(rest.bytes()?),
        Some(_) => return None,
    };
    rest.0.is_empty().then_some(value)
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    Some(TraceId::from_bytes(bytes.try_into().ok()?))
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    Some(SpanId::from_bytes(bytes.try_into().ok()?))
}

fn parent_span_id(bytes: &[u8]) -> Option<Option<SpanId>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let id = span_id(bytes)?;
    Some((!id.is_zero()).then_some(id))
}

/// What is left of a message.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    #[inline]
    fn tag(&mut self) -> Option<u8> {
        let (tag, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*tag)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (&first, rest) = self.0.split_first()?;
        if first < 0x80 {
            self.0 = rest;
            return Some(u64::from(first));
        }
        let (&second, rest) = rest.split_first()?;
        if second < 0x80 {
            self.0 = rest;
            return Some(u64::from(first & 0x7f) | u64::from(second) << 7);
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.0 = &self.0[i + 1..];
                // A number of more than 64 bits is an error.
                return (i < 9 || byte <= 1).then_some(value);
            }
        }
        None
    }

    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A text that comes once: a decoder checks every occurrence of a field, the sink only the last.
    #[inline]
    fn text(&mut self, field: &mut &'a [u8]) -> Option<()> {
        let bytes = self.bytes()?;
        if !field.is_empty() {
            return None;
        }
        *field = bytes;
        Some(())
    }

    #[inline]
    fn fixed64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn fixed32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }
}
