//! What a segment says about all of its spans.

use super::segment::Segment;
use crate::layout::Section;
use crate::{ReadError, Red};

impl Segment {
    /// The rates, errors and durations of its spans; with the names of its services and operations.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn red(&self) -> Result<Red, ReadError> {
        let name = || Section::Red.name().to_owned();
        let chunk = self.inner.section(Section::Red);
        let payload = self.inner.bytes.chunk(chunk, name)?;
        Red::read(&payload).ok_or_else(|| ReadError::damaged(name(), "it makes no sense"))
    }

    /// Reads every byte, and says what is damaged.
    pub fn verify(&self) -> Vec<ReadError> {
        let inner = &self.inner;
        let mut damages = Vec::new();
        for section in Section::ALL {
            let name = || section.name().to_owned();
            damages.extend(inner.bytes.chunk(inner.section(*section), name).err());
        }
        damages.extend(self.red().err());
        damages.extend(inner.index().err());
        damages.extend(inner.check_dictionaries().err());
        for number in 0..self.group_count() {
            let group = self.group(number);
            damages.extend(group.check().err());
        }
        damages
    }
}
