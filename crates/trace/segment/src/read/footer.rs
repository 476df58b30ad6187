use crate::ReadError;
use crate::bytes::Cursor;
use crate::codec::Chunk;
use crate::codec::plane::read_blob;
use crate::layout::{Core, MAGIC, Section, TAIL, VERSION};
use crate::limits::MAX_GROUP_SPANS;
use crate::read::Bytes;

/// What a segment says about itself.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) spans: u64,
    pub(super) traces: u64,
    pub(super) last_end: u64,
    pub(super) sections: [Chunk; Section::COUNT],
    pub(super) groups: Vec<GroupHead>,
}

/// What the footer says about a row group.
#[derive(Debug)]
pub(crate) struct GroupHead {
    pub(crate) spans: u32,
    pub(crate) traces: u32,
    pub(crate) events: u32,
    pub(crate) links: u32,
    /// The start of its first trace and of its last one.
    pub(crate) trace_starts: (u64, u64),
    /// The least and the most start of its spans.
    pub(crate) starts: (u64, u64),
    /// How many traces, or pieces of them, lie in the groups before.
    pub(crate) first_piece: u32,
    chunks: Vec<Chunk>,
}

impl GroupHead {
    pub(crate) fn core(&self, column: Core) -> Chunk {
        self.chunks[column as usize]
    }

    /// An attribute column, by its number among those of all tables.
    pub(crate) fn attribute(&self, number: usize) -> Chunk {
        let chunk = self.chunks.get(Core::COUNT + number);
        chunk.copied().unwrap_or_default()
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }
}

impl Footer {
    pub(super) fn read(bytes: &Bytes) -> Result<Self, ReadError> {
        let not = |reason| ReadError::NotASegment { reason };
        let head = bytes.len().checked_sub((TAIL + MAGIC.len()) as u64);
        let Some(room) = head else {
            return Err(not("it is too short"));
        };
        if *bytes.read(0, MAGIC.len())? != MAGIC {
            return Err(not("it begins with something else"));
        }
        let tail = bytes.read(bytes.len() - TAIL as u64, TAIL)?;
        let mut cursor = Cursor(&tail);
        let mut number = || cursor.array().map_or(0, u32::from_le_bytes);
        let (length, crc, version) = (number(), number(), number());
        if cursor.0 != MAGIC {
            return Err(not("its end is missing"));
        }
        if version != VERSION {
            return Err(ReadError::UnknownVersion {
                found: version,
                supported: VERSION,
            });
        }
        let damaged = |reason| ReadError::damaged("the footer", reason);
        if u64::from(length) > room {
            return Err(damaged("its length is wrong"));
        }
        let offset = bytes.len() - (TAIL as u64 + u64::from(length));
        let payload = bytes.read(offset, length as usize)?;
        if crc != crc32c::crc32c(&payload) {
            return Err(damaged("its checksum is wrong"));
        }
        let mut cursor = Cursor(&payload);
        let plain = cursor
            .u32()
            .and_then(|length| read_blob(&mut cursor, length as usize));
        plain
            .and_then(|plain| Self::parse(Cursor(&plain)))
            .ok_or_else(|| damaged("it makes no sense"))
    }

    fn parse(mut cursor: Cursor<'_>) -> Option<Self> {
        let spans = cursor.varint()?;
        let traces = cursor.varint()?;
        let last_end = cursor.varint()?;
        // Sections that a later writer has added are not missed.
        let mut sections = [Chunk::default(); Section::COUNT];
        for number in 0..cursor.count()? {
            let (offset, length) = (cursor.varint()?, cursor.u32()?);
            if let Some(section) = sections.get_mut(number) {
                *section = Chunk { offset, length };
            }
        }
        if cursor.varint()? != Core::COUNT as u64 {
            return None;
        }
        let count = cursor.count()?;
        let mut groups = Vec::with_capacity(count);
        let mut first_piece = 0;
        for _ in 0..count {
            let group = GroupHead::parse(&mut cursor, first_piece)?;
            first_piece = first_piece.checked_add(group.traces)?;
            groups.push(group);
        }
        let sum: u64 = groups.iter().map(|group| u64::from(group.spans)).sum();
        (cursor.is_empty() && sum == spans).then_some(Self {
            spans,
            traces,
            last_end,
            sections,
            groups,
        })
    }
}

impl GroupHead {
    fn parse(cursor: &mut Cursor<'_>, first_piece: u32) -> Option<Self> {
        let (spans, traces) = (cursor.u32()?, cursor.u32()?);
        let (events, links) = (cursor.u32()?, cursor.u32()?);
        let mut range = || {
            let least = cursor.varint()?;
            Some((least, least.checked_add(cursor.varint()?)?))
        };
        let trace_starts = range()?;
        let starts = range()?;
        let mut offset = cursor.varint()?;
        let count = cursor.count()?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            let length = cursor.u32()?;
            chunks.push(Chunk { offset, length });
            offset = offset.checked_add(u64::from(length))?;
        }
        let sound = spans as usize <= MAX_GROUP_SPANS && traces <= spans && count >= Core::COUNT;
        sound.then_some(Self {
            spans,
            traces,
            events,
            links,
            trace_starts,
            starts,
            first_piece,
            chunks,
        })
    }
}
