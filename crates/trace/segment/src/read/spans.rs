//! Rows back into spans.

use std::sync::Arc;

use periplus_filter::Detail;
use periplus_model::{Event, Link, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId};

use super::group::{Group, Traces, at_or_zero};
use super::values::Rows;
use crate::ReadError;
use crate::bytes::unzigzag;
use crate::encode::parents;
use crate::layout::{Core, Section};
use crate::schema::Place;

/// A span that has been read, with what is needed to put it into a group.
pub(super) struct Arrived {
    /// Sorts the spans of a trace by the order in which they arrived.
    key: Key,
    resource: u32,
    scope: u32,
    span: Span,
}

/// By the rank where it was written; else in the order that is expected.
type Key = (u32, u32, u64, u64, u32, u32);

/// Reads the spans of a group in the order of its rows.
pub(super) struct Spans<'g> {
    group: &'g Group,
    traces: &'g Traces,
    attributes: Rows<'g>,
    events: Rows<'g>,
    links: Rows<'g>,
    detail: Detail,
    /// The far parents and those elsewhere that are read next.
    far: usize,
    elsewhere: usize,
}

impl<'g> Spans<'g> {
    /// From the first span of this trace on.
    pub(super) fn from(group: &'g Group, trace: usize, detail: Detail) -> Result<Self, ReadError> {
        let traces = group.trace_table()?;
        let row = at_or_zero(&traces.rows, trace) as usize;
        let before = |column| -> Result<usize, ReadError> {
            let counts = group.codes(column)?;
            let counts = counts.get(..row).unwrap_or_default();
            Ok(counts.iter().map(|count| *count as usize).sum())
        };
        let parents = group.codes(Core::Parent)?;
        let parents = parents.get(..row).unwrap_or_default();
        let count = |what: u8| {
            let what = u32::from(what);
            parents.iter().filter(|parent| **parent == what).count()
        };
        Ok(Self {
            group,
            traces,
            attributes: Rows::from(group, Place::Span, row)?,
            events: Rows::from(group, Place::Event, before(Core::Events)?)?,
            links: Rows::from(group, Place::Link, before(Core::Links)?)?,
            detail,
            far: count(parents::FAR),
            elsewhere: count(parents::ELSEWHERE),
        })
    }

    /// Adds the spans of a trace, which must be the one behind the one that was read last.
    pub(super) fn read_trace(
        &mut self,
        trace: usize,
        to: &mut Vec<Arrived>,
    ) -> Result<(), ReadError> {
        self.read_while(trace, to, |_| true)?;
        Ok(())
    }

    /// The same, as long as there is room; whether there was for all.
    pub(super) fn read_while(
        &mut self,
        trace: usize,
        to: &mut Vec<Arrived>,
        mut has_room: impl FnMut(&Span) -> bool,
    ) -> Result<bool, ReadError> {
        let rows = self.traces.rows[trace] as usize..self.traces.rows[trace + 1] as usize;
        let ranks = self.group.codes(Core::Rank)?;
        let resources = self.group.codes(Core::Resource)?;
        let scopes = self.group.codes(Core::Scope)?;
        to.reserve(rows.len());
        for row in rows.clone() {
            let span = self.read(row, rows.start, trace)?;
            if !has_room(&span) {
                return Ok(false);
            }
            let (resource, scope) = (at_or_zero(resources, row), at_or_zero(scopes, row));
            let key = match self.traces.ranks[trace] {
                Some(first) => {
                    let rank = at_or_zero(ranks, first as usize + (row - rows.start));
                    (0, 0, 0, 0, 0, rank)
                }
                None => {
                    let (end, start) = (span.end_unix_nano, span.start_unix_nano);
                    (resource, scope, end, start, row as u32, 0)
                }
            };
            to.push(Arrived {
                key,
                resource,
                scope,
                span,
            });
        }
        Ok(true)
    }

