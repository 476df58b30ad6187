//! Writes a planned row group: the values of each column, one source after the other.

use super::columns::{add_united, filter_of};
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
use crate::encode::{GroupHead, Output, Writer};
use crate::layout::Core;
use crate::read::at_or_zero;
use crate::schema::{Place, Type};
use crate::trace_filter::TraceFilter;
use crate::zone::Zone;

/// Writes a row group.
pub(super) fn put_group(
    plan: &Plan,
    (words, tables): (&Words, &Tables),
    writer: &mut Writer,
) -> Result<(), MergeError> {
    let durations = plan.numbers(Core::Duration, Place::Span)?;
    let kind_status = plan.codes(Core::KindStatus, Place::Span)?;
    let offset = writer.out.file.len() as u64;
    let mut head = head_of(plan, (&durations, &kind_status), offset);
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

/// What the footer says about the row group, but for its chunks.
fn head_of(plan: &Plan, (durations, kind_status): (&[u64], &[u32]), offset: u64) -> GroupHead {
    let count = |place: Place| -> u32 {
        let runs = plan.rows[place as usize].iter();
        runs.map(|run| run.end - run.begin).sum()
    };
    let zone = (plan.starts.iter().zip(durations).zip(kind_status)).map(
        |((start, duration), kind_status)| {
            // A span that ends before it starts has none.
            let duration = start.checked_add(*duration).map_or(0, |_| *duration);
            (duration, *kind_status as u8)
        },
    );
    let starts = || plan.starts.iter().copied();
    let of_traces = &plan.traces.starts;
    let first = of_traces.first().copied().unwrap_or_default();
    GroupHead {
        spans: plan.span_count() as u32,
        traces: plan.traces.ids.len() as u32,
        events: count(Place::Event),
        links: count(Place::Link),
        trace_starts: (first, of_traces.last().copied().unwrap_or_default()),
        starts: (
            starts().min().unwrap_or_default(),
            starts().max().unwrap_or_default(),
        ),
        offset,
        lengths: Vec::new(),
        zone: Zone::of(zone),
        texts: Vec::new(),
    }
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
                let codes = target.codes(source.of())?;
                extend(to, codes.get(run.range()), || target.damaged(source.of()))
            })?;
            out.column(|payload, squeeze| put_words::<u32>(payload, squeeze, &values));
        }
        Form::Numbers => {
            let values = plan.gather(runs, |source, run, to| {
                let numbers = target.numbers(source.of())?;
                extend(to, numbers.get(run.range()), || target.damaged(source.of()))
            })?;
            out.column(|payload, squeeze| put_words::<u64>(payload, squeeze, &values));
        }
        Form::Dictionary(united) => {
            let codes = plan.gather(runs, |source, run, to| {
                target.add_codes(united, (source.of(), run), to)
            })?;
            out.column(|payload, squeeze| put_words::<u32>(payload, squeeze, &codes));
        }
        Form::Plain => {
            let mut strings = Strings::default();
            for run in runs {
                let source = &*plan.sources[run.source as usize];
                let added = target.add_strings((source.of(), run), &mut strings);
                added.map_err(MergeError::of(source.input))?;
            }
            out.column(|payload, squeeze| strings.put(payload, squeeze));
            filter = target.is_text().then(|| filter_of(&strings));
        }
    }
    Ok(filter)
}

fn extend<T: Copy>(
    to: &mut Vec<T>,
    values: Option<&[T]>,
    damaged: impl Fn() -> ReadError,
) -> Result<(), ReadError> {
    to.extend_from_slice(values.ok_or_else(damaged)?);
    Ok(())
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
