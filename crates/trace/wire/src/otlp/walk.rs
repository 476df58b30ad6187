//! Protobuf → a sink, without the model's types: nothing is copied, nothing is allocated for a span.

use periplus_model::{Resource, Scope, Span, SpanId, SpanKind, StatusCode, TraceId};

use super::decode::{read_resource, read_scope, read_span};
use super::error::{Place, SpanError};
use super::walk_span::Scratch;
use super::{DecodeError, Refused};
use crate::protobuf::{Payload, Reader};

/// Takes what [`walk_protobuf`] meets: `resource`, then for each of its scopes `scope` and the spans.
///
/// After an error, what has been taken of the request is to be forgotten.
pub trait Sink {
    /// What may go wrong on this side.
    type Error: From<DecodeError>;

    /// The following scopes and spans are of this resource.
    fn resource(&mut self, resource: &ResourceRef<'_>) -> Result<(), Self::Error>;

    /// The following spans are of this scope. A scope may have none.
    fn scope(&mut self, scope: &ScopeRef<'_>) -> Result<(), Self::Error>;

    /// All spans since the last [`Self::scope`] are of this scope instead: something behind them said so.
    fn scope_of_spans(&mut self, scope: &ScopeRef<'_>) -> Result<(), Self::Error>;

    /// A span. Its texts are bytes that nobody has checked: the sink checks those that it has not
    /// seen before, and answers [`Taken::NotUtf8`] if they are none.
    fn span(&mut self, span: &SpanRef<'_, '_>) -> Result<Taken, Self::Error>;

    /// A span that cannot be shown as a [`SpanRef`]: it has arrays or maps, repeats a field, or has
    /// fields that this version does not know.
    fn decoded_span(&mut self, span: Span) -> Result<(), Self::Error>;
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// One of its texts is not UTF-8, which refuses the whole request.
    NotUtf8,
}

/// A resource that has not been decoded.
#[derive(Clone, Copy, Debug)]
pub struct ResourceRef<'a> {
    /// The messages that make it up; one, unless the sender is very strange.
    pub messages: &'a [&'a [u8]],
    /// Its schema URL.
    pub schema_url: &'a str,
}

impl ResourceRef<'_> {
    /// Decodes it.
    ///
    /// # Errors
    ///
    /// The bytes are no resource.
    pub fn decode(&self) -> Result<Resource, DecodeError> {
        let mut resource = Resource::default();
        for message in self.messages {
            read_resource(message, &mut resource)?;
        }
        self.schema_url.clone_into(&mut resource.schema_url);
        Ok(resource)
    }
}

/// A scope that has not been decoded.
#[derive(Clone, Copy, Debug)]
pub struct ScopeRef<'a> {
    /// The messages that make it up; at most one, unless the sender is very strange.
    pub messages: &'a [&'a [u8]],
    /// Its schema URL.
    pub schema_url: &'a str,
}

impl ScopeRef<'_> {
    /// Decodes it.
    ///
    /// # Errors
    ///
    /// The bytes are no scope.
    pub fn decode(&self) -> Result<Scope, DecodeError> {
        let mut scope = Scope::default();
        for message in self.messages {
            read_scope(message, &mut scope)?;
        }
        self.schema_url.clone_into(&mut scope.schema_url);
        Ok(scope)
    }
}

/// A span that borrows from the request. The ids are valid; the texts have not been checked.
#[derive(Clone, Copy, Debug)]
pub struct SpanRef<'s, 'a> {
    /// The trace's id.
    pub trace_id: TraceId,
    /// The span's id.
    pub span_id: SpanId,
    /// The parent's id.
    pub parent_span_id: Option<SpanId>,
    /// The W3C `tracestate`.
    pub trace_state: &'a [u8],
    /// OTLP's `flags`.
    pub flags: u32,
    /// The name.
    pub name: &'a [u8],
    /// The kind.
    pub kind: SpanKind,
    /// When it began.
    pub start_unix_nano: u64,
    /// When it ended.
    pub end_unix_nano: u64,
    /// Its attributes.
    pub attributes: &'s [AttributeRef<'a>],
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    /// Its events.
    pub events: &'s [EventRef<'a>],
    /// Events that the sender dropped.
    pub dropped_events_count: u32,
    /// Its links.
    pub links: &'s [LinkRef<'a>],
    /// Links that the sender dropped.
    pub dropped_links_count: u32,
    /// The status code.
    pub status_code: StatusCode,
    /// The status message.
    pub status_message: &'a [u8],
    /// The attributes of all events and links.
    pub(super) nested: &'s [AttributeRef<'a>],
}

impl<'s, 'a> SpanRef<'s, 'a> {
    /// The attributes of an event of this span.
    pub fn event_attributes(&self, event: &EventRef<'a>) -> &'s [AttributeRef<'a>] {
        (self.nested)
            .get(event.attributes.0..event.attributes.1)
            .unwrap_or_default()
    }

    /// The attributes of a link of this span.
    pub fn link_attributes(&self, link: &LinkRef<'a>) -> &'s [AttributeRef<'a>] {
        (self.nested)
            .get(link.attributes.0..link.attributes.1)
            .unwrap_or_default()
    }
}

/// An attribute that borrows from the request.
#[derive(Clone, Copy, Debug)]
pub struct AttributeRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: ValueRef<'a>,
}

/// A value that borrows from the request.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// Nothing set.
    Empty,
    /// Text.
    Text(&'a [u8]),
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Raw bytes.
    Bytes(&'a [u8]),
}

/// An event that borrows from the request.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    /// When.
    pub time_unix_nano: u64,
    /// Its name.
    pub name: &'a [u8],
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    pub(super) attributes: (usize, usize),
}

/// A link that borrows from the request.
#[derive(Clone, Copy, Debug)]
pub struct LinkRef<'a> {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// The other side's `tracestate`.
    pub trace_state: &'a [u8],
    /// OTLP's link `flags`.
    pub flags: u32,
    /// Attributes that the sender dropped.
    pub dropped_attributes_count: u32,
    pub(super) attributes: (usize, usize),
}