    fn read(&mut self, row: usize, first_row: usize, trace: usize) -> Result<Span, ReadError> {
        let group = self.group;
        let code = |column| -> Result<u32, ReadError> { Ok(at_or_zero(group.codes(column)?, row)) };
        let number =
            |column| -> Result<u64, ReadError> { Ok(at_or_zero(group.numbers(column)?, row)) };
        let start = self.traces.starts[trace].wrapping_add(number(Core::Start)?);
        let kind_status = code(Core::KindStatus)?;
        let span = Span {
            trace_id: self.traces.ids[trace],
            span_id: self.span_id(row)?,
            parent_span_id: self.parent(row, first_row)?,
            trace_state: group.text(Section::TraceStates, code(Core::TraceState)?)?,
            flags: code(Core::Flags)?,
            name: group.text(Section::Names, code(Core::Name)?)?,
            kind: SpanKind::from_number((kind_status & 0xf) as i32),
            start_unix_nano: start,
            end_unix_nano: start.wrapping_add(number(Core::Duration)?),
            attributes: self.attributes.read(self.detail)?,
            dropped_attributes_count: code(Core::DroppedAttributes)?,
            events: (0..self.wanted(code(Core::Events)?))
                .map(|_| self.event(start))
                .collect::<Result<_, _>>()?,
            dropped_events_count: code(Core::DroppedEvents)?,
            links: (0..self.wanted(code(Core::Links)?))
                .map(|_| self.link())
                .collect::<Result<_, _>>()?,
            dropped_links_count: code(Core::DroppedLinks)?,
            status: Status {
                code: StatusCode::from_number((kind_status >> 4) as i32),
                message: group.text(Section::Messages, code(Core::Message)?)?,
            },
        };
        Ok(span)
    }

    /// How many events or links of a span are read. Of an outline none ever are, so it does not matter
    /// where they lie.
    const fn wanted(&self, count: u32) -> u32 {
        match self.detail {
            Detail::Full => count,
            Detail::Outline(_) => 0,
        }
    }

    /// Goes on behind a span without making it.
    fn skip(&mut self, row: usize) -> Result<(), ReadError> {
        let group = self.group;
        self.attributes.skip()?;
        for _ in 0..at_or_zero(group.codes(Core::Events)?, row) {
            self.check_row(Core::Events, self.events.row, Place::Event)?;
            self.events.skip()?;
        }
        for _ in 0..at_or_zero(group.codes(Core::Links)?, row) {
            self.check_row(Core::Links, self.links.row, Place::Link)?;
            self.links.skip()?;
        }
        let parent = at_or_zero(group.codes(Core::Parent)?, row);
        self.far += usize::from(parent == u32::from(parents::FAR));
        self.elsewhere += usize::from(parent == u32::from(parents::ELSEWHERE));
        Ok(())
    }

    fn span_id(&self, row: usize) -> Result<SpanId, ReadError> {
        let (ids, _) = self.group.raw(Core::SpanId)?.as_chunks::<8>();
        match ids.get(row) {
            Some(id) => Ok(SpanId::from_bytes(*id)),
            None => Err(self.group.damaged(Core::SpanId, "one of them is missing")),
        }
    }

    fn parent(&mut self, row: usize, first_row: usize) -> Result<Option<SpanId>, ReadError> {
        let wrong = || {
            self.group
                .damaged(Core::Parent, "one of them makes no sense")
        };
        let parent = at_or_zero(self.group.codes(Core::Parent)?, row);
        let near = u8::try_from(parent).map_err(|_| wrong())?;
        let at = match near {
            parents::ROOT => return Ok(None),
            parents::ZERO => return Ok(Some(SpanId::ZERO)),
            parents::ELSEWHERE => {
                let (ids, _) = self.group.raw(Core::RawParent)?.as_chunks::<8>();
                let id = ids.get(self.elsewhere).ok_or_else(wrong)?;
                self.elsewhere += 1;
                return Ok(Some(SpanId::from_bytes(*id)));
            }
            parents::FAR => {
                let distances = self.group.numbers(Core::FarParent)?;
                let distance = unzigzag(at_or_zero(distances, self.far));
                self.far += 1;
                (row as i64).checked_sub(distance)
            }
            _ => Some(row as i64 - i64::from(near)),
        };
        let at = at.and_then(|at| usize::try_from(at).ok());
        match at.filter(|at| *at >= first_row) {
            Some(at) => Ok(Some(self.span_id(at)?)),
            None => Err(wrong()),
        }
    }

    fn event(&mut self, span_start: u64) -> Result<Event, ReadError> {
        let (group, row) = (self.group, self.events.row);
        let since = unzigzag(at_or_zero(group.numbers(Core::EventTime)?, row));
        let name = at_or_zero(group.codes(Core::EventName)?, row);
        self.check_row(Core::Events, row, Place::Event)?;
        Ok(Event {
            time_unix_nano: span_start.wrapping_add(since as u64),
            name: group.text(Section::EventNames, name)?,
            attributes: self.events.read(Detail::Full)?,
            dropped_attributes_count: at_or_zero(group.codes(Core::EventDropped)?, row),
        })
    }

