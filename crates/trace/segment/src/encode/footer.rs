use super::Writer;
use crate::bytes::put_varint;
use crate::layout::{Core, MAGIC, VERSION};

impl Writer {
    /// Writes the footer and the tail.
    pub(crate) fn finish(mut self, traces: u64, last_end: u64) -> Vec<u8> {
        let mut footer = Vec::new();
        let out = &mut footer;
        let spans: u64 = self.groups.iter().map(|group| u64::from(group.spans)).sum();
        put_varint(out, spans);
        put_varint(out, traces);
        put_varint(out, last_end);
        put_varint(out, self.sections.len() as u64);
        for section in self.sections {
            put_varint(out, section.offset);
            put_varint(out, u64::from(section.length));
        }
        put_varint(out, Core::COUNT as u64);
        put_varint(out, self.groups.len() as u64);
        for group in &self.groups {
            for number in [
                u64::from(group.spans),
                u64::from(group.traces),
                u64::from(group.events),
                u64::from(group.links),
                group.trace_starts.0,
                group.trace_starts.1 - group.trace_starts.0,
                group.starts.0,
                group.starts.1 - group.starts.0,
                group.offset,
                group.lengths.len() as u64,
            ] {
                put_varint(out, number);
            }
            for length in &group.lengths {
                put_varint(out, u64::from(*length));
            }
        }
        let mut file = self.out.file;
        let mut payload = Vec::new();
        put_varint(&mut payload, footer.len() as u64);
        self.out.squeeze.put_blob(&mut payload, &footer);
        file.extend_from_slice(&payload);
        file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&MAGIC);
        file
    }
}
