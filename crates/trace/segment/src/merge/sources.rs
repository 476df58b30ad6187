use std::sync::Arc;

use super::error::MergeError;
use super::source::Source;
use super::{Tables, Words};
use crate::Segment;

/// The most bytes of decoded row groups that are kept for the next traces.
const MAX_BYTES: usize = 48 << 20;

/// The most bytes that inputs may keep of their dictionaries.
const MAX_DICTIONARY_BYTES: usize = 64 << 20;

/// The row groups of the inputs: those that were used last are kept. Traces come by their starts, as
/// they lie in each input, so that most are read once.
pub(super) struct Sources<'i> {
    inputs: &'i [Segment],
    kept: Vec<Kept>,
    clock: u64,
}

struct Kept {
    group: usize,
    source: Arc<Source>,
    used: u64,
}

impl<'i> Sources<'i> {
    pub(super) fn new(inputs: &'i [Segment]) -> Self {
        Self {
            inputs,
            kept: Vec::new(),
            clock: 0,
        }
    }

    pub(super) fn get(
        &mut self,
        (input, group): (usize, usize),
        shared: (&Words, &Tables),
    ) -> Result<Arc<Source>, MergeError> {
        self.clock += 1;
        let found = self
            .kept
            .iter_mut()
            .find(|kept| kept.group == group && kept.source.input == input);
        if let Some(kept) = found {
            kept.used = self.clock;
            return Ok(Arc::clone(&kept.source));
        }
        let segment = &self.inputs[input];
        let source = Source::open(input, segment.group(group), shared);
        let source = Arc::new(source.map_err(MergeError::of(input))?);
        self.kept.push(Kept {
            group,
            source: Arc::clone(&source),
            used: self.clock,
        });
        self.make_room()?;
        Ok(source)
    }

    fn make_room(&mut self) -> Result<(), MergeError> {
        let cached = self.inputs.iter().map(Segment::cached_bytes);
        if cached.sum::<usize>() > MAX_DICTIONARY_BYTES {
            return Err(MergeError::TooLarge);
        }
        let bytes = |kept: &Kept| kept.source.heap_bytes();
        let mut sum: usize = self.kept.iter().map(bytes).sum();
        while sum > MAX_BYTES && self.kept.len() > 1 {
            let oldest = (0..self.kept.len()).min_by_key(|at| self.kept[*at].used);
            let Some(oldest) = oldest else { break };
            sum -= bytes(&self.kept.swap_remove(oldest));
        }
        Ok(())
    }
}
