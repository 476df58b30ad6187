//! The values that a row group of an input has in the new columns.

use super::plan::Run;
use super::tables::Column as Target;
use super::united::United;
use crate::ReadError;
use crate::codec::strings::Strings;
use crate::encode::BITS_PER_TEXT;
use crate::hash::hash_text;
use crate::read::{Column, Group};
use crate::trace_filter::TraceFilter;

/// A row group of an input.
#[derive(Clone, Copy)]
pub(super) struct Of<'s> {
    pub(super) input: usize,
    pub(super) group: &'s Group,
}

/// Which texts there are.
pub(super) fn filter_of(strings: &Strings) -> TraceFilter<'static> {
    let mut filter = TraceFilter::with_bits(strings.len() * BITS_PER_TEXT);
    for string in (0..strings.len()).filter_map(|at| strings.get(at)) {
        filter.insert(hash_text(string));
    }
    filter
}

/// The new codes of values, of which those behind the last one are zero.
pub(super) fn add_united(codes: &[u32], run: &Run, new: &[u32], to: &mut Vec<u32>) -> Option<()> {
    if codes.is_empty() {
        let zero = *new.first()?;
        to.resize(to.len() + run.range().len(), zero);
        return Some(());
    }
    for code in codes.get(run.range())? {
        to.push(*new.get(*code as usize)?);
    }
    Some(())
}

impl Target {
    /// What a source calls the column; it has values of it.
    fn of<'s>(&self, source: Of<'s>) -> Result<(usize, &'s Column), ReadError> {
        let number = self.numbers[source.input].ok_or_else(|| self.damaged(source))?;
        Ok((number, source.group.attribute(self.place, number)?))
    }

    pub(super) fn codes<'s>(&self, source: Of<'s>) -> Result<&'s [u32], ReadError> {
        match self.of(source)? {
            (_, Column::Codes(codes)) => Ok(codes),
            _ => Err(self.damaged(source)),
        }
    }

    pub(super) fn numbers<'s>(&self, source: Of<'s>) -> Result<&'s [u64], ReadError> {
        match self.of(source)? {
            (_, Column::Numbers(numbers)) => Ok(numbers),
            _ => Err(self.damaged(source)),
        }
    }

    pub(super) fn add_codes(
        &self,
        united: &United,
        (source, run): (Of<'_>, &Run),
        to: &mut Vec<u32>,
    ) -> Result<(), ReadError> {
        let added = match self.of(source)?.1 {
            Column::Codes(codes) => add_united(codes, run, united.codes_of(source.input), to),
            Column::Strings(strings) => run.range().try_for_each(|at| {
                to.push(united.find(strings.get(at)?)?);
                Some(())
            }),
            _ => None,
        };
        added.ok_or_else(|| self.damaged(source))
    }

    pub(super) fn add_strings(
        &self,
        (source, run): (Of<'_>, &Run),
        to: &mut Strings,
    ) -> Result<(), ReadError> {
        let (number, column) = self.of(source)?;
        if let Column::Strings(strings) = column {
            return to
                .extend(strings, run.range())
                .ok_or_else(|| self.damaged(source));
        }
        for at in run.range() {
            let string = source.group.string(self.place, number, at)?;
            to.push_checked(string)
                .ok_or_else(|| self.damaged(source))?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, source: Of<'_>) -> ReadError {
        let number = self.numbers[source.input].unwrap_or(usize::MAX);
        let name = source.group.attribute_name(self.place, number);
        ReadError::damaged(name, "one of them makes no sense")
    }
}
