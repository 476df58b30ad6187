//! Spans without their traces: chunk after chunk, column after column.

use std::sync::Arc;

use periplus_model::SpanGroup;

use super::meter::{Meter, bytes_of};
use super::part::{Part, Prepared};
use super::search::{damaged, or_default};
use super::state::Snapshot;
use super::stream::Work;
use crate::{ScanQuery, StoreError};

/// A scan under way. When all is looked at, it says so if a part could not be read.
pub(super) struct Scan {
    snapshot: Snapshot,
    /// What is left, the last comes next.
    parts: Vec<Arc<dyn Part>>,
    /// The part that is looked at.
    current: Option<Current>,
    query: ScanQuery,
    meter: Meter,
    /// What was answered last takes so much.
    answered: u64,
    is_over: bool,
}

struct Current {
    part: Arc<dyn Part>,
    prepared: Prepared,
    /// The last comes next.
    chunks: Vec<usize>,
    /// Where in that chunk to go on.
    from: usize,
}

impl Scan {
    pub(super) fn new(snapshot: Snapshot, query: ScanQuery, meter: Meter) -> Self {
        Self {
            parts: snapshot.parts().collect(),
            snapshot,
            current: None,
            query,
            meter,
            answered: 0,
            is_over: false,
        }
    }

    /// How many spans match, of all that is left.
    pub(super) fn count(mut self) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(mut current) = self.next_part() {
            for chunk in std::mem::take(&mut current.chunks) {
                self.meter.check()?;
                let Current { part, prepared, .. } = &current;
                let counted = part.count(chunk, prepared, self.query.range, &self.meter);
                count += or_default(&**part, counted);
            }
        }
        self.meter.check()?;
        if self.snapshot.met_damage() {
            return Err(damaged());
        }
        Ok(count)
    }

    fn next_part(&mut self) -> Option<Current> {
        loop {
            let part = self.parts.pop()?;
            let chunks = part.chunks().into_iter().enumerate();
            let chunks = chunks.filter(|(_, chunk)| chunk.overlaps(self.query.range));
            let chunks: Vec<usize> = chunks.map(|(number, _)| number).collect();
            if chunks.is_empty() {
                continue;
            }
            match part.prepare(&self.query.filter) {
                Ok(Prepared::Nothing) => {}
                Ok(prepared) => {
                    return Some(Current {
                        part,
                        prepared,
                        chunks,
                        from: 0,
                    });
                }
                Err(damage) => part.damaged(&damage),
            }
        }
    }

    fn step(&mut self) -> Option<Vec<SpanGroup>> {
        if self.current.as_ref().is_none_or(|it| it.chunks.is_empty()) {
            self.current = Some(self.next_part()?);
        }
        let current = self.current.as_mut()?;
        let chunk = *current.chunks.last()?;
        let place = (chunk, current.from);
        let (range, meter) = (self.query.range, &self.meter);
        let found = current.part.spans(place, &current.prepared, range, meter);
        let (groups, next) = or_default(&*current.part, found);
        match next {
            Some(from) => current.from = from,
            None => {
                current.from = 0;
                current.chunks.pop();
            }
        }
        Some(groups)
    }
}

impl Work for Scan {
    type Item = Vec<SpanGroup>;

    fn next(&mut self) -> Option<Result<Self::Item, StoreError>> {
        // Whoever got it looks after it now.
        self.meter.give_back(std::mem::take(&mut self.answered));
        while !self.is_over {
            let Some(groups) = self.step() else {
                self.is_over = true;
                return self.snapshot.met_damage().then(|| Err(damaged()));
            };
            self.answered = bytes_of(groups.iter());
            self.meter.take(self.answered);
            if let Err(error) = self.meter.check() {
                self.is_over = true;
                return Some(Err(error));
            }
            if !groups.is_empty() {
                return Some(Ok(groups));
            }
        }
        None
    }
}
