//! How the new columns keep their values.

use super::error::MergeError;
use super::tables::Numbers;
use super::united::{United, Uniting};
use crate::read::Column;
use crate::schema::{Place, Type};
use crate::value::{read_attributes, read_value};
use crate::{ReadError, Segment};

/// How a column keeps its values.
pub(super) enum Form {
    /// They say nothing.
    Nothing,
    Numbers,
    Dictionary(United),
    Plain,
}

/// The most bytes of the strings of all dictionaries.
const MAX_TEXT_BYTES: usize = 128 << 20;

/// A column is looked at again each time that so many more of its values are known.
const LOOK_EVERY: u64 = 8_192;

/// Decides how columns keep their values.
pub(super) struct Former<'i> {
    inputs: &'i [Segment],
    text_bytes: usize,
    /// For each input and place, once somebody asked, how many values each column has.
    counts: Vec<[Option<Vec<u64>>; 3]>,
}

impl<'i> Former<'i> {
    pub(super) fn new(inputs: &'i [Segment]) -> Self {
        Self {
            inputs,
            text_bytes: 0,
            counts: inputs.iter().map(|_| [const { None }; 3]).collect(),
        }
    }

    /// The form of a column that the inputs have under these numbers, and whether some strings of
    /// their dictionaries are large.
    pub(super) fn form(
        &mut self,
        place: Place,
        ty: Type,
        numbers: &Numbers,
    ) -> Result<(Form, bool), MergeError> {
        match ty {
            Type::Empty => return Ok((Form::Nothing, false)),
            Type::Bool | Type::Int | Type::Double => return Ok((Form::Numbers, false)),
            Type::Text | Type::Bytes | Type::Nested | Type::Residual => {}
        }
        let (uniting, plain) = self.unite(place, ty, numbers)?;
        let has_large = uniting.has_large();
        // What repeats in each of them repeats in all.
        if plain.is_empty() {
            return Ok((Form::Dictionary(self.keep(uniting)?), has_large));
        }
        let form = match self.with_plain(place, numbers, (uniting, &plain))? {
            Some(uniting) => Form::Dictionary(self.keep(uniting)?),
            None => Form::Plain,
        };
        Ok((form, has_large))
    }

    fn keep(&mut self, uniting: Uniting) -> Result<United, MergeError> {
        self.text_bytes += uniting.text_bytes();
        match self.text_bytes > MAX_TEXT_BYTES {
            true => Err(MergeError::TooLarge),
            false => Ok(uniting.sorted()),
        }
    }

    /// The strings of the dictionaries, and the inputs that have the column without one.
    fn unite(
        &self,
        place: Place,
        ty: Type,
        numbers: &Numbers,
    ) -> Result<(Uniting, Vec<usize>), MergeError> {
        let mut uniting = Uniting::new(self.inputs.len());
        let mut plain = Vec::new();
        for (input, number) in numbers.iter().enumerate() {
            let Some(number) = number else { continue };
            let inner = &self.inputs[input].inner;
            let schema = inner.schema().map_err(MergeError::of(input))?;
            match &schema.table(place).columns[*number].dictionary {
                Some(dictionary) => {
                    let check = |string: &[u8]| match ty {
                        Type::Text => str::from_utf8(string).is_ok(),
                        Type::Nested => read_value(string).is_some(),
                        Type::Residual => read_attributes(string).is_some(),
                        _ => true,
                    };
                    uniting.add(input, (dictionary, &inner.bytes), check)?;
                }
                None => plain.push(input),
            }
        }
        Ok((uniting, plain))
    }

    /// The strings of the inputs without a dictionary too; nothing if most of all values are used
    /// once, so that a dictionary would only cost.
    fn with_plain(
        &mut self,
        place: Place,
        numbers: &Numbers,
        (mut uniting, plain): (Uniting, &[usize]),
    ) -> Result<Option<Uniting>, MergeError> {
        let is_new = |uniting: &Uniting, values: u64| uniting.len() as u64 * 2 > values;
        let mut values = 0;
        for (input, number) in numbers.iter().enumerate() {
            if let Some(number) = number
                && !plain.contains(&input)
            {
                values += self.count(input, place, *number)?;
            }
        }
        for &input in plain {
            let Some(number) = numbers[input] else {
                continue;
            };
            for group in 0..self.inputs[input].group_count() {
                let group = self.inputs[input].group(group);
                let column = group.attribute(place, number);
                let Column::Strings(strings) = column.map_err(MergeError::of(input))? else {
                    continue;
                };
                for string in (0..strings.len()).filter_map(|at| strings.get(at)) {
                    if uniting.push(string).is_none() {
                        return Ok(None);
                    }
                    values += 1;
                    if values % LOOK_EVERY == 0 && is_new(&uniting, values) {
                        return Ok(None);
                    }
                }
            }
        }
        Ok((!is_new(&uniting, values)).then_some(uniting))
    }

    /// How many values an input has in a column.
    fn count(&mut self, input: usize, place: Place, number: usize) -> Result<u64, MergeError> {
        let known = &mut self.counts[input][place as usize];
        if known.is_none() {
            let counts = count_values(&self.inputs[input], place);
            *known = Some(counts.map_err(MergeError::of(input))?);
        }
        let counts = known.as_deref().unwrap_or_default();
        Ok(counts.get(number).copied().unwrap_or_default())
    }
}

fn count_values(input: &Segment, place: Place) -> Result<Vec<u64>, ReadError> {
    let mut sums = vec![0; input.inner.schema()?.table(place).columns.len()];
    for number in 0..input.group_count() {
        let group = input.group(number);
        let counts = group.values_before(place, group.rows(place))?;
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += u64::from(count);
        }
    }
    Ok(sums)
}
