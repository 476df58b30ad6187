//! Row groups that are taken as they are: only what has other codes now is decoded.

use super::Merger;
use super::columns::{Of, add_united, filter_of};
use super::error::MergeError;
use super::form::Form;
use super::pieces::Piece;
use super::plan::Run;
use super::tables::Column as Target;
use super::whole::ranks;
use crate::ReadError;
use crate::codec::Chunk;
use crate::codec::strings::Strings;
use crate::codec::words::put_words;
use crate::encode::{GroupHead, Output};
use crate::hash::hash_trace;
use crate::layout::Core;
use crate::schema::Place;
use crate::trace_filter::TraceFilter;
use crate::zone::Zone;

impl Merger<'_> {
    /// Writes the row group that these are all pieces of. False: it says too little of itself.
    pub(super) fn copy_group(&mut self, pieces: &[Piece]) -> Result<bool, MergeError> {
        let Some(Piece { input, group, .. }) = pieces.first().copied() else {
            return Ok(true);
        };
        let (input, number) = (input as usize, group as usize);
        let group = self.inputs[input].group(number);
        let zone = group.inner().zone(number).map_err(MergeError::of(input))?;
        let Some(zone) = zone else {
            return Ok(false);
        };
        self.end_group()?;
        self.check_stop()?;
        let of = Of {
            input,
            group: &group,
        };
        let copied = self.copy_columns(of, number, zone);
        copied.map_err(MergeError::of(input))?;
        let hashes = pieces.iter().map(|piece| hash_trace(piece.id.as_u128()));
        self.hashes.extend(hashes);
        Ok(true)
    }

    fn copy_columns(&mut self, of: Of<'_>, number: usize, zone: Zone) -> Result<(), ReadError> {
        let from = of.group.head();
        let mut head = GroupHead {
            spans: from.spans,
            traces: from.traces,
            events: from.events,
            links: from.links,
            trace_starts: from.trace_starts,
            starts: from.starts,
            offset: self.writer.out.file.len() as u64,
            lengths: Vec::new(),
            zone,
            texts: Vec::new(),
        };
        let (unexpected, ranks) = self.arrivals(of)?;
        for core in Core::ALL {
            match core {
                Core::Arrival => self.writer.out.numbers(*core, &unexpected),
                Core::Rank => self.writer.out.numbers(*core, &ranks),
                _ => self.copy_core(of, *core)?,
            }
        }
        let filters = of.group.inner().texts()?.of_group(number);
        let tables = &self.tables;
        for (at, target) in (0..).zip(tables.iter().flat_map(|table| &table.columns)) {
            let filter = copy_attribute(of, target, filters, &mut self.writer.out)?;
            head.texts.extend(filter.map(|filter| (at, filter)));
        }
        head.lengths = self.writer.out.take_lengths();
        self.writer.groups.push(head);
        Ok(())
    }

    /// For each trace whether its order of arrival is unexpected, and the places in it where it is.
    fn arrivals(&self, of: Of<'_>) -> Result<(Vec<u8>, Vec<u32>), ReadError> {
        let (mut unexpected, mut all) = (Vec::new(), Vec::new());
        for trace in 0..of.group.trace_table()?.ids.len() {
            let ranks = ranks(of, trace, &self.words)?;
            unexpected.push(u8::from(ranks.is_some()));
            all.extend(ranks.unwrap_or_default());
        }
        Ok((unexpected, all))
    }

    fn copy_core(&mut self, of: Of<'_>, core: Core) -> Result<(), ReadError> {
        let words = &self.words;
        let shapes = |place: Place| &self.tables[place as usize].shape_of[of.input][..];
        let (new, place) = match core {
            Core::Name => (words.names.codes_of(of.input), Place::Span),
            Core::Resource => (words.resources.codes_of(of.input), Place::Span),
            Core::Scope => (words.scopes.codes_of(of.input), Place::Span),
            Core::TraceState => (words.trace_states.codes_of(of.input), Place::Span),
            Core::Message => (words.messages.codes_of(of.input), Place::Span),
            Core::Shape => (shapes(Place::Span), Place::Span),
            Core::EventName => (words.event_names.codes_of(of.input), Place::Event),
            Core::EventShape => (shapes(Place::Event), Place::Event),
            Core::LinkState => (words.trace_states.codes_of(of.input), Place::Link),
            Core::LinkShape => (shapes(Place::Link), Place::Link),
            _ => (&[][..], Place::Span),
        };
        let out = &mut self.writer.out;
        if is_same(new) {
            let name = || of.group.core_name(core);
            return copy(of, of.group.head().core(core), name, out);
        }
        let mut codes = Vec::new();
        let run = run_of(of.group.rows(place));
        let added = add_united(of.group.codes(core)?, &run, new, &mut codes);
        added.ok_or_else(|| of.group.damaged(core, "one of them is unknown"))?;
        out.numbers(core, &codes);
        Ok(())
    }
}

/// Writes the values of an attribute column; of texts one after the other, which there are.
fn copy_attribute(
    of: Of<'_>,
    target: &Target,
    filters: &[(u32, TraceFilter<'static>)],
    out: &mut Output,
) -> Result<Option<TraceFilter<'static>>, ReadError> {
    let Some(number) = target.numbers[of.input] else {
        out.column(|_, _| {});
        return Ok(None);
    };
    let table = of.group.inner().schema()?.table(target.place);
    let chunk = of.group.head().attribute(table.first + number);
    let has_dictionary = table.columns[number].dictionary.is_some();
    let name = || of.group.attribute_name(target.place, number);
    match &target.form {
        _ if chunk.length == 0 => out.column(|_, _| {}),
        Form::Nothing => out.column(|_, _| {}),
        Form::Numbers => copy(of, chunk, name, out)?,
        Form::Dictionary(united) if has_dictionary && is_same(united.codes_of(of.input)) => {
            copy(of, chunk, name, out)?;
        }
        Form::Dictionary(united) => {
            let mut codes = Vec::new();
            let run = run_of(of.group.attribute(target.place, number)?.len());
            target.add_codes(united, (of, &run), &mut codes)?;
            out.column(|payload, squeeze| put_words::<u32>(payload, squeeze, &codes));
        }
        Form::Plain if !has_dictionary => {
            copy(of, chunk, name, out)?;
            let old = (table.first + number) as u32;
            let filter = filters.iter().find(|(column, _)| *column == old);
            return Ok(filter.map(|(_, filter)| filter.clone()));
        }
        Form::Plain => {
            let mut strings = Strings::default();
            let run = run_of(of.group.attribute(target.place, number)?.len());
            target.add_strings((of, &run), &mut strings)?;
            out.column(|payload, squeeze| strings.put(payload, squeeze));
            return Ok(target.is_text().then(|| filter_of(&strings)));
        }
    }
    Ok(None)
}

/// Copies a column as it is.
fn copy(
    of: Of<'_>,
    chunk: Chunk,
    name: impl Fn() -> String,
    out: &mut Output,
) -> Result<(), ReadError> {
    if chunk.length == 0 {
        out.column(|_, _| {});
        return Ok(());
    }
    let bytes = of.group.payload(chunk, name)?;
    out.column(|payload, _| payload.extend_from_slice(&bytes));
    Ok(())
}

fn is_same(new: &[u32]) -> bool {
    (0..).zip(new).all(|(old, new)| old == *new)
}

fn run_of(values: usize) -> Run {
    Run {
        source: 0,
        begin: 0,
        end: values as u32,
    }
}
