//! Parents by how many rows further up they are in the same trace.

use std::collections::HashMap;

use crate::build::Builder;
use crate::bytes::zigzag;

/// No parent.
pub(crate) const ROOT: u8 = 0;
/// The most rows that the parent can be further up.
pub(crate) const MAX_NEAR: u8 = 250;
/// The parent's id is zero.
pub(crate) const ZERO: u8 = 251;
/// The distance is in the column of far parents: the row minus the parent's, zigzag.
pub(crate) const FAR: u8 = 252;
/// The id is in the column of parents elsewhere.
pub(crate) const ELSEWHERE: u8 = 253;

/// The parents of a row group's spans.
#[derive(Default)]
pub(crate) struct Parents {
    pub(crate) near: Vec<u8>,
    pub(crate) far: Vec<u64>,
    pub(crate) elsewhere: Vec<u8>,
    ids: Vec<u64>,
    /// Scratch: the first row of each id, in large traces.
    rows_of_id: HashMap<u64, u32>,
}

/// With more spans a trace is looked through by hash.
const LARGE: usize = 128;

impl Parents {
    /// Adds the spans of a trace.
    pub(super) fn add_trace(&mut self, builder: &Builder, rows: &[u32]) {
        let spans = &builder.spans;
        self.add(rows.iter().map(|row| {
            let row = *row as usize;
            let parent = spans.has_parent(row).then_some(spans.parent[row]);
            (spans.id[row], parent)
        }));
    }

    /// Adds the spans of a trace, or of a piece of one: the ids of each and of its parent.
    pub(crate) fn add(&mut self, spans: impl Iterator<Item = (u64, Option<u64>)> + Clone) {
        self.ids.clear();
        self.ids.extend(spans.clone().map(|(id, _)| id));
        self.rows_of_id.clear();
        if self.ids.len() > LARGE {
            for (at, id) in (0..).zip(&self.ids) {
                self.rows_of_id.entry(*id).or_insert(at);
            }
        }
        for (at, (_, parent)) in spans.enumerate() {
            let near = match parent {
                None => ROOT,
                Some(0) => ZERO,
                Some(parent) => self.find(at, parent),
            };
            self.near.push(near);
        }
    }

    fn find(&mut self, at: usize, parent: u64) -> u8 {
        let found = if self.ids.len() > LARGE {
            self.rows_of_id.get(&parent).map(|row| *row as usize)
        } else {
            // The parent is most often the one just above, else somewhere above.
            let above = self.ids[..at].iter().rposition(|id| *id == parent);
            above.or_else(|| self.ids.iter().position(|id| *id == parent))
        };
        let Some(found) = found else {
            self.elsewhere.extend_from_slice(&parent.to_be_bytes());
            return ELSEWHERE;
        };
        match at.checked_sub(found) {
            Some(up) if up > 0 && up <= MAX_NEAR as usize => up as u8,
            _ => {
                self.far.push(zigzag(at as i64 - found as i64));
                FAR
            }
        }
    }
}
