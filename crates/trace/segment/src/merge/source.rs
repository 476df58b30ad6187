//! A row group of an input, decoded, with where in each column each of its traces begins.

use super::columns::Of;
use super::weight;
use super::{Tables, Words};
use crate::ReadError;
use crate::encode::parents::{ELSEWHERE, FAR};
use crate::layout::Core;
use crate::read::{Column, Group, at_or_zero};
use crate::schema::{Place, Type};

pub(super) struct Source {
    pub(super) input: usize,
    pub(super) group: Group,
    /// Where the values of each trace begin, and behind the last one where they all end.
    starts: [Starts; 3],
    /// The same of the far parents and of those elsewhere.
    far: Vec<u32>,
    elsewhere: Vec<u32>,
    /// For each row the bytes of its large values; empty if there are none.
    pub(super) weights: Vec<u32>,
}

/// Where in a table each trace begins.
struct Starts {
    rows: Vec<u32>,
    /// For each trace as many as there are columns.
    values: Vec<u32>,
    columns: usize,
}

impl Source {
    pub(super) fn open(
        input: usize,
        group: Group,
        (words, tables): (&Words, &Tables),
    ) -> Result<Self, ReadError> {
        let traces = group.trace_table()?;
        let rows = traces.rows.clone();
        let events = child_starts(&group, &rows, (Core::Events, Place::Event))?;
        let links = child_starts(&group, &rows, (Core::Links, Place::Link))?;
        let starts = [
            Starts::of(&group, Place::Span, rows)?,
            Starts::of(&group, Place::Event, events)?,
            Starts::of(&group, Place::Link, links)?,
        ];
        let rows = &starts[0].rows;
        let far = parent_starts(&group, rows, FAR)?;
        let elsewhere = parent_starts(&group, rows, ELSEWHERE)?;
        let mut source = Self {
            input,
            starts,
            far,
            elsewhere,
            weights: Vec::new(),
            group,
        };
        source.weights = weight::weights(&source, words, tables)?;
        Ok(source)
    }

    pub(super) fn of(&self) -> Of<'_> {
        Of {
            input: self.input,
            group: &self.group,
        }
    }

    /// The rows of a table that some of the traces have.
    pub(super) fn rows(&self, place: Place, traces: &std::ops::Range<usize>) -> (u32, u32) {
        let rows = &self.starts[place as usize].rows;
        (at_or_zero(rows, traces.start), at_or_zero(rows, traces.end))
    }

    /// Where the values of a trace begin in each column of a table.
    pub(super) fn values(&self, place: Place, trace: usize) -> &[u32] {
        let Starts {
            values, columns, ..
        } = &self.starts[place as usize];
        &values[trace * columns..(trace + 1) * columns]
    }

    /// Where the far parents of a trace begin, and those elsewhere.
    pub(super) fn parents(&self, trace: usize) -> (u32, u32) {
        (self.far[trace], self.elsewhere[trace])
    }

    pub(super) fn trace_count(&self) -> usize {
        self.far.len() - 1
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let starts = self.starts.iter();
        let starts = starts.map(|it| (it.rows.capacity() + it.values.capacity()) * 4);
        self.group.heap_bytes() + starts.sum::<usize>() + self.weights.capacity() * 4
    }

    /// The columns of the attributes of a row.
    pub(super) fn shape(&self, place: Place, row: usize) -> Result<&[u32], ReadError> {
        let table = self.group.inner().schema()?.table(place);
        let shape = at_or_zero(self.group.shapes(place)?, row) as usize;
        let unknown = || self.group.damaged(Core::Shape, "they are unknown");
        Ok(table.shapes.get(shape).ok_or_else(unknown)?)
    }
}

impl Starts {
    /// Of traces that begin in these rows. Reads all attribute columns.
    fn of(group: &Group, place: Place, rows: Vec<u32>) -> Result<Self, ReadError> {
        let table = group.inner().schema()?.table(place);
        let columns = table.columns.len();
        let shapes = group.shapes(place)?;
        let mut next = vec![0_u32; columns];
        let mut values = Vec::with_capacity(rows.len() * columns);
        let mut row = 0;
        for &end in &rows {
            while row < end as usize {
                let shape = table.shapes.get(at_or_zero(shapes, row) as usize);
                let unknown = || group.damaged(Core::Shape, "they are unknown");
                for column in &**shape.ok_or_else(unknown)? {
                    next[*column as usize] += 1;
                }
                row += 1;
            }
            values.extend_from_slice(&next);
        }
        for (number, count) in next.into_iter().enumerate() {
            let is_there = match group.attribute(place, number)? {
                Column::Nothing => count == 0 || table.columns[number].ty == Type::Empty,
                column => column.len() == count as usize,
            };
            if !is_there {
                let name = group.attribute_name(place, number);
                return Err(ReadError::damaged(name, "one of them is missing"));
            }
        }
        Ok(Self {
            rows,
            values,
            columns,
        })
    }
}

/// Where the events or links of traces begin that begin in these rows.
fn child_starts(
    group: &Group,
    rows: &[u32],
    (counts, place): (Core, Place),
) -> Result<Vec<u32>, ReadError> {
    let wrong = || group.damaged(counts, "there are not so many");
    let column = group.codes(counts)?;
    let mut sum = 0_u32;
    let mut starts = Vec::with_capacity(rows.len());
    let mut row = 0;
    for &end in rows {
        while row < end as usize {
            let count = at_or_zero(column, row);
            sum = sum.checked_add(count).ok_or_else(wrong)?;
            row += 1;
        }
        starts.push(sum);
    }
    match sum as usize == group.rows(place) {
        true => Ok(starts),
        false => Err(wrong()),
    }
}

/// How many parents of this sort the rows before each trace have.
fn parent_starts(group: &Group, rows: &[u32], sort: u8) -> Result<Vec<u32>, ReadError> {
    let near = group.codes(Core::Parent)?;
    let mut sum = 0;
    let mut before = 0;
    let count = |end: &u32| {
        let end = (*end as usize).min(near.len());
        let of_trace = near.get(before..end).unwrap_or_default();
        sum += of_trace.iter().filter(|it| **it == u32::from(sort)).count() as u32;
        before = end;
        sum
    };
    Ok(rows.iter().map(count).collect())
}
