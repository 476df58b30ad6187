//! How much the rows of a source take when they are read; see `encode::weight`.

use super::form::Form;
use super::source::Source;
use super::{Tables, Words};
use crate::ReadError;
use crate::encode::weight::LARGE;
use crate::layout::Core;
use crate::read::{Column, at_or_zero};
use crate::schema::Place;

/// For each row the bytes of its large values; empty if there are none.
pub(super) fn weights(
    source: &Source,
    words: &Words,
    tables: &Tables,
) -> Result<Vec<u32>, ReadError> {
    let mut weights = Weights {
        source,
        bytes: Vec::new(),
    };
    for (core, place, united) in [
        (Core::Name, Place::Span, &words.names),
        (Core::Message, Place::Span, &words.messages),
        (Core::TraceState, Place::Span, &words.trace_states),
        (Core::EventName, Place::Event, &words.event_names),
        (Core::LinkState, Place::Link, &words.trace_states),
    ] {
        if united.has_large {
            let codes = source.group.codes(core)?;
            let new = united.codes_of(source.input);
            weights.add(place, |row| {
                let code = new.get(at_or_zero(codes, row) as usize);
                Ok(code.map_or(0, |code| weighed(united.get(*code).len())))
            })?;
        }
    }
    for place in Place::ALL {
        weights.add_table(place, tables)?;
    }
    Ok(weights.bytes)
}

/// Small strings are not weighed.
const fn weighed(length: usize) -> usize {
    if length < LARGE { 0 } else { length }
}

struct Weights<'s> {
    source: &'s Source,
    bytes: Vec<u32>,
}

impl Weights<'_> {
    /// Adds what the rows of a table take.
    fn add(
        &mut self,
        place: Place,
        mut taken: impl FnMut(usize) -> Result<usize, ReadError>,
    ) -> Result<(), ReadError> {
        let group = &self.source.group;
        let mut at = 0;
        for row in 0..group.rows(Place::Span) {
            let children = match place {
                Place::Span => 1,
                Place::Event => at_or_zero(group.codes(Core::Events)?, row),
                Place::Link => at_or_zero(group.codes(Core::Links)?, row),
            };
            for _ in 0..children {
                let bytes = taken(at)?;
                at += 1;
                if bytes > 0 {
                    self.bytes.resize(group.rows(Place::Span), 0);
                    let weight = &mut self.bytes[row];
                    *weight = weight.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
                }
            }
        }
        Ok(())
    }

    fn add_table(&mut self, place: Place, tables: &Tables) -> Result<(), ReadError> {
        let source = self.source;
        let count = source.values(place, 0).len();
        let lengths = (0..count).map(|column| self.lengths(place, column, tables));
        let lengths: Vec<Vec<u32>> = lengths.collect::<Result<_, ReadError>>()?;
        if lengths.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let mut next = vec![0; count];
        self.add(place, |row| {
            let mut sum = 0;
            for column in source.shape(place, row)? {
                let column = *column as usize;
                sum += at_or_zero(&lengths[column], next[column]) as usize;
                next[column] += 1;
            }
            Ok(sum)
        })
    }

    /// The lengths of a column's large strings, zero for others; empty if there are none.
    fn lengths(&self, place: Place, column: usize, tables: &Tables) -> Result<Vec<u32>, ReadError> {
        let (group, input) = (&self.source.group, self.source.input);
        let table = &tables[place as usize];
        let new = &table.columns[table.column_of[input][column] as usize];
        let lengths: Vec<u32> = match (group.attribute(place, column)?, &new.form) {
            (Column::Strings(strings), _) => (0..strings.len())
                .map(|at| weighed(strings.get(at).map_or(0, <[u8]>::len)) as u32)
                .collect(),
            (Column::Codes(codes), Form::Dictionary(united)) if new.has_large => {
                let new = united.codes_of(input);
                let length = |code: &u32| {
                    let code = new.get(*code as usize);
                    weighed(code.map_or(0, |code| united.get(*code).len())) as u32
                };
                codes.iter().map(length).collect()
            }
            (Column::Codes(codes), Form::Plain) if new.has_large => (0..codes.len())
                .map(|at| Ok(weighed(group.string(place, column, at)?.len()) as u32))
                .collect::<Result<_, ReadError>>()?,
            (_, _) => return Ok(Vec::new()),
        };
        match lengths.iter().all(|length| *length == 0) {
            true => Ok(Vec::new()),
            false => Ok(lengths),
        }
    }
}
