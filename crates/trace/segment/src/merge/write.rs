//! Writes a planned row group: the values of each column, one source after the other.

use super::error::MergeError;
use super::form::Form;
use super::plan::{Plan, Run};
use super::source::Source;
use super::tables::Column as Target;
use super::united::United;
use super::{Tables, Words};
use crate::ReadError;
use crate::codec::strings::Strings;
use crate::codec::words::put_words;
use crate::encode::{BITS_PER_TEXT, GroupHead, Output, Writer};
use crate::hash::hash_text;
use crate::layout::Core;
use crate::read::{Column, at_or_zero};
use crate::schema::{Place, Type};
use crate::trace_filter::TraceFilter;
use crate::zone::Zone;

/// Writes a row group.
pub(super) fn put_group(
    plan: &Plan,
    (words, tables): (&Words, &Tables),
    writer: &mut Writer,
) -> Result<(), MergeError> {
    let count = |place: Place| -> u32 {
        let runs = plan.rows[place as usize].iter();
        runs.map(|run| run.end - run.begin).sum()
    };
    let durations = plan.numbers(Core::Duration, Place::Span)?;
    let kind_status = plan.codes(Core::KindStatus, Place::Span)?;
    let zone = (plan.starts.iter().zip(&durations).zip(&kind_status)).map(
        |((start, duration), kind_status)| {
            // A span that ends before it starts has none.
            let duration = start.checked_add(*duration).map_or(0, |_| *duration);
            (duration, *kind_status as u8)
        },
    );
    let starts = || plan.starts.iter().copied();
    let of_traces = &plan.traces.starts;
    let first = of_traces.first().copied().unwrap_or_default();
    let mut head = GroupHead {
        spans: plan.span_count() as u32,
        traces: plan.traces.ids.len() as u32,
        events: count(Place::Event),
        links: count(Place::Link),
        trace_starts: (first, of_traces.last().copied().unwrap_or_default()),
        starts: (
            starts().min().unwrap_or_default(),
            starts().max().unwrap_or_default(),
        ),
        offset: writer.out.file.len() as u64,
        lengths: Vec::new(),
        zone: Zone::of(zone),
        texts: Vec::new(),
    };
    let out = &mut writer.out;
    put_traces(plan, out);
    put_rows(plan, (&durations, &kind_status), (words, tables), out)?;
    put_children(plan, (words, tables), out)?;
    let mut number = 0;
    for (table, columns) in tables.iter().zip(&plan.values) {
        for (target, runs) in table.columns.iter().zip(columns) {
            if let Some(filter) = put_column(plan, target, runs, out)? {
                head.texts.push((number, filter));
            }
            number += 1;
        }
    }
    head.lengths = out.take_lengths();
    writer.groups.push(head);
    Ok(())
}

fn put_traces(plan: &Plan, out: &mut Output) {
    let traces = &plan.traces;
    let ids: Vec<u8> = traces.ids.iter().flat_map(|id| id.to_bytes()).collect();
    let first = traces.starts.first().copied().unwrap_or_default();
    let before = std::iter::once(&first).chain(&traces.starts);
    let steps = traces.starts.iter().zip(before);
    let steps: Vec<u64> = steps.map(|(start, before)| start - before).collect();
    out.raw(Core::TraceId, &ids);
    out.numbers(Core::TraceStart, &steps);
    out.numbers(Core::TraceSpans, &traces.lengths);
    out.numbers(Core::Arrival, &traces.unexpected);
    out.numbers(Core::Rank, &traces.ranks);
}