/// Walks through an `ExportTraceServiceRequest`. What it gives to the sink is what
/// [`super::decode_protobuf`] makes of the same bytes, the limits and the refused spans included.
///
/// # Errors
///
/// The bytes are not such a message, or the sink failed.
pub fn walk_protobuf<S: Sink>(bytes: &[u8], sink: &mut S) -> Result<Refused, S::Error> {
    let mut walk = Walk {
        sink,
        refused: Refused::default(),
        scratch: Scratch::default(),
    };
    let mut place = Place::default();
    let mut reader = Reader::new("ExportTraceServiceRequest", bytes);
    while let Some((field, payload)) = reader.next().map_err(DecodeError::from)? {
        if field == 1 {
            let bytes = payload.bytes("ExportTraceServiceRequest.resource_spans");
            walk.resource_spans(bytes.map_err(DecodeError::from)?, place)?;
            place.resource_spans += 1;
        }
    }
    Ok(walk.refused)
}

struct Walk<'w, 'a, S> {
    sink: &'w mut S,
    refused: Refused,
    scratch: Scratch<'a>,
}

/// What a `ResourceSpans` or a `ScopeSpans` says of all its members; it may come behind them.
#[derive(Default)]
struct Common<'a> {
    heads: Vec<&'a [u8]>,
    schema_url: &'a str,
}

impl Common<'_> {
    fn resource(&self) -> ResourceRef<'_> {
        ResourceRef {
            messages: &self.heads,
            schema_url: self.schema_url,
        }
    }

    fn scope(&self) -> ScopeRef<'_> {
        ScopeRef {
            messages: &self.heads,
            schema_url: self.schema_url,
        }
    }
}

impl<'a, S: Sink> Walk<'_, 'a, S> {
    /// Goes over the message twice: its members are few.
    fn resource_spans(&mut self, bytes: &'a [u8], mut place: Place) -> Result<(), S::Error> {
        let mut common = Common::default();
        let mut members = Vec::new();
        let mut reader = Reader::new("ResourceSpans", bytes);
        while let Some((field, payload)) = reader.next().map_err(DecodeError::from)? {
            match field {
                1 => (common.heads).push(bytes_of(payload, "ResourceSpans.resource")?),
                2 => members.push(bytes_of(payload, "ResourceSpans.scope_spans")?),
                3 => common.schema_url = text_of(payload, "ResourceSpans.schema_url")?,
                _ => {}
            }
        }
        self.sink.resource(&common.resource())?;
        for bytes in members {
            self.scope_spans(bytes, place)?;
            place.scope_spans += 1;
        }
        Ok(())
    }

    /// Goes over the message once: to look for what is behind the spans takes as long as to fetch them
    /// from memory.
    fn scope_spans(&mut self, bytes: &'a [u8], mut place: Place) -> Result<(), S::Error> {
        let mut common = Common::default();
        // Whether the sink knows of the scope, and of all that was said about it.
        let (mut known, mut changed) = (false, false);
        let mut reader = Reader::new("ScopeSpans", bytes);
        while let Some((field, payload)) = reader.next().map_err(DecodeError::from)? {
            match field {
                1 => {
                    common.heads.push(bytes_of(payload, "ScopeSpans.scope")?);
                    changed = known;
                }
                2 => {
                    let span = bytes_of(payload, "ScopeSpans.spans")?;
                    if !known {
                        self.sink.scope(&common.scope())?;
                        known = true;
                    }
                    self.span(span, place)?;
                    place.span += 1;
                }
                3 => {
                    common.schema_url = text_of(payload, "ScopeSpans.schema_url")?;
                    changed = known;
                }
                _ => {}
            }
        }
        match (known, changed) {
            (false, _) => self.sink.scope(&common.scope()),
            (true, true) => self.sink.scope_of_spans(&common.scope()),
            (true, false) => Ok(()),
        }
    }

    fn span(&mut self, bytes: &'a [u8], place: Place) -> Result<(), S::Error> {
        if let Some(span) = self.scratch.span(bytes)
            && self.sink.span(&span)? == Taken::Yes
        {
            return Ok(());
        }
        match read_span(bytes) {
            Ok(span) => self.sink.decoded_span(span),
            Err(SpanError::Refused(reason)) => {
                self.refused.add(place, &reason);
                Ok(())
            }
            Err(SpanError::Request(error)) => Err(error.into()),
        }
    }
}

fn bytes_of<'a>(payload: Payload<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    Ok(payload.bytes(field)?)
}

fn text_of<'a>(payload: Payload<'a>, field: &'static str) -> Result<&'a str, DecodeError> {
    Ok(payload.str(field)?)
}
