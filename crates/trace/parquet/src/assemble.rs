//! Leaf columns back into spans.

use std::sync::Arc;

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode, TraceId,
    Value,
};

use crate::cursor::{Cursor, Fault};
use crate::layout::{AttributesAt, Layout};
use crate::shred::{kind_text, status_text};
use crate::value::Read;

/// A fault, and the leaf of the layout that it is in.
pub(crate) type At = (usize, Fault);

/// A row.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) group_index: u32,
    pub(crate) span_index: u32,
    pub(crate) resource: Resource,
    pub(crate) scope: Scope,
    pub(crate) span: Span,
    /// The bytes of its values, about.
    pub(crate) bytes: usize,
}

/// The columns of a row group.
pub(crate) struct Assembler {
    layout: Arc<Layout>,
    /// For each leaf; derived ones have none.
    cursors: Vec<Option<Cursor>>,
    bytes: usize,
}

impl Assembler {
    pub(crate) fn new(layout: Arc<Layout>, cursors: Vec<Option<Cursor>>) -> Self {
        Self {
            layout,
            cursors,
            bytes: 0,
        }
    }

    /// Decodes this many rows.
    pub(crate) fn fill(&mut self, rows: usize) -> Result<(), At> {
        let cursors = self.cursors.iter_mut().enumerate();
        let mut cursors = cursors.filter_map(|(leaf, cursor)| Some((leaf, cursor.as_mut()?)));
        cursors.try_for_each(|(leaf, cursor)| cursor.fill(rows).map_err(|fault| (leaf, fault)))
    }

    /// To be called when all decoded rows are taken: whether any column has more.
    pub(crate) fn check_used_up(&self) -> Result<(), At> {
        let cursors = self.cursors.iter().enumerate();
        let mut more = cursors.filter(|(_, c)| c.as_ref().is_some_and(|c| !c.is_used_up()));
        match more.next() {
            Some((leaf, _)) => Err((leaf, Fault::OutOfStep)),
            None => Ok(()),
        }
    }

    /// The next of the decoded rows.
    pub(crate) fn next(&mut self) -> Result<Assembled, At> {
        let layout = Arc::clone(&self.layout);
        let at = &*layout;
        self.bytes = 0;
        let span = Span {
            trace_id: self.trace_id(at.trace_id, 0)?,
            span_id: self.span_id(at.span_id, 0)?,
            parent_span_id: self.parsed(at.parent_span_id, 0)?,
            trace_state: self.text(at.trace_state, 0)?,
            flags: self.u32(at.flags, 0)?,
            name: self.text(at.name, 0)?,
            kind: self.word(at.kind, &SpanKind::ALL, kind_text)?,
            start_unix_nano: self.u64(at.start_unix_nano, 0)?,
            end_unix_nano: self.u64(at.end_unix_nano, 0)?,
            attributes: self.attributes(at.attributes, 0, 0)?,
            dropped_attributes_count: self.u32(at.dropped_attributes_count, 0)?,
            events: self.events(at)?,
            dropped_events_count: self.u32(at.dropped_events_count, 0)?,
            links: self.links(at)?,
            dropped_links_count: self.u32(at.dropped_links_count, 0)?,
            status: Status {
                code: self.word(at.status_code, &CODES, status_text)?,
                message: self.text(at.status_message, 0)?,
            },
        };
        Ok(Assembled {
            group_index: self.u32(at.group_index, 0)?,
            span_index: self.u32(at.span_index, 0)?,
            resource: Resource {
                attributes: self.attributes(at.resource.attributes, 0, 0)?,
                dropped_attributes_count: self.u32(at.resource.dropped_attributes_count, 0)?,
                schema_url: self.text(at.resource.schema_url, 0)?,
            },
            scope: Scope {
                name: self.text(at.scope.name, 0)?,
                version: self.text(at.scope.version, 0)?,
                attributes: self.attributes(at.scope.attributes, 0, 0)?,
                dropped_attributes_count: self.u32(at.scope.dropped_attributes_count, 0)?,
                schema_url: self.text(at.scope.schema_url, 0)?,
            },
            bytes: self.bytes + size_of_val(&span),
            span,
        })
    }

    fn events(&mut self, at: &Layout) -> Result<Vec<Event>, At> {
        let (events, driver) = (at.events, at.events.time_unix_nano);
        self.list(driver, events.all(), 0, 0, |this, level| {
            Ok(Event {
                time_unix_nano: this.u64(events.time_unix_nano, level)?,
                name: this.text(events.name, level)?,
                attributes: this.attributes(events.attributes, 1, level)?,
                dropped_attributes_count: this.u32(events.dropped_attributes_count, level)?,
            })
        })
    }

    fn links(&mut self, at: &Layout) -> Result<Vec<Link>, At> {
        let (links, driver) = (at.links, at.links.trace_id);
        self.list(driver, links.all(), 0, 0, |this, level| {
            Ok(Link {
                trace_id: this.trace_id(links.trace_id, level)?,
                span_id: this.span_id(links.span_id, level)?,
                trace_state: this.text(links.trace_state, level)?,
                flags: this.u32(links.flags, level)?,
                attributes: this.attributes(links.attributes, 1, level)?,
                dropped_attributes_count: this.u32(links.dropped_attributes_count, level)?,
            })
        })
    }

    fn attributes(
        &mut self,
        at: AttributesAt,
        list: usize,
        level: i16,
    ) -> Result<Vec<Attribute>, At> {
        self.list(at.key, at.all(), list, level, |this, level| {
            Ok(Attribute {
                key: this.text(at.key, level)?,
                value: this.value(at, level)?,
            })
        })
    }