fn put_rows(
    plan: &Plan,
    (durations, kind_status): (&[u64], &[u32]),
    (words, tables): (&Words, &Tables),
    out: &mut Output,
) -> Result<(), MergeError> {
    let span = Place::Span;
    out.raw(Core::SpanId, &plan.raw(Core::SpanId, span, 8)?);
    out.numbers(Core::Parent, &plan.parents.near);
    out.numbers(Core::FarParent, &plan.parents.far);
    out.raw(Core::RawParent, &plan.parents.elsewhere);
    out.numbers(Core::Start, &plan.offsets);
    out.numbers(Core::Duration, durations);
    out.numbers(Core::KindStatus, kind_status);
    for (core, united) in [
        (Core::Name, &words.names),
        (Core::Resource, &words.resources),
        (Core::Scope, &words.scopes),
    ] {
        out.numbers(core, &plan.united(core, span, united)?);
    }
    out.numbers(Core::Flags, &plan.codes(Core::Flags, span)?);
    for (core, united) in [
        (Core::TraceState, &words.trace_states),
        (Core::Message, &words.messages),
    ] {
        out.numbers(core, &plan.united(core, span, united)?);
    }
    for core in [
        Core::DroppedAttributes,
        Core::DroppedEvents,
        Core::DroppedLinks,
    ] {
        out.numbers(core, &plan.codes(core, span)?);
    }
    out.numbers(Core::Shape, &plan.shapes(Core::Shape, span, tables)?);
    for core in [Core::Events, Core::Links] {
        out.numbers(core, &plan.codes(core, span)?);
    }
    Ok(())
}

fn put_children(
    plan: &Plan,
    (words, tables): (&Words, &Tables),
    out: &mut Output,
) -> Result<(), MergeError> {
    let (event, link) = (Place::Event, Place::Link);
    out.numbers(Core::EventTime, &plan.numbers(Core::EventTime, event)?);
    let names = plan.united(Core::EventName, event, &words.event_names)?;
    out.numbers(Core::EventName, &names);
    out.numbers(Core::EventDropped, &plan.codes(Core::EventDropped, event)?);
    let shapes = plan.shapes(Core::EventShape, event, tables)?;
    out.numbers(Core::EventShape, &shapes);
    out.raw(Core::LinkTrace, &plan.raw(Core::LinkTrace, link, 16)?);
    out.raw(Core::LinkSpan, &plan.raw(Core::LinkSpan, link, 8)?);
    let states = plan.united(Core::LinkState, link, &words.trace_states)?;
    out.numbers(Core::LinkState, &states);
    out.numbers(Core::LinkFlags, &plan.codes(Core::LinkFlags, link)?);
    out.numbers(Core::LinkDropped, &plan.codes(Core::LinkDropped, link)?);
    let shapes = plan.shapes(Core::LinkShape, link, tables)?;
    out.numbers(Core::LinkShape, &shapes);
    Ok(())
}

/// Writes the values of an attribute column; of texts one after the other, which there are.
fn put_column(
    plan: &Plan,
    target: &Target,
    runs: &[Run],
    out: &mut Output,
) -> Result<Option<TraceFilter<'static>>, MergeError> {
    let mut filter = None;
    match &target.form {
        _ if runs.is_empty() => out.column(|_, _| {}),
        Form::Nothing => out.column(|_, _| {}),
        Form::Numbers if target.ty == Type::Bool => {
            let values = plan.gather(runs, |source, run, to| {
                let codes = target.codes(source)?;
                extend(to, codes.get(run.range()), || target.damaged(source))
            })?;
            out.column(|payload, squeeze| put_words::<u32>(payload, squeeze, &values));
        }
        Form::Numbers => {
            let values = plan.gather(runs, |source, run, to| {
                let numbers = target.numbers(source)?;
                extend(to, numbers.get(run.range()), || target.damaged(source))
            })?;
            out.column(|payload, squeeze| put_words::<u64>(payload, squeeze, &values));
        }
        Form::Dictionary(united) => {
            let codes = plan.gather(runs, |source, run, to| {
                target.add_codes(united, (source, run), to)
            })?;
            out.column(|payload, squeeze| put_words::<u32>(payload, squeeze, &codes));
        }
        Form::Plain => {
            let mut strings = Strings::default();
            for run in runs {
                let source = &*plan.sources[run.source as usize];
                let added = target.add_strings((source, run), &mut strings);
                added.map_err(MergeError::of(source.input))?;
            }
            out.column(|payload, squeeze| strings.put(payload, squeeze));
            filter = (target.ty == Type::Text).then(|| filter_of(&strings));
        }
    }
    Ok(filter)
}

fn filter_of(strings: &Strings) -> TraceFilter<'static> {
    let mut filter = TraceFilter::with_bits(strings.len() * BITS_PER_TEXT);
    for string in (0..strings.len()).filter_map(|at| strings.get(at)) {
        filter.insert(hash_text(string));
    }
    filter
}

