//! What a segment says about all of its spans.

use std::sync::Arc;

use super::segment::Segment;
use crate::layout::Section;
use crate::{Calls, ReadError, Red, ServiceOperation};

impl Segment {
    /// The operations of its spans, sorted by service, name and kind. Spans without a service have
    /// an empty one.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn operations(&self) -> Result<Arc<Vec<ServiceOperation>>, ReadError> {
        self.inner.operations().cloned()
    }

    /// The rates, errors and durations of its spans.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn red(&self) -> Result<Arc<Red>, ReadError> {
        self.inner.red().cloned()
    }

    /// The calls between services that its traces tell of.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn calls(&self) -> Result<Arc<Calls>, ReadError> {
        self.inner.calls().cloned()
    }

    /// Reads every byte, and says what is damaged.
    pub fn verify(&self) -> Vec<ReadError> {
        let inner = &self.inner;
        let mut damages = Vec::new();
        for section in Section::ALL {
            let name = || section.name().to_owned();
            let chunk = inner.section(*section);
            if chunk.length > 0 || !section.is_optional() {
                damages.extend(inner.bytes.chunk(chunk, name).err());
            }
        }
        damages.extend(inner.zone(0).err());
        damages.extend(inner.texts().err());
        damages.extend(self.red().err());
        damages.extend(self.calls().err());
        damages.extend(inner.index().err());
        damages.extend(inner.check_dictionaries().err());
        for number in 0..self.group_count() {
            let group = self.group(number);
            damages.extend(group.check().err());
        }
        damages
    }
}
