use super::Writer;
use crate::codec::words::put_words;
use crate::layout::Section;
use crate::trace_filter::TraceFilter;

impl Writer {
    /// Writes where each piece of a trace lies, of which these are the hashes, and the filter that knows most of those that are not there.
    pub(crate) fn put_index(&mut self, hashes: &[u64]) {
        let mut filter = TraceFilter::for_traces(hashes.len());
        for hash in hashes {
            filter.insert(*hash);
        }
        let mut entries: Vec<u64> = (0..)
            .zip(hashes)
            .map(|(piece, hash): (u64, &u64)| hash & UPPER | piece)
            .collect();
        entries.sort_unstable();
        let mut before = 0;
        let steps: Vec<u64> = (entries.iter())
            .map(|entry| {
                let hash = entry >> 32;
                let step = hash - before;
                before = hash;
                step
            })
            .collect();
        let pieces: Vec<u32> = entries.iter().map(|entry| *entry as u32).collect();
        let mut payload = Vec::new();
        put_words(&mut payload, &mut self.out.squeeze, &steps);
        put_words(&mut payload, &mut self.out.squeeze, &pieces);
        self.put_section(Section::Index, &payload);
        self.put_section(Section::Filter, filter.bytes());
    }
}

const UPPER: u64 = 0xffff_ffff_0000_0000;
