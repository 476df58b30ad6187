//! A segment as one query sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use periplus_filter::Scalar;
use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Builder, Calls, Group, ReadError, Red, ServiceOperation, TracePlace};

use super::meter::{Meter, Room, bytes_of};
use super::part::{Chunk, Damage, Part, Place, Prepared};
use super::segment::Segment;
use crate::{Detail, Scope, SpanFilter, TimeRange};

/// A segment, with what the query has used of it: the cache is asked once.
#[derive(Debug)]
pub(super) struct Reading {
    segment: Arc<Segment>,
    summary: OnceLock<periplus_segment::Segment>,
    content: OnceLock<periplus_segment::Segment>,
    /// Set when something cannot be read.
    damage: Arc<AtomicBool>,
}

impl Reading {
    pub(super) fn new(segment: &Arc<Segment>, damage: &Arc<AtomicBool>) -> Self {
        Self {
            segment: Arc::clone(segment),
            summary: OnceLock::new(),
            content: OnceLock::new(),
            damage: Arc::clone(damage),
        }
    }

    /// For what says something of all traces.
    fn summary(&self) -> &periplus_segment::Segment {
        self.summary.get_or_init(|| self.segment.summary())
    }

    /// For dictionaries and row groups.
    fn content(&self) -> &periplus_segment::Segment {
        self.content.get_or_init(|| self.segment.content())
    }

    fn group(&self, number: usize) -> Arc<Group> {
        // Asked for before: the cache is locked while it makes something.
        let content = self.content();
        self.segment.group(number, || content.group(number))
    }

    /// Where the pieces of a trace lie.
    fn places(&self, id: TraceId) -> Result<Vec<TracePlace>, ReadError> {
        let mut places = Vec::new();
        for place in self.summary().find_by_hash(id)? {
            // What is found by its hash must be compared; the row group is needed next anyway.
            if self.group(place.group).trace_id(place.trace)? == Some(id) {
                places.push(place);
            }
        }
        Ok(places)
    }
}

impl Part for Reading {
    fn segment(&self) -> Option<u64> {
        Some(self.segment.entry().id)
    }

    fn starts(&self) -> (u64, u64) {
        let entry = self.segment.entry();
        (entry.min_start_unix_nano, entry.max_start_unix_nano)
    }

    fn chunks(&self) -> Vec<Chunk> {
        let chunk = |number| {
            let (first, last) = self.segment.span_starts(number);
            Chunk { first, last }
        };
        (0..self.segment.group_count()).map(chunk).collect()
    }

    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage> {
        let search = self.content().search(filter)?;
        Ok(if search.may_match() {
            Prepared::Segment(search)
        } else {
            Prepared::Nothing
        })
    }

    fn hits(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<Vec<Place>, Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(Vec::new());
        };
        let hits = self.group(chunk).hits(search, range)?;
        let hits = hits.iter().map(|hit| (hit.start_unix_nano, hit.id));
        Ok(hits.collect())
    }

    fn count(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<u64, Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(0);
        };
        Ok(self.group(chunk).match_count(search, range)?)
    }

    fn spans(
        &self,
        (chunk, _): (usize, usize),
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<(Vec<SpanGroup>, Option<usize>), Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(Default::default());
        };
        Ok((self.group(chunk).matching_spans(search, range)?, None))
    }

    fn trace(&self, id: TraceId, detail: Detail, meter: &Meter) -> Result<Vec<SpanGroup>, Damage> {
        let places = self.places(id)?;
        let pieces = places.iter().take_while(|_| !meter.is_over());
        let pieces = pieces.map(|place| {
            let group = match places.len() {
                1 => self.group(place.group),
                // A large one would drive all others out of the cache.
                _ => Arc::new(self.content().group(place.group)),
            };
            (group, place.trace)
        });
        let mut room = Room::of(meter);
        let groups = Group::trace_of(pieces, detail, |span| room.take(span))?;
        room.settle(&groups);
        Ok(groups)
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        let Some(place) = self.places(id)?.first().copied() else {
            return Ok(None);
        };
        let group = self.group(place.group);
        let start = group.traces()?.nth(place.trace);
        Ok(start.map(|(_, start)| start))
    }

    fn operations(&self, _: &Meter) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        Ok(self.summary().operations()?)
    }

    fn red(&self, _: &Meter) -> Result<Vec<Arc<Red>>, Damage> {
        Ok(vec![self.summary().red()?])
    }

    fn calls(&self, _: &Meter) -> Result<Arc<Calls>, Damage> {
        Ok(self.summary().calls()?)
    }

    fn calls_of(&self, id: TraceId, meter: &Meter) -> Result<Calls, Damage> {
        let groups = self.trace(id, Detail::Full, meter)?;
        meter.give_back(bytes_of(groups.iter()));
        let mut builder = Builder::new();
        let appended = builder.append_groups(&groups);
        // It was in a builder before.
        appended.map_err(|error| Damage {
            reason: error.to_string(),
            lasting: false,
        })?;
        Ok(builder.calls(0..builder.trace_count(), builder.span_count()))
    }

    fn trace_hashes(&self, _: &Meter) -> Result<Arc<Vec<u64>>, Damage> {
        Ok(self.summary().trace_hashes()?)
    }

    fn id_of(&self, number: u32) -> Result<Option<TraceId>, Damage> {
        let place = self.segment.place_of(number);
        Ok(self.group(place.group).trace_id(place.trace)?)
    }

    fn attribute_keys(
        &self,
        scope: Scope,
        meter: &Meter,
        see: &mut dyn FnMut(&str),
    ) -> Result<(), Damage> {
        let content = self.content();
        content.attribute_keys(scope, |key| see(&key.key))?;
        if content.has_residual(scope)? {
            for number in 0..content.group_count() {
                if meter.is_over() {
                    break;
                }
                content.group(number).residual_keys(scope, &mut *see)?;
            }
        }
        Ok(())
    }

    fn attribute_values(
        &self,
        (scope, key): (Scope, &str),
        (prefix, limit): (&str, usize),
        meter: &Meter,
        see: &mut dyn FnMut(Scalar<'_>),
    ) -> Result<(), Damage> {
        let content = self.content();
        content.attribute_values((scope, key), prefix, limit, &mut *see)?;
        if content.has_plain_values(scope, key)? {
            for number in 0..content.group_count() {
                if meter.is_over() {
                    break;
                }
                let group = content.group(number);
                group.attribute_values((scope, key), &mut *see)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, damage: &Damage) {
        self.damage.store(true, Ordering::Relaxed);
        self.segment.damaged(damage);
    }
}
