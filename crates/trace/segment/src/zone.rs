//! What is known of all spans of a row group without reading them.

use crate::bytes::{Cursor, put_bytes, put_varint};
use crate::trace_filter::TraceFilter;

/// A row group's durations, kinds and statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    /// The shortest and the longest duration; a span that ends before it starts has none.
    pub(crate) durations: (u64, u64),
    /// A bit for each kind and status that some span has: `kind + 16 * status`.
    pub(crate) kind_statuses: u64,
}

impl Zone {
    /// Of spans: their durations, their kinds and statuses.
    pub(crate) fn of(spans: impl Iterator<Item = (u64, u8)>) -> Self {
        let mut zone = Self {
            durations: (u64::MAX, 0),
            kind_statuses: 0,
        };
        for (duration, kind_status) in spans {
            let (least, most) = zone.durations;
            zone.durations = (least.min(duration), most.max(duration));
            zone.kind_statuses |= 1 << (kind_status & 0x3f);
        }
        zone.durations.0 = zone.durations.0.min(zone.durations.1);
        zone
    }

    pub(crate) fn put_all(zones: impl ExactSizeIterator<Item = Self>, out: &mut Vec<u8>) {
        put_varint(out, zones.len() as u64);
        for zone in zones {
            let (least, most) = zone.durations;
            put_varint(out, least);
            put_varint(out, most - least);
            put_varint(out, zone.kind_statuses);
        }
    }

    /// Reads what [`Self::put_all`] writes, of this many groups.
    pub(crate) fn read_all(payload: &[u8], groups: usize) -> Option<Vec<Self>> {
        let mut cursor = Cursor(payload);
        if cursor.count()? != groups {
            return None;
        }
        let zone = |cursor: &mut Cursor<'_>| {
            let least = cursor.varint()?;
            let most = least.checked_add(cursor.varint()?)?;
            Some(Self {
                durations: (least, most),
                kind_statuses: cursor.varint()?,
            })
        };
        let zones = (0..groups)
            .map(|_| zone(&mut cursor))
            .collect::<Option<_>>()?;
        cursor.is_empty().then_some(zones)
    }
}

/// For the columns of texts without a dictionary which texts a row group has, most likely.
#[derive(Debug, Default)]
pub(crate) struct TextFilters {
    /// For each group the number of the column among those of all tables, and its filter.
    groups: Vec<Vec<(u32, TraceFilter<'static>)>>,
    bytes: usize,
}

impl TextFilters {
    pub(crate) fn put_all<'a>(
        groups: impl ExactSizeIterator<Item = &'a [(u32, TraceFilter<'static>)]>,
        out: &mut Vec<u8>,
    ) {
        put_varint(out, groups.len() as u64);
        for filters in groups {
            put_varint(out, filters.len() as u64);
            for (column, filter) in filters {
                put_varint(out, u64::from(*column));
                put_bytes(out, filter.bytes());
            }
        }
    }

    /// Reads what [`Self::put_all`] writes, of this many groups.
    pub(crate) fn read_all(payload: &[u8], groups: usize) -> Option<Self> {
        let mut cursor = Cursor(payload);
        if cursor.count()? != groups {
            return None;
        }
        let mut all = Self {
            bytes: payload.len(),
            ..Self::default()
        };
        for _ in 0..groups {
            let count = cursor.count()?;
            let filter = |cursor: &mut Cursor<'_>| {
                let column = cursor.u32()?;
                let filter = TraceFilter::read(cursor.bytes()?.to_vec().into())?;
                Some((column, filter))
            };
            let filters = (0..count)
                .map(|_| filter(&mut cursor))
                .collect::<Option<_>>()?;
            all.groups.push(filters);
        }
        cursor.is_empty().then_some(all)
    }

    /// The filters of a row group, each with the number of its column.
    pub(crate) fn of_group(&self, group: usize) -> &[(u32, TraceFilter<'static>)] {
        self.groups.get(group).map_or(&[], |filters| filters)
    }

    /// False: the column has no text with this hash in the group.
    pub(crate) fn may_have(&self, group: usize, column: u32, hash: u64) -> bool {
        let filter = self.of_group(group).iter().find(|(of, _)| *of == column);
        filter.is_none_or(|(_, filter)| filter.may_contain(hash))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes
    }
}