    fn link(&mut self) -> Result<Link, ReadError> {
        let (group, row) = (self.group, self.links.row);
        self.check_row(Core::Links, row, Place::Link)?;
        let (trace_ids, _) = group.raw(Core::LinkTrace)?.as_chunks::<16>();
        let (span_ids, _) = group.raw(Core::LinkSpan)?.as_chunks::<8>();
        let state = at_or_zero(group.codes(Core::LinkState)?, row);
        let (Some(trace_id), Some(span_id)) = (trace_ids.get(row), span_ids.get(row)) else {
            return Err(group.damaged(Core::LinkSpan, "one of them is missing"));
        };
        Ok(Link {
            trace_id: TraceId::from_bytes(*trace_id),
            span_id: SpanId::from_bytes(*span_id),
            trace_state: group.text(Section::TraceStates, state)?,
            flags: at_or_zero(group.codes(Core::LinkFlags)?, row),
            attributes: self.links.read(Detail::Full)?,
            dropped_attributes_count: at_or_zero(group.codes(Core::LinkDropped)?, row),
        })
    }

    /// The counts of the spans must not lead behind the last row.
    fn check_row(&self, counts: Core, row: usize, place: Place) -> Result<(), ReadError> {
        match row < self.group.rows(place) {
            true => Ok(()),
            false => Err(self.group.damaged(counts, "there are not so many")),
        }
    }
}

impl Group {
    /// A text of a section's dictionary.
    fn text(&self, section: Section, code: u32) -> Result<String, ReadError> {
        let inner = self.inner();
        let text = inner.dictionary(section)?.text(&inner.bytes, code)?;
        Ok(text.to_owned())
    }

    /// The spans of the rows that are wanted, each with its row and a group of its resource and scope
    /// without spans.
    pub(crate) fn each_span_of(
        &self,
        wanted: impl Fn(usize) -> bool,
        mut see: impl FnMut(usize, &SpanGroup, Span),
    ) -> Result<(), ReadError> {
        let (resources, scopes) = (self.inner().resources()?, self.inner().scopes()?);
        let traces = self.trace_table()?;
        let mut rows = Spans::from(self, 0, Detail::Full)?;
        let resource_codes = self.codes(Core::Resource)?;
        let scope_codes = self.codes(Core::Scope)?;
        for (trace, bounds) in traces.rows.windows(2).enumerate() {
            for row in bounds[0] as usize..bounds[1] as usize {
                if !wanted(row) {
                    rows.skip(row)?;
                    continue;
                }
                let span = rows.read(row, bounds[0] as usize, trace)?;
                let resource = resources.get(at_or_zero(resource_codes, row) as usize);
                let scope = scopes.get(at_or_zero(scope_codes, row) as usize);
                let group = SpanGroup {
                    resource: known(resource, self, Core::Resource)?,
                    scope: known(scope, self, Core::Scope)?,
                    spans: Vec::new(),
                };
                see(row, &group, span);
            }
        }
        Ok(())
    }

    /// Reads all of its spans.
    pub(super) fn check(&self) -> Result<(), ReadError> {
        self.each_span_of(|_| true, |_, _, _| {})
    }

    /// The spans of its traces from this one on, to be read in their order.
    pub(super) fn spans_from(&self, trace: usize, detail: Detail) -> Result<Spans<'_>, ReadError> {
        Spans::from(self, trace, detail)
    }
}

/// Spans in the order of arrival; neighbours of one resource and scope share a group.
pub(super) fn grouped(group: &Group, mut spans: Vec<Arrived>) -> Result<Vec<SpanGroup>, ReadError> {
    let inner = group.inner();
    let (resources, scopes) = (inner.resources()?, inner.scopes()?);
    spans.sort_by_key(|arrived| arrived.key);
    let mut groups: Vec<SpanGroup> = Vec::new();
    let mut last = None;
    for arrived in spans {
        let key = (arrived.resource, arrived.scope);
        match groups.last_mut() {
            Some(group) if last == Some(key) => group.spans.push(arrived.span),
            _ => {
                let resource = resources.get(key.0 as usize);
                let scope = scopes.get(key.1 as usize);
                groups.push(SpanGroup {
                    resource: known(resource, group, Core::Resource)?,
                    scope: known(scope, group, Core::Scope)?,
                    spans: vec![arrived.span],
                });
                last = Some(key);
            }
        }
    }
    Ok(groups)
}

fn known<T>(found: Option<&Arc<T>>, group: &Group, column: Core) -> Result<Arc<T>, ReadError> {
    found
        .cloned()
        .ok_or_else(|| group.damaged(column, "one of them is unknown"))
}