    /// A list at this depth that begins at this repetition level; its length is that of the first
    /// of its columns.
    fn list<T>(
        &mut self,
        driver: usize,
        mut leaves: impl Iterator<Item = usize>,
        list: usize,
        level: i16,
        element: impl Fn(&mut Self, i16) -> Result<T, At>,
    ) -> Result<Vec<T>, At> {
        if !self.with(driver, |cursor| cursor.has_element(list))? {
            leaves.try_for_each(|leaf| self.with(leaf, |c| c.skip_empty(list, level)))?;
            return Ok(Vec::new());
        }
        let deeper = i16::try_from(list + 1).map_err(|_| (driver, Fault::OutOfStep))?;
        let mut elements = vec![element(self, level)?];
        while self.with(driver, |cursor| Ok(cursor.goes_on(list)))? {
            elements.push(element(self, deeper)?);
        }
        Ok(elements)
    }

    fn value(&mut self, at: AttributesAt, level: i16) -> Result<Value, At> {
        let several = || Fault::Value("an attribute has values of several types".to_owned());
        let mut value = None;
        let mut set = |leaf: usize, found: Option<Value>| match (found, &value) {
            (None, _) => Ok(()),
            (found, None) => {
                value = found;
                Ok(())
            }
            (Some(_), Some(_)) => Err((leaf, several())),
        };
        let text = self.optional_text(at.string, level)?;
        set(at.string, text.map(Value::String))?;
        let found = self.with(at.bool, |c| c.bool(level))?;
        set(at.bool, found.map(Value::Bool))?;
        let found = self.with(at.int, |c| c.int64(level))?;
        set(at.int, found.map(Value::Int))?;
        let found = self.with(at.double, |c| c.double(level))?;
        set(at.double, found.map(Value::Double))?;
        let found = self.with(at.bytes, |c| Ok(c.bytes(level)?.map(<[u8]>::to_vec)))?;
        self.bytes += found.as_ref().map_or(0, Vec::len);
        set(at.bytes, found.map(Value::Bytes))?;
        let json = self.optional_text(at.json, level)?;
        let json = json.map(|json| match serde_json::from_str(&json) {
            Ok(Read(value)) => Ok(value),
            Err(e) => Err((
                at.json,
                Fault::Value(format!("the JSON of an attribute: {e}")),
            )),
        });
        set(at.json, json.transpose()?)?;
        Ok(value.unwrap_or_default())
    }

    fn trace_id(&mut self, leaf: usize, level: i16) -> Result<TraceId, At> {
        self.parsed(leaf, level)?.ok_or((leaf, Fault::Null))
    }

    fn span_id(&mut self, leaf: usize, level: i16) -> Result<SpanId, At> {
        self.parsed(leaf, level)?.ok_or((leaf, Fault::Null))
    }

    fn parsed<T>(&mut self, leaf: usize, level: i16) -> Result<Option<T>, At>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.with(leaf, |cursor| {
            let Some(bytes) = cursor.bytes(level)? else {
                return Ok(None);
            };
            let id = utf8(bytes)?.parse();
            id.map(Some)
                .map_err(|e: T::Err| Fault::Value(e.to_string()))
        })
    }

    /// One of the words of an enumeration.
    fn word<T: Copy>(
        &mut self,
        leaf: usize,
        all: &[T],
        text: impl Fn(T) -> &'static str,
    ) -> Result<T, At> {
        self.with(leaf, |cursor| {
            let word = utf8(cursor.bytes(0)?.ok_or(Fault::Null)?)?;
            let found = all.iter().copied().find(|v| text(*v) == word);
            found.ok_or_else(|| {
                let known: Vec<_> = all.iter().map(|v| text(*v)).collect();
                Fault::Value(format!("{word:?} is none of: {}", known.join(", ")))
            })
        })
    }

    fn text(&mut self, leaf: usize, level: i16) -> Result<String, At> {
        let text = self.optional_text(leaf, level)?;
        text.ok_or((leaf, Fault::Null))
    }

    fn optional_text(&mut self, leaf: usize, level: i16) -> Result<Option<String>, At> {
        let text = self.with(leaf, |cursor| match cursor.bytes(level)? {
            Some(bytes) => utf8(bytes).map(|text| Some(text.to_owned())),
            None => Ok(None),
        })?;
        self.bytes += text.as_ref().map_or(0, String::len);
        Ok(text)
    }

    fn u32(&mut self, leaf: usize, level: i16) -> Result<u32, At> {
        let number = self.with(leaf, |cursor| cursor.int32(level))?;
        number.map(i32::cast_unsigned).ok_or((leaf, Fault::Null))
    }

    fn u64(&mut self, leaf: usize, level: i16) -> Result<u64, At> {
        let number = self.with(leaf, |cursor| cursor.int64(level))?;
        number.map(i64::cast_unsigned).ok_or((leaf, Fault::Null))
    }

    fn with<T>(
        &mut self,
        leaf: usize,
        take: impl FnOnce(&mut Cursor) -> Result<T, Fault>,
    ) -> Result<T, At> {
        let cursor = self.cursors[leaf].as_mut();
        let taken = cursor.ok_or(Fault::OutOfStep).and_then(take);
        taken.map_err(|fault| (leaf, fault))
    }
}

const CODES: [StatusCode; 3] = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error];

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    str::from_utf8(bytes).map_err(|e| Fault::Value(format!("the text is not UTF-8: {e}")))
}