fn extend<T: Copy>(
    to: &mut Vec<T>,
    values: Option<&[T]>,
    damaged: impl Fn() -> ReadError,
) -> Result<(), ReadError> {
    to.extend_from_slice(values.ok_or_else(damaged)?);
    Ok(())
}

/// The new codes of values, of which those behind the last one are zero.
fn add_united(codes: &[u32], run: &Run, new: &[u32], to: &mut Vec<u32>) -> Option<()> {
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

impl Plan {
    /// Values of all runs, one source after the other.
    fn gather<T>(
        &self,
        runs: &[Run],
        mut add: impl FnMut(&Source, &Run, &mut Vec<T>) -> Result<(), ReadError>,
    ) -> Result<Vec<T>, MergeError> {
        let count = runs.iter().map(|run| run.range().len()).sum();
        let mut values = Vec::with_capacity(count);
        for run in runs {
            let source = &*self.sources[run.source as usize];
            add(source, run, &mut values).map_err(MergeError::of(source.input))?;
        }
        Ok(values)
    }

    fn codes(&self, core: Core, place: Place) -> Result<Vec<u32>, MergeError> {
        self.gather(&self.rows[place as usize], |source, run, to| {
            add_or_zeros(source.group.codes(core)?, run, to);
            Ok(())
        })
    }

    fn numbers(&self, core: Core, place: Place) -> Result<Vec<u64>, MergeError> {
        self.gather(&self.rows[place as usize], |source, run, to| {
            add_or_zeros(source.group.numbers(core)?, run, to);
            Ok(())
        })
    }

    fn raw(&self, core: Core, place: Place, width: usize) -> Result<Vec<u8>, MergeError> {
        self.gather(&self.rows[place as usize], |source, run, to| {
            let range = run.range();
            let bytes = source.group.raw(core)?;
            let bytes = bytes.get(range.start * width..range.end * width);
            extend(to, bytes, || source.group.damaged(core, "they are missing"))
        })
    }

    /// Codes of a dictionary.
    fn united(&self, core: Core, place: Place, united: &United) -> Result<Vec<u32>, MergeError> {
        self.gather(&self.rows[place as usize], |source, run, to| {
            let new = united.codes_of(source.input);
            let unknown = || source.group.damaged(core, "one of them is unknown");
            add_united(source.group.codes(core)?, run, new, to).ok_or_else(unknown)
        })
    }

    fn shapes(&self, core: Core, place: Place, tables: &Tables) -> Result<Vec<u32>, MergeError> {
        self.gather(&self.rows[place as usize], |source, run, to| {
            let new = &tables[place as usize].shape_of[source.input];
            let unknown = || source.group.damaged(core, "they are unknown");
            add_united(source.group.codes(core)?, run, new, to).ok_or_else(unknown)
        })
    }
}

fn add_or_zeros<T: Copy + Default>(column: &[T], run: &Run, to: &mut Vec<T>) {
    match column.get(run.range()) {
        Some(values) => to.extend_from_slice(values),
        None => to.extend(run.range().map(|row| at_or_zero(column, row))),
    }
}

impl Target {
    /// What a source calls the column; it has values of it.
    fn of<'s>(&self, source: &'s Source) -> Result<(usize, &'s Column), ReadError> {
        let number = self.numbers[source.input].ok_or_else(|| self.damaged(source))?;
        Ok((number, source.group.attribute(self.place, number)?))
    }

    fn codes<'s>(&self, source: &'s Source) -> Result<&'s [u32], ReadError> {
        match self.of(source)? {
            (_, Column::Codes(codes)) => Ok(codes),
            _ => Err(self.damaged(source)),
        }
    }

    fn numbers<'s>(&self, source: &'s Source) -> Result<&'s [u64], ReadError> {
        match self.of(source)? {
            (_, Column::Numbers(numbers)) => Ok(numbers),
            _ => Err(self.damaged(source)),
        }
    }

    fn add_codes(
        &self,
        united: &United,
        (source, run): (&Source, &Run),
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

    fn add_strings(
        &self,
        (source, run): (&Source, &Run),
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

    fn damaged(&self, source: &Source) -> ReadError {
        let number = self.numbers[source.input].unwrap_or(usize::MAX);
        let name = source.group.attribute_name(self.place, number);
        ReadError::damaged(name, "one of them makes no sense")
    }
}
