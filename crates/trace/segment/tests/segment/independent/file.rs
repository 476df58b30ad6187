//! The chapters "The file" and "Sections", as far as spans need them.

use super::encodings::{In, chunk, dictionary};

const MAGIC: &[u8] = b"PERISEG\n";

/// A segment of which everything was read but the sections that only serve searches.
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) spans: u64,
    pub(super) traces: u64,
    pub(super) last_end: u64,
    sections: Vec<(u64, u64)>,
    pub(super) groups: Vec<Group>,
    /// The attribute columns of spans, events and links.
    pub(super) tables: [Table; 3],
    /// Names of spans, names of events, messages, trace states, resources, scopes.
    pub(super) words: [Vec<Vec<u8>>; 6],
}

/// A row group as the footer has it, and its columns.
pub(super) struct Group {
    pub(super) spans: usize,
    pub(super) traces: usize,
    pub(super) events: usize,
    pub(super) links: usize,
    pub(super) first_trace: u64,
    pub(super) last_trace: u64,
    pub(super) least_start: u64,
    pub(super) most_start: u64,
    /// Offset and length.
    pub(super) chunks: Vec<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) shapes: Vec<Vec<usize>>,
}

pub(super) struct Column {
    pub(super) key: String,
    pub(super) ty: u8,
    pub(super) dictionary: Option<Vec<Vec<u8>>>,
}

impl<'a> File<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        assert_eq!(&bytes[..8], MAGIC);
        let (before, tail) = bytes.split_at(bytes.len() - 20);
        let mut tail = In(tail);
        let (length, crc, version) = (tail.u32() as usize, tail.u32(), tail.u32());
        assert_eq!((version, tail.0), (1, MAGIC));
        let stored = &before[before.len() - length..];
        assert_eq!(crc32c::crc32c(stored), crc);
        let mut stored = In(stored);
        let length = stored.count();
        let footer = stored.blob(length);
        stored.end();
        let mut footer = In(&footer);
        let mut file = Self {
            bytes,
            spans: footer.varint(),
            traces: footer.varint(),
            last_end: footer.varint(),
            sections: (0..footer.count())
                .map(|_| (footer.varint(), footer.varint()))
                .collect(),
            groups: Vec::new(),
            tables: Default::default(),
            words: Default::default(),
        };
        assert_eq!(footer.varint(), 34, "core columns");
        file.groups = (0..footer.count()).map(|_| group(&mut footer)).collect();
        footer.end();
        for (number, words) in (1..).zip(&mut file.words.each_mut()) {
            let section = file.sections[number];
            **words = dictionary(bytes, section);
        }
        file.read_schema();
        file
    }

    /// The payload of a section; nothing if it is missing.
    pub(super) fn section(&self, number: usize) -> &'a [u8] {
        chunk(
            self.bytes,
            self.sections.get(number).copied().unwrap_or_default(),
        )
    }

    fn read_schema(&mut self) {
        let mut section = In(self.section(0));
        let length = section.count();
        let schema = section.blob(length);
        section.end();
        let mut schema = In(&schema);
        for table in &mut self.tables {
            for _ in 0..schema.count() {
                let (key, ty, length) = (schema.text(), schema.byte(), schema.varint());
                let offset = if length > 0 { schema.varint() } else { 0 };
                let dictionary = (length > 0).then(|| dictionary(self.bytes, (offset, length)));
                table.columns.push(Column {
                    key,
                    ty,
                    dictionary,
                });
            }
            for _ in 0..schema.count() {
                let entries = (0..schema.count()).map(|_| schema.count());
                table.shapes.push(entries.collect());
            }
        }
        schema.end();
    }
}

fn group(footer: &mut In<'_>) -> Group {
    let (spans, traces) = (footer.count(), footer.count());
    let (events, links) = (footer.count(), footer.count());
    let first_trace = footer.varint();
    let last_trace = first_trace + footer.varint();
    let least_start = footer.varint();
    let most_start = least_start + footer.varint();
    let mut offset = footer.varint();
    let mut chunks = Vec::new();
    for _ in 0..footer.count() {
        let length = footer.varint();
        chunks.push((offset, length));
        offset += length;
    }
    Group {
        spans,
        traces,
        events,
        links,
        first_trace,
        last_trace,
        least_start,
        most_start,
        chunks,
    }
}
