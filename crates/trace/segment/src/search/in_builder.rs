use std::borrow::Cow;
use std::ops::Range;

use periplus_filter::{SpanFilter, TimeRange, span_matches};
use periplus_model::{Resource, Scope, TraceId};

use super::Hit;
use super::bits::Bits;
use super::prepare::{Catalog, prepare};
use super::run::{Rows, Values, run};
use super::test::{CodeSet, Test};
use crate::ReadError;
use crate::build::spans::HAS_PARENT;
use crate::build::{Builder, Entry, Interner, Strings, Table, Values as Column};
use crate::layout::Core;
use crate::schema::{Place, Type};

impl Builder {
    /// The traces that have a span here which starts in the range and matches, newest first.
    ///
    /// The filter is one that speaks of single spans; one that is not local is taken for its
    /// [`SpanFilter::local_bound`], so that it finds more.
    pub fn hits(&self, filter: &SpanFilter, range: TimeRange) -> Vec<Hit> {
        let mut traces = self.traces_with(filter, range, 0..self.span_count());
        traces.sort_unstable();
        traces.dedup();
        let hit = |trace: u32| {
            let (start_unix_nano, id) = self.trace_at(trace as usize);
            Hit {
                start_unix_nano,
                id,
                trace: trace as usize,
            }
        };
        let mut hits: Vec<Hit> = traces.into_iter().map(hit).collect();
        hits.sort_unstable_by(|a, b| b.cmp(a));
        hits
    }

    /// The numbers of the traces that have a span in these rows which starts in the range and
    /// matches, some more than once.
    ///
    /// What it takes depends on the rows alone, not on how large the builder is, but for a few bytes
    /// for each text that a column has. The filter is taken as by [`Self::hits`].
    pub fn traces_with(
        &self,
        filter: &SpanFilter,
        range: TimeRange,
        rows: Range<usize>,
    ) -> Vec<u32> {
        let mut traces: Vec<u32> = Vec::new();
        self.each_match(filter, range, rows, |row| {
            let trace = self.spans.trace[row];
            if traces.last() != Some(&trace) {
                traces.push(trace);
            }
        });
        traces
    }

    /// How many spans in these rows start in the range and match.
    pub fn count(&self, filter: &SpanFilter, range: TimeRange, rows: Range<usize>) -> u64 {
        let mut count = 0;
        self.each_match(filter, range, rows, |_| count += 1);
        count
    }

    /// The rows of these that start in the range and match.
    pub fn matching_rows(
        &self,
        filter: &SpanFilter,
        range: TimeRange,
        rows: Range<usize>,
    ) -> Vec<u32> {
        let mut found = Vec::new();
        self.each_match(filter, range, rows, |row| found.push(row as u32));
        found
    }

    fn each_match(
        &self,
        filter: &SpanFilter,
        range: TimeRange,
        rows: Range<usize>,
        mut see: impl FnMut(usize),
    ) {
        let window = Window::of(self, rows);
        let starts = &self.spans.start[window.spans.clone()];
        let in_range = Bits::of(starts, |start| range.contains(start));
        let found =
            prepare(&filter.local_bound(), &window).and_then(|node| run(&node, &window, &in_range));
        // Reading memory does not fail.
        let found = found.unwrap_or_else(|_| Bits::none(0));
        found.iter().for_each(|row| see(window.spans.start + row));
    }

    pub(crate) fn trace_id(&self, trace: usize) -> TraceId {
        self.traces.get(trace).id
    }

    pub(crate) fn table(&self, place: Place) -> &Table {
        match place {
            Place::Span => &self.attributes,
            Place::Event => &self.events.attributes,
            Place::Link => &self.links.attributes,
        }
    }
}

/// Some of a builder's spans, which follow each other, with their events and links.
pub(crate) struct Window<'b> {
    builder: &'b Builder,
    spans: Range<usize>,
    events: Range<usize>,
    links: Range<usize>,
}

impl<'b> Window<'b> {
    pub(crate) fn of(builder: &'b Builder, rows: Range<usize>) -> Self {
        let end = rows.end.min(builder.span_count());
        let spans = rows.start.min(end)..end;
        let owned = |owners: &[u32]| {
            let at = |row: usize| owners.partition_point(|owner| (*owner as usize) < row);
            at(spans.start)..at(spans.end)
        };
        Self {
            builder,
            events: owned(&builder.events.owner),
            links: owned(&builder.links.owner),
            spans,
        }
    }

    /// The rows of a table that are inside.
    pub(crate) fn range(&self, place: Place) -> Range<usize> {
        match place {
            Place::Span => self.spans.clone(),
            Place::Event => self.events.clone(),
            Place::Link => self.links.clone(),
        }
    }

    /// The places of the values of a column that the rows inside have: they follow each other.
    pub(crate) fn slots(&self, place: Place, column: usize) -> Range<usize> {
        let table = self.builder.table(place);
        let column = column as u32;
        let mut slots = self
            .range(place)
            .flat_map(|row| table.cells(row as u32))
            .filter(|(of, _)| *of == column)
            .map(|(_, slot)| slot as usize);
        match slots.next() {
            Some(first) => first..slots.last().unwrap_or(first) + 1,
            None => 0..0,
        }
    }

    fn core(&self, column: Core) -> &'b [u32] {
        let spans = &self.builder.spans;
        let column = match column {
            Core::Name => &spans.name,
            Core::Resource => &spans.resource,
            Core::Scope => &spans.scope,
            _ => return &[],
        };
        &column[self.spans.clone()]
    }
}

