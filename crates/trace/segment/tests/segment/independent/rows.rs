//! The chapter "Row groups".

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::{Event, Link, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId};

use super::encodings::{In, chunk, resource, scope, text, unzigzag};
use super::file::{File, Group};

/// A span, and what its place in the order of arrival goes by: what is written, or resource, scope,
/// end, start and row.
struct Placed {
    place: (Option<u64>, [u64; 5]),
    group: SpanGroup,
}

impl File<'_> {
    /// All spans, each in a group of its own, by trace and in the order of arrival.
    pub(super) fn all(&self) -> BTreeMap<TraceId, Vec<SpanGroup>> {
        let mut placed: BTreeMap<TraceId, Vec<Placed>> = BTreeMap::new();
        for group in &self.groups {
            self.put_group(group, &mut placed);
        }
        let in_order = |(id, mut spans): (TraceId, Vec<Placed>)| {
            let ranked = spans[0].place.0.is_some();
            assert!(spans.iter().all(|span| span.place.0.is_some() == ranked));
            spans.sort_by_key(|span| span.place);
            (id, spans.into_iter().map(|span| span.group).collect())
        };
        placed.into_iter().map(in_order).collect()
    }

    /// A column of ids of this many bytes.
    fn ids<const N: usize>(&self, group: &Group, column: usize) -> Vec<[u8; N]> {
        let (ids, rest) = chunk(self.bytes, group.chunks[column]).as_chunks();
        assert!(rest.is_empty(), "column {column}");
        ids.to_vec()
    }

    /// The trace of each piece.
    pub(super) fn piece_ids(&self, group: &Group) -> Vec<TraceId> {
        let ids = self.ids(group, 0);
        assert_eq!(ids.len(), group.traces);
        ids.into_iter().map(TraceId::from_bytes).collect()
    }

    /// A column of n words.
    pub(super) fn words(&self, group: &Group, column: usize, n: usize) -> Vec<u64> {
        let mut payload = In(chunk(self.bytes, group.chunks[column]));
        if payload.0.is_empty() {
            return vec![0; n];
        }
        let words = payload.words(n);
        payload.end();
        words
    }

    fn put_group(&self, group: &Group, to: &mut BTreeMap<TraceId, Vec<Placed>>) {
        let ids = self.piece_ids(group);
        let words = |column, n| self.words(group, column, n);
        let of_span = |column| self.words(group, column, group.spans);
        let (steps, lengths) = (words(1, ids.len()), words(2, ids.len()));
        let unexpected = words(3, ids.len());
        let ranked = (lengths.iter().zip(&unexpected)).map(|(length, flag)| length * flag);
        let mut ranks = words(4, ranked.sum::<u64>() as usize).into_iter();
        let (starts, ends) = (of_span(9), of_span(10));
        let (resources, scopes) = (of_span(13), of_span(14));
        let mut spans = self.spans(group);
        let mut parents = self.parents(group);
        let (mut start, mut row) = (group.first_trace, 0);
        let mut all_starts = Vec::with_capacity(group.spans);
        for (at, id) in ids.into_iter().enumerate() {
            start = start.wrapping_add(steps[at]);
            let first = row;
            row += lengths[at] as usize;
            for row in first..row {
                let mut span = std::mem::take(&mut spans[row]);
                span.trace_id = id;
                span.start_unix_nano = start.wrapping_add(starts[row]);
                all_starts.push(span.start_unix_nano);
                span.end_unix_nano = span.start_unix_nano.wrapping_add(ends[row]);
                for event in &mut span.events {
                    let distance = event.time_unix_nano;
                    event.time_unix_nano = span.start_unix_nano.wrapping_add(distance);
                }
                span.parent_span_id = std::mem::take(&mut parents[row]);
                let rank = (unexpected[at] == 1).then(|| ranks.next().expect("a place"));
                let (end, begin) = (span.end_unix_nano, span.start_unix_nano);
                to.entry(id).or_default().push(Placed {
                    place: (rank, [resources[row], scopes[row], end, begin, row as u64]),
                    group: SpanGroup {
                        resource: Arc::new(resource(&self.words[4][resources[row] as usize])),
                        scope: Arc::new(scope(&self.words[5][scopes[row] as usize])),
                        spans: vec![span],
                    },
                });
            }
        }
        assert_eq!((row, start), (group.spans, group.last_trace));
        assert_eq!(ranks.next(), None);
        all_starts.sort_unstable();
        let range = (all_starts.first().copied(), all_starts.last().copied());
        assert_eq!(range, (Some(group.least_start), Some(group.most_start)));
    }

    fn parents(&self, group: &Group) -> Vec<Option<SpanId>> {
        let ids: Vec<[u8; 8]> = self.ids(group, 5);
        let near = self.words(group, 6, group.spans);
        let many = |code| near.iter().filter(|near| **near == code).count();
        let mut far = self.words(group, 7, many(252)).into_iter();
        let mut elsewhere = self.ids(group, 8).into_iter();
        let parent = |(row, near): (usize, &u64)| {
            let up = |rows: i64| ids[(row as i64 - rows) as usize];
            let id = match *near {
                0 => return None,
                251 => [0; 8],
                252 => up(unzigzag(far.next().expect("a far parent"))),
                253 => elsewhere.next().expect("a parent elsewhere"),
                rows @ 1..251 => up(rows as i64),
                code => panic!("a parent of kind {code}"),
            };
            Some(SpanId::from_bytes(id))
        };
        let parents = near.iter().enumerate().map(parent).collect();
        assert_eq!((far.next(), elsewhere.next()), (None, None));
        parents
    }

    /// The spans as far as they are the same in any trace: times are distances.
    fn spans(&self, group: &Group) -> Vec<Span> {
        let words = |column| self.words(group, column, group.spans);
        let [kinds, names, flags] = [11, 12, 15].map(words);
        let [states, messages] = [16, 17].map(words);
        let dropped = [18, 19, 20].map(words);
        let ids: Vec<[u8; 8]> = self.ids(group, 5);
        assert_eq!(ids.len(), group.spans);
        let [events, links] = [22, 23].map(words);
        assert_eq!(events.iter().sum::<u64>(), group.events as u64);
        assert_eq!(links.iter().sum::<u64>(), group.links as u64);
        let mut attributes = self.attributes(group, 0, &words(21)).into_iter();
        let mut all_events = self.events(group).into_iter();
        let mut all_links = self.links(group).into_iter();
        let span = |row: usize| Span {
            trace_id: TraceId::default(),
            span_id: SpanId::from_bytes(ids[row]),
            parent_span_id: None,
            trace_state: text(&self.words[3][states[row] as usize]),
            flags: flags[row] as u32,
            name: text(&self.words[0][names[row] as usize]),
            kind: SpanKind::from_number((kinds[row] % 16) as i32),
            start_unix_nano: 0,
            end_unix_nano: 0,
            attributes: attributes.next().expect("a list"),
            dropped_attributes_count: dropped[0][row] as u32,
            events: all_events.by_ref().take(events[row] as usize).collect(),
            dropped_events_count: dropped[1][row] as u32,
            links: all_links.by_ref().take(links[row] as usize).collect(),
            dropped_links_count: dropped[2][row] as u32,
            status: Status {
                code: StatusCode::from_number((kinds[row] / 16) as i32),
                message: text(&self.words[2][messages[row] as usize]),
            },
        };
        (0..group.spans).map(span).collect()
    }

    fn events(&self, group: &Group) -> Vec<Event> {
        let words = |column| self.words(group, column, group.events);
        let [times, names, dropped, shapes] = [24, 25, 26, 27].map(words);
        let attributes = self.attributes(group, 1, &shapes);
        let event = |(row, attributes)| Event {
            time_unix_nano: unzigzag(times[row]).cast_unsigned(),
            name: text(&self.words[1][names[row] as usize]),
            attributes,
            dropped_attributes_count: dropped[row] as u32,
        };
        attributes.into_iter().enumerate().map(event).collect()
    }

    fn links(&self, group: &Group) -> Vec<Link> {
        let words = |column| self.words(group, column, group.links);
        let [states, flags, dropped, shapes] = [30, 31, 32, 33].map(words);
        let (traces, spans) = (self.ids(group, 28), self.ids(group, 29));
        let attributes = self.attributes(group, 2, &shapes);
        let link = |(row, attributes): (usize, _)| Link {
            trace_id: TraceId::from_bytes(traces[row]),
            span_id: SpanId::from_bytes(spans[row]),
            trace_state: text(&self.words[3][states[row] as usize]),
            flags: flags[row] as u32,
            attributes,
            dropped_attributes_count: dropped[row] as u32,
        };
        attributes.into_iter().enumerate().map(link).collect()
    }
}
