use super::group::GroupHead;
use super::output::Output;
use crate::bytes::put_varint;
use crate::codec::chunk::{Chunk, put_chunk};
use crate::layout::Section;
use crate::zone::{TextFilters, Zone};
use crate::{Calls, Red};

/// A segment that is being written: row groups first, then what is there once.
pub(crate) struct Writer {
    pub(crate) out: Output,
    pub(crate) groups: Vec<GroupHead>,
    pub(crate) sections: [Chunk; Section::COUNT],
}

impl Writer {
    pub(crate) fn new(level: i32) -> Self {
        Self {
            out: Output::new(level),
            groups: Vec::new(),
            sections: [Chunk::default(); Section::COUNT],
        }
    }

    /// Writes what the columns and the shapes of the three tables are.
    pub(crate) fn put_schema(&mut self, schema: &[u8]) {
        let mut payload = Vec::new();
        put_varint(&mut payload, schema.len() as u64);
        self.out.squeeze.put_blob(&mut payload, schema);
        self.put_section(Section::Schema, &payload);
    }

    pub(crate) fn put_red(&mut self, red: &Red) {
        let mut payload = Vec::new();
        red.put_series(&mut payload, &mut self.out.squeeze);
        self.put_section(Section::Operations, &payload);
        payload.clear();
        red.put_points(&mut payload, &mut self.out.squeeze);
        self.put_section(Section::Red, &payload);
    }

    pub(crate) fn put_calls(&mut self, calls: &Calls) {
        let mut payload = Vec::new();
        calls.put(&mut payload, &mut self.out.squeeze);
        self.put_section(Section::Calls, &payload);
    }

    /// Writes what the row groups are like.
    pub(crate) fn put_zones(&mut self) {
        let mut payload = Vec::new();
        Zone::put_all(self.groups.iter().map(|group| group.zone), &mut payload);
        self.put_section(Section::Zones, &payload);
        if self.groups.iter().any(|group| !group.texts.is_empty()) {
            payload.clear();
            TextFilters::put_all(
                self.groups.iter().map(|group| &group.texts[..]),
                &mut payload,
            );
            self.put_section(Section::Texts, &payload);
        }
    }

    pub(crate) fn put_section(&mut self, section: Section, payload: &[u8]) {
        self.sections[section as usize] = put_chunk(&mut self.out.file, payload);
    }
}
