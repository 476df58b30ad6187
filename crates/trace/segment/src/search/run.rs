//! A prepared filter against rows.

use std::borrow::Cow;

use periplus_filter::{Scalar, SpanFilter};

use super::bits::Bits;
use super::prepare::{ColumnTest, Node, any};
use super::test::CodeSet;
use crate::ReadError;
use crate::layout::Core;
use crate::schema::Place;
use crate::value::read_attributes;

/// Rows in columns: those of a builder or of a row group.
pub(crate) trait Rows {
    /// How many rows a table has.
    fn rows(&self, place: Place) -> usize;
    /// A core column of codes; empty if all are zero.
    fn codes(&self, column: Core) -> Result<Cow<'_, [u32]>, ReadError>;
    /// The durations of the spans; zero where one ends before it starts.
    fn durations(&self) -> Result<Cow<'_, [u64]>, ReadError>;
    /// The shape of each row of a table; empty if all are zero.
    fn shapes(&self, place: Place) -> Result<&[u32], ReadError>;
    /// For each shape of a table how many values of a column it has.
    fn occurrences(&self, place: Place, column: usize) -> Result<Vec<u32>, ReadError>;
    /// The values of an attribute column, in the order of the rows.
    fn values(&self, place: Place, column: usize) -> Result<Values<'_>, ReadError>;
    /// How many rows of a table each span has; empty if none has any.
    fn counts(&self, place: Place) -> Result<Cow<'_, [u32]>, ReadError>;
    /// Which of these spans match.
    fn ask_spans(&self, filter: &SpanFilter, of: &Bits) -> Result<Bits, ReadError>;
}

/// The values of a column.
pub(crate) enum Values<'a> {
    Nothing,
    Codes(&'a [u32]),
    Bools(&'a [u8]),
    /// Integers or the bits of doubles; integers have this mask on them.
    Numbers(&'a [u64], u64),
    /// Byte strings, by their number.
    Strings(usize, StringOf<'a>),
}

/// A byte string by its number.
pub(crate) type StringOf<'a> = Box<dyn Fn(usize) -> Result<&'a [u8], ReadError> + 'a>;

/// Which of these rows match.
pub(crate) fn run<R: Rows>(node: &Node, rows: &R, of: &Bits) -> Result<Bits, ReadError> {
    if of.is_empty() {
        return Ok(of.clone());
    }
    let mut found = match node {
        Node::All => return Ok(of.clone()),
        Node::Nothing => return Ok(Bits::none(of.len())),
        Node::And(nodes) => {
            let mut left = of.clone();
            for node in nodes {
                left = run(node, rows, &left)?;
            }
            return Ok(left);
        }
        Node::Or(nodes) => {
            let mut left = of.clone();
            let mut found = Bits::none(of.len());
            for node in nodes {
                let more = run(node, rows, &left)?;
                left.without(&more);
                found.or(&more);
            }
            return Ok(found);
        }
        Node::Not(node) => {
            let mut left = of.clone();
            left.without(&run(node, rows, of)?);
            return Ok(left);
        }
        Node::Codes(column, set) => match &*rows.codes(*column)? {
            [] if set.has(0) => return Ok(of.clone()),
            [] => return Ok(Bits::none(of.len())),
            codes => match set {
                CodeSet::One(one) => Bits::of(codes, |code| code == *one),
                set => Bits::of(codes, |code| set.has(code)),
            },
        },
        Node::Duration(test) => {
            let nano = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            Bits::of(&rows.durations()?, |value| test.passes(nano(value)))
        }
        Node::Column(place, column, test) => {
            let found = column_rows(rows, *place, *column, test)?;
            match place {
                Place::Span => found,
                _ => owners(rows, *place, &found)?,
            }
        }
        Node::Spans(filter) => return rows.ask_spans(filter, of),
    };
    found.and(of);
    Ok(found)
}

/// The spans that have one of these events or links.
fn owners<R: Rows>(rows: &R, place: Place, children: &Bits) -> Result<Bits, ReadError> {
    let mut spans = Bits::none(rows.rows(Place::Span));
    if children.is_empty() {
        return Ok(spans);
    }
    let counts = rows.counts(place)?;
    let (mut span, mut end) = (0, 0);
    for child in children.iter() {
        while end <= child && span < counts.len() {
            end += counts[span] as usize;
            span += 1;
        }
        if child < end {
            spans.set(span - 1);
        }
    }
    Ok(spans)
}

/// The rows of a table of which a value passes.
fn column_rows<R: Rows>(
    rows: &R,
    place: Place,
    column: usize,
    test: &ColumnTest,
) -> Result<Bits, ReadError> {
    let occurrences = rows.occurrences(place, column)?;
    let has = |shape: u32| occurrences.get(shape as usize).copied().unwrap_or_default();
    let len = rows.rows(place);
    let shapes = rows.shapes(place)?;
    if let ColumnTest::Exists = test {
        return Ok(match shapes {
            [] if has(0) > 0 => Bits::all(len),
            [] => Bits::none(len),
            shapes => Bits::of(shapes, |shape| has(shape) > 0),
        });
    }
    let mut found = Bits::none(len);
    // The values come in the order of the rows, so each hit is in the same row or further down.
    let (mut row, mut end) = (0, 0);
    let mut hit = |value: usize| {
        while end <= value && row < len {
            end += has(shapes.get(row).copied().unwrap_or_default()) as usize;
            row += 1;
        }
        if value < end {
            found.set(row - 1);
        }
    };
    let values = rows.values(place, column)?;
    match (test, values) {
        (ColumnTest::Codes(CodeSet::One(one)), Values::Codes(codes)) => {
            each(codes, |code| code == *one, &mut hit);
        }
        (ColumnTest::Codes(set), Values::Codes(codes)) => {
            each(codes, |code| set.has(code), &mut hit);
        }
        (ColumnTest::Bools { yes, no }, Values::Codes(codes)) => {
            each(codes, |code| if code != 0 { *yes } else { *no }, &mut hit);
        }
        (ColumnTest::Bools { yes, no }, Values::Bools(bools)) => {
            each(bools, |bool| if bool != 0 { *yes } else { *no }, &mut hit);
        }
        (ColumnTest::Ints(test), Values::Numbers(numbers, mask)) => {
            each(
                numbers,
                |number| test.passes((number ^ mask) as i64),
                &mut hit,
            );
        }
        (ColumnTest::Doubles(test), Values::Numbers(numbers, _)) => {
            let passes = |bits| test.passes(Scalar::Double(f64::from_bits(bits)));
            each(numbers, passes, &mut hit);
        }
        (ColumnTest::Texts(test), Values::Strings(count, get)) => {
            for value in 0..count {
                if test.passes_bytes(get(value)?) {
                    hit(value);
                }
            }
        }
        (ColumnTest::Lists { key, test }, Values::Strings(count, get)) => {
            for value in 0..count {
                let Some(list) = read_attributes(get(value)?) else {
                    return Err(ReadError::damaged(
                        "a list of attributes",
                        "it makes no sense",
                    ));
                };
                if any(&list, key, test.as_ref()) {
                    hit(value);
                }
            }
        }
        (_, _) => {}
    }
    Ok(found)
}

#[inline]
fn each<T: Copy>(values: &[T], passes: impl Fn(T) -> bool, hit: &mut impl FnMut(usize)) {
    for (at, value) in values.iter().enumerate() {
        if passes(*value) {
            hit(at);
        }
    }
}
