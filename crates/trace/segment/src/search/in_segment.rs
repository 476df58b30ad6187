use std::borrow::Cow;
use std::sync::Arc;

use periplus_filter::{SpanFilter, TimeRange, span_matches};
use periplus_model::{Resource, Scope, SpanGroup};

use super::Hit;
use super::bits::Bits;
use super::prepare::{Catalog, ColumnTest, Node, prepare};
use super::run::{Rows, Values, run};
use super::test::{CodeSet, Test, Texts};
use crate::ReadError;
use crate::codec::dictionary::Dictionary;
use crate::encode::flip_of;
use crate::layout::{Core, Section};
use crate::read::{Bytes, Column, Group, Inner, Segment, at_or_zero};
use crate::schema::{Place, Type};

/// A filter that is prepared for a segment: its texts are looked up in the dictionaries once.
#[derive(Clone, Debug)]
pub struct Search {
    node: Node,
}

impl Search {
    /// False: no span of the segment matches.
    pub fn may_match(&self) -> bool {
        !matches!(self.node, Node::Nothing)
    }
}

impl Segment {
    /// Prepares a search.
    ///
    /// The filter is one that speaks of single spans; one that is not local is taken for its
    /// [`SpanFilter::local_bound`], so that it finds more.
    ///
    /// # Errors
    ///
    /// The dictionaries cannot be had or are damaged.
    pub fn search(&self, filter: &SpanFilter) -> Result<Search, ReadError> {
        let node = prepare(&filter.local_bound(), &*self.inner)?;
        Ok(Search { node })
    }
}

impl Group {
    /// The traces that have a span in this row group which starts in the range and matches, newest
    /// first. The search must have been prepared by the same segment.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn hits(&self, search: &Search, range: TimeRange) -> Result<Vec<Hit>, ReadError> {
        if !search.may_match() {
            return Ok(Vec::new());
        }
        let found = self.matching(search, range)?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let traces = self.trace_table()?;
        let mut hits: Vec<Hit> = Vec::new();
        let mut trace = 0;
        for row in found.iter() {
            while at_or_zero(&traces.rows, trace + 1) as usize <= row {
                trace += 1;
            }
            if hits.last().is_none_or(|hit| hit.trace != trace) {
                hits.push(Hit {
                    start_unix_nano: traces.starts[trace],
                    id: traces.ids[trace],
                    trace,
                });
            }
        }
        hits.reverse();
        Ok(hits)
    }

    /// How many of its spans start in the range and match.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn match_count(&self, search: &Search, range: TimeRange) -> Result<u64, ReadError> {
        Ok(self.matching(search, range)?.count())
    }

    /// The spans that start in the range and match, in the order of the rows.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn matching_spans(
        &self,
        search: &Search,
        range: TimeRange,
    ) -> Result<Vec<SpanGroup>, ReadError> {
        let found = self.matching(search, range)?;
        let mut groups: Vec<SpanGroup> = Vec::new();
        if !found.is_empty() {
            self.each_span_of(
                |row| found.has(row),
                |_, group, span| match groups.last_mut() {
                    Some(last)
                        if Arc::ptr_eq(&last.resource, &group.resource)
                            && Arc::ptr_eq(&last.scope, &group.scope) =>
                    {
                        last.spans.push(span);
                    }
                    _ => groups.push(SpanGroup {
                        spans: vec![span],
                        ..group.clone()
                    }),
                },
            )?;
        }
        Ok(groups)
    }

    fn matching(&self, search: &Search, range: TimeRange) -> Result<Bits, ReadError> {
        if !search.may_match() || !self.may_match(&search.node)? {
            return Ok(Bits::none(0));
        }
        run(&search.node, self, &self.rows_in(range)?)
    }

    /// False: no span matches. It does not look at columns.
    fn may_match(&self, node: &Node) -> Result<bool, ReadError> {
        let inner = self.inner();
        Ok(match node {
            Node::Nothing => false,
            Node::And(nodes) => {
                for node in nodes {
                    if !self.may_match(node)? {
                        return Ok(false);
                    }
                }
                true
            }
            Node::Or(nodes) => {
                for node in nodes {
                    if self.may_match(node)? {
                        return Ok(true);
                    }
                }
                false
            }
            Node::Codes(Core::KindStatus, set) => match inner.zone(self.number)? {
                Some(zone) => {
                    (0..64).any(|code| zone.kind_statuses >> code & 1 == 1 && set.has(code))
                }
                None => true,
            },
            Node::Duration(test) => match inner.zone(self.number)? {
                Some(zone) => {
                    let nano = |nano: u64| i64::try_from(nano).unwrap_or(i64::MAX);
                    test.may_pass((nano(zone.durations.0), nano(zone.durations.1)))
                }
                None => true,
            },
            Node::Column(place, column, ColumnTest::Texts(test)) => match test.only_hash() {
                Some(hash) => {
                    let number = inner.schema()?.table(*place).first + column;
                    inner.texts()?.may_have(self.number, number as u32, hash)
                }
                None => true,
            },
            _ => true,
        })
    }

    /// The rows that start inside a range.
    fn rows_in(&self, range: TimeRange) -> Result<Bits, ReadError> {
        let len = self.span_count();
        let (first, last) = self.span_starts();
        if range.contains(first) && range.contains(last) {
            return Ok(Bits::all(len));
        }
        let mut rows = Bits::none(len);
        if last < range.start_unix_nano || first >= range.end_unix_nano {
            return Ok(rows);
        }
        let traces = self.trace_table()?;
        let offsets = self.numbers(Core::Start)?;
        for (trace, bounds) in traces.rows.windows(2).enumerate() {
            for row in bounds[0] as usize..bounds[1] as usize {
                let start = traces.starts[trace].wrapping_add(at_or_zero(offsets, row));
                if range.contains(start) {
                    rows.set(row);
                }
            }
        }
        Ok(rows)
    }
}

