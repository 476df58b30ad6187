use std::borrow::Cow;
use std::sync::Arc;

use periplus_filter::{SpanFilter, TimeRange, span_matches};
use periplus_model::{Resource, Scope, TraceId};

use super::Hit;
use super::bits::Bits;
use super::prepare::{Catalog, prepare};
use super::run::{Rows, Values, run};
use super::test::{CodeSet, Test, Texts};
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
        let in_range = Bits::of(&self.spans.start, |start| range.contains(start));
        let found =
            prepare(&filter.local_bound(), self).and_then(|node| run(&node, self, &in_range));
        // Reading memory does not fail.
        let found = found.unwrap_or_else(|_| Bits::none(0));
        let mut hit = vec![false; self.trace_count()];
        for row in found.iter() {
            hit[self.spans.trace[row] as usize] = true;
        }
        let traces = (0..self.trace_count()).filter(|trace| hit[*trace]);
        let mut hits: Vec<Hit> = traces
            .map(|trace| Hit {
                start_unix_nano: self.traces.start[trace],
                id: self.trace_id(trace),
                trace,
            })
            .collect();
        hits.sort_unstable_by(|a, b| b.cmp(a));
        hits
    }

    pub(crate) fn trace_id(&self, trace: usize) -> TraceId {
        let bytes = self.trace_ids.get(trace as u32).try_into();
        bytes.map_or(TraceId::ZERO, TraceId::from_bytes)
    }

    fn table(&self, place: Place) -> &Table {
        match place {
            Place::Span => &self.attributes,
            Place::Event => &self.events.attributes,
            Place::Link => &self.links.attributes,
        }
    }
}

impl Texts for Interner {
    fn len(&self) -> u32 {
        Self::len(self) as u32
    }

    fn find(&self, bytes: &[u8]) -> Result<Option<u32>, ReadError> {
        Ok(match Self::find(self, bytes) {
            Entry::Known(code) => Some(code),
            Entry::Vacant(_) => None,
        })
    }

    fn text(&self, code: u32) -> Result<&str, ReadError> {
        Ok(Self::text(self, code))
    }
}

impl Catalog for Builder {
    fn strings(&self, column: Core, test: &Test) -> Result<CodeSet, ReadError> {
        test.codes(match column {
            Core::Message => &self.messages,
            _ => &self.names,
        })
    }

    fn resources(&self) -> Result<&[Arc<Resource>], ReadError> {
        Ok(&self.resources.decoded)
    }

    fn scopes(&self) -> Result<&[Arc<Scope>], ReadError> {
        Ok(&self.scopes.decoded)
    }

    fn columns(&self, place: Place, key: &str) -> Result<Vec<(usize, Type)>, ReadError> {
        let table = self.table(place);
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
        match &self.table(place).columns[column].values {
            Column::Bytes(Strings::Dictionary { words, .. }) => Ok(Some(test.codes(words)?)),
            _ => Ok(None),
        }
    }
}

impl Rows for Builder {
    fn rows(&self, place: Place) -> usize {
        self.table(place).rows()
    }

    fn codes(&self, column: Core) -> Result<Cow<'_, [u32]>, ReadError> {
        let spans = &self.spans;
        Ok(match column {
            Core::Name => Cow::Borrowed(&spans.name[..]),
            Core::Resource => Cow::Borrowed(&spans.resource[..]),
            Core::Scope => Cow::Borrowed(&spans.scope[..]),
            Core::Message => Cow::Owned(spans.message.dense(spans.len())),
            Core::KindStatus => {
                let codes = spans.kind_status.iter();
                Cow::Owned(codes.map(|code| u32::from(code & !HAS_PARENT)).collect())
            }
            _ => Cow::Borrowed(&[]),
        })
    }

    fn durations(&self) -> Result<Cow<'_, [u64]>, ReadError> {
        let spans = self.spans.start.iter().zip(&self.spans.end);
        let durations = spans.map(|(start, end)| end.saturating_sub(*start));
        Ok(Cow::Owned(durations.collect()))
    }

    fn shapes(&self, place: Place) -> Result<&[u32], ReadError> {
        Ok(&self.table(place).shape)
    }

    fn occurrences(&self, place: Place, column: usize) -> Result<Vec<u32>, ReadError> {
        let shapes = self.table(place).shapes.iter();
        let count = |shape: &crate::build::Shape| {
            let entries = shape.entries.iter();
            entries.filter(|e| e.column as usize == column).count() as u32
        };
        Ok(shapes.map(count).collect())
    }

    fn values(&self, place: Place, column: usize) -> Result<Values<'_>, ReadError> {
        let column = &self.table(place).columns[column];
        Ok(match &column.values {
            Column::Nothing(_) => Values::Nothing,
            Column::Bools(bools) => Values::Bools(bools),
            Column::Words(words) => Values::Numbers(words, 0),
            Column::Bytes(Strings::Dictionary { codes, .. }) if column.ty == Type::Text => {
                Values::Codes(codes)
            }
            Column::Bytes(strings) => {
                let get = |value: usize| Ok(strings.get(value as u32));
                Values::Strings(strings.len(), Box::new(get))
            }
        })
    }

    fn counts(&self, place: Place) -> Result<Cow<'_, [u32]>, ReadError> {
        let owners = match place {
            Place::Event => &self.events.owner,
            Place::Span | Place::Link => &self.links.owner,
        };
        let mut counts = vec![0; self.span_count()];
        for owner in owners {
            counts[*owner as usize] += 1;
        }
        Ok(Cow::Owned(counts))
    }

    fn ask_spans(&self, filter: &SpanFilter, of: &Bits) -> Result<Bits, ReadError> {
        let mut found = Bits::none(of.len());
        for row in of.iter() {
            if span_matches(filter, &self.empty_group(row), &self.span(row)) {
                found.set(row);
            }
        }
        Ok(found)
    }
}