/// The strings of an interner that pass, of those with these codes.
fn passing(words: &Interner, codes: impl Iterator<Item = u32>, test: &Test) -> CodeSet {
    let find = |text: &[u8]| match words.find(text) {
        Entry::Known(code) => Some(code),
        Entry::Vacant(_) => None,
    };
    test.only_code(find).unwrap_or_else(|| {
        CodeSet::among(words.len(), codes, |code| {
            test.passes_bytes(words.get(code))
        })
    })
}

impl Catalog for Window<'_> {
    fn strings(&self, column: Core, test: &Test) -> Result<CodeSet, ReadError> {
        let builder = self.builder;
        Ok(match column {
            Core::Message => {
                let messages = builder.spans.message.within(&self.spans);
                let codes = messages.iter().map(|(_, message)| *message);
                // Zero is the empty text, which those have that are not in the list.
                passing(&builder.messages, codes.chain([0]), test)
            }
            column => passing(&builder.names, self.core(column).iter().copied(), test),
        })
    }

    fn resources(&self, passes: impl Fn(&Resource) -> bool) -> Result<CodeSet, ReadError> {
        let all = &self.builder.resources.decoded;
        let codes = self.core(Core::Resource).iter().copied();
        Ok(CodeSet::among(all.len(), codes, |code| {
            passes(&all[code as usize])
        }))
    }

    fn scopes(&self, passes: impl Fn(&Scope) -> bool) -> Result<CodeSet, ReadError> {
        let all = &self.builder.scopes.decoded;
        let codes = self.core(Core::Scope).iter().copied();
        Ok(CodeSet::among(all.len(), codes, |code| {
            passes(&all[code as usize])
        }))
    }

    fn columns(&self, place: Place, key: &str) -> Result<Vec<(usize, Type)>, ReadError> {
        let table = self.builder.table(place);
        let named = |column: &crate::build::Column| table.keys.get(column.key) == key.as_bytes();
        let columns = table.columns.iter().enumerate();
        Ok(columns
            .filter(|(_, column)| named(column) || column.ty == Type::Residual)
            .map(|(number, column)| (number, column.ty))
            .collect())
    }

    fn codes(
        &self,
        place: Place,
        column: usize,
        test: &Test,
    ) -> Result<Option<CodeSet>, ReadError> {
        let slots = self.slots(place, column);
        match &self.builder.table(place).columns[column].values {
            Column::Bytes(Strings::Dictionary { words, codes }) => {
                let codes = codes[slots].iter().copied();
                Ok(Some(passing(words, codes, test)))
            }
            _ => Ok(None),
        }
    }
}

impl Rows for Window<'_> {
    fn rows(&self, place: Place) -> usize {
        self.range(place).len()
    }

    fn codes(&self, column: Core) -> Result<Cow<'_, [u32]>, ReadError> {
        let spans = &self.builder.spans;
        Ok(match column {
            Core::Message => {
                let mut dense = vec![0; self.spans.len()];
                for (row, message) in spans.message.within(&self.spans) {
                    dense[*row as usize - self.spans.start] = *message;
                }
                Cow::Owned(dense)
            }
            Core::KindStatus => {
                let codes = spans.kind_status[self.spans.clone()].iter();
                Cow::Owned(codes.map(|code| u32::from(code & !HAS_PARENT)).collect())
            }
            column => Cow::Borrowed(self.core(column)),
        })
    }

    fn durations(&self) -> Result<Cow<'_, [u64]>, ReadError> {
        let spans = &self.builder.spans;
        let starts = spans.start[self.spans.clone()].iter();
        let durations = (starts.zip(&spans.end[self.spans.clone()]))
            .map(|(start, end)| end.saturating_sub(*start));
        Ok(Cow::Owned(durations.collect()))
    }

    fn shapes(&self, place: Place) -> Result<&[u32], ReadError> {
        Ok(&self.builder.table(place).shape[self.range(place)])
    }

    fn occurrences(&self, place: Place, column: usize) -> Result<Vec<u32>, ReadError> {
        let shapes = self.builder.table(place).shapes.iter();
        let count = |shape: &crate::build::Shape| {
            let entries = shape.entries.iter();
            entries.filter(|e| e.column as usize == column).count() as u32
        };
        Ok(shapes.map(count).collect())
    }

    fn values(&self, place: Place, column: usize) -> Result<Values<'_>, ReadError> {
        let slots = self.slots(place, column);
        let column = &self.builder.table(place).columns[column];
        Ok(match &column.values {
            Column::Nothing(_) => Values::Nothing,
            Column::Bools(bools) => Values::Bools(&bools[slots]),
            Column::Words(words) => Values::Numbers(&words[slots], 0),
            Column::Bytes(Strings::Dictionary { codes, .. }) if column.ty == Type::Text => {
                Values::Codes(&codes[slots])
            }
            Column::Bytes(strings) => {
                let get = move |value: usize| Ok(strings.get((slots.start + value) as u32));
                Values::Strings(slots.len(), Box::new(get))
            }
        })
    }

    fn counts(&self, place: Place) -> Result<Cow<'_, [u32]>, ReadError> {
        let owners = match place {
            Place::Event => &self.builder.events.owner[self.events.clone()],
            Place::Span | Place::Link => &self.builder.links.owner[self.links.clone()],
        };
        let mut counts = vec![0; self.spans.len()];
        for owner in owners {
            counts[*owner as usize - self.spans.start] += 1;
        }
        Ok(Cow::Owned(counts))
    }

    fn ask_spans(&self, filter: &SpanFilter, of: &Bits) -> Result<Bits, ReadError> {
        let mut found = Bits::none(of.len());
        for row in of.iter() {
            let at = self.spans.start + row;
            let group = self.builder.empty_group(at);
            if span_matches(filter, &group, &self.builder.span(at)) {
                found.set(row);
            }
        }
        Ok(found)
    }
}