/// A dictionary with the bytes that it is read from.
struct Read<'a>(&'a Dictionary, &'a Bytes);

impl Texts for Read<'_> {
    fn len(&self) -> u32 {
        self.0.len()
    }

    fn find(&self, bytes: &[u8]) -> Result<Option<u32>, ReadError> {
        let (code, found) = self.0.find(self.1, bytes)?;
        Ok(found.then_some(code))
    }

    fn text(&self, code: u32) -> Result<&str, ReadError> {
        self.0.text(self.1, code)
    }
}

impl Catalog for Inner {
    fn strings(&self, column: Core, test: &Test) -> Result<CodeSet, ReadError> {
        let section = match column {
            Core::Message => Section::Messages,
            _ => Section::Names,
        };
        test.codes(&Read(self.dictionary(section)?, &self.bytes))
    }

    fn resources(&self, passes: impl Fn(&Resource) -> bool) -> Result<CodeSet, ReadError> {
        let all = Self::resources(self)?;
        CodeSet::of(all.len() as u32, |code| Ok(passes(&all[code as usize])))
    }

    fn scopes(&self, passes: impl Fn(&Scope) -> bool) -> Result<CodeSet, ReadError> {
        let all = Self::scopes(self)?;
        CodeSet::of(all.len() as u32, |code| Ok(passes(&all[code as usize])))
    }

    fn columns(&self, place: Place, key: &str) -> Result<Vec<(usize, Type)>, ReadError> {
        let columns = self.schema()?.table(place).columns.iter().enumerate();
        Ok(columns
            .filter(|(_, column)| column.key == key || column.ty == Type::Residual)
            .map(|(number, column)| (number, column.ty))
            .collect())
    }

    fn codes(
        &self,
        place: Place,
        column: usize,
        test: &Test,
    ) -> Result<Option<CodeSet>, ReadError> {
        match &self.schema()?.table(place).columns[column].dictionary {
            Some(dictionary) => Ok(Some(test.codes(&Read(dictionary, &self.bytes))?)),
            None => Ok(None),
        }
    }
}

impl Rows for Group {
    fn rows(&self, place: Place) -> usize {
        Self::rows(self, place)
    }

    fn codes(&self, column: Core) -> Result<Cow<'_, [u32]>, ReadError> {
        Ok(Cow::Borrowed(Self::codes(self, column)?))
    }

    fn durations(&self) -> Result<Cow<'_, [u64]>, ReadError> {
        let durations = self.numbers(Core::Duration)?;
        if durations.is_empty() {
            return Ok(Cow::Owned(vec![0; self.span_count()]));
        }
        // Where a span ends before it starts, the start and what is written go beyond the last time.
        let (_, last_start) = self.span_starts();
        let longest = durations.iter().max().copied().unwrap_or_default();
        if last_start.checked_add(longest).is_some() {
            return Ok(Cow::Borrowed(durations));
        }
        let traces = self.trace_table()?;
        let offsets = self.numbers(Core::Start)?;
        let mut real = durations.to_vec();
        for (trace, bounds) in traces.rows.windows(2).enumerate() {
            let first = bounds[0] as usize;
            for (row, nano) in (first..).zip(&mut real[first..bounds[1] as usize]) {
                let start = traces.starts[trace].wrapping_add(at_or_zero(offsets, row));
                *nano = start.wrapping_add(*nano).saturating_sub(start);
            }
        }
        Ok(Cow::Owned(real))
    }

    fn shapes(&self, place: Place) -> Result<&[u32], ReadError> {
        Self::shapes(self, place)
    }

    fn occurrences(&self, place: Place, column: usize) -> Result<Vec<u32>, ReadError> {
        let shapes = self.inner().schema()?.table(place).shapes.iter();
        let count = |shape: &[u32]| shape.iter().filter(|c| **c as usize == column).count() as u32;
        Ok(shapes.map(|shape| count(shape)).collect())
    }

    fn values(&self, place: Place, column: usize) -> Result<Values<'_>, ReadError> {
        let schema = &self.inner().schema()?.table(place).columns[column];
        Ok(match self.attribute(place, column)? {
            Column::Codes(codes) if schema.ty == Type::Residual => {
                let get = move |value| self.string(place, column, value);
                Values::Strings(codes.len(), Box::new(get))
            }
            Column::Codes(codes) => Values::Codes(codes),
            Column::Numbers(numbers) => Values::Numbers(numbers, flip_of(schema.ty)),
            Column::Strings(strings) => {
                let get = move |value| self.string(place, column, value);
                Values::Strings(strings.len(), Box::new(get))
            }
            Column::Raw(_) | Column::Nothing => Values::Nothing,
        })
    }

    fn counts(&self, place: Place) -> Result<Cow<'_, [u32]>, ReadError> {
        let column = match place {
            Place::Event => Core::Events,
            Place::Span | Place::Link => Core::Links,
        };
        Ok(Cow::Borrowed(Self::codes(self, column)?))
    }

    fn ask_spans(&self, filter: &SpanFilter, of: &Bits) -> Result<Bits, ReadError> {
        let mut found = Bits::none(of.len());
        self.each_span_of(
            |row| of.has(row),
            |row, group, span| {
                if span_matches(filter, group, &span) {
                    found.set(row);
                }
            },
        )?;
        Ok(found)
    }
}
