//! Values.

use std::fmt;

use super::parse::ParseError;
use super::scan::{Scanner, is_value};
use super::words;
use crate::{Comparison, Field, Literal, Pattern, Relation, SpanFilter, TraceField};

/// Units of durations, in nanoseconds, the largest first; only those above `µs` are shown.
const UNITS: [(&str, i128); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("µs", 1_000),
];

/// Whether bare numbers behind the field are taken for integers.
fn is_number(field: &Field) -> bool {
    matches!(
        field,
        Field::Relatives { .. } | Field::Trace(TraceField::Spans)
    )
}

/// Whether the field's values are all text, so that bare words need no guess.
fn is_text(field: &Field) -> bool {
    match field {
        Field::Intrinsic(_) => !field.is_duration(),
        Field::Trace(field) => matches!(field, TraceField::RootService | TraceField::RootName),
        Field::Attribute { .. } | Field::Relatives { .. } => false,
    }
}

/// Reads what stands behind an operator.
pub(super) fn condition(
    scanner: &mut Scanner<'_>,
    field: Field,
    comparison: Comparison,
) -> Result<SpanFilter, ParseError> {
    scanner.skip_space();
    let start = scanner.at();
    let quoted = scanner.string()?;
    if matches!(comparison, Comparison::Matches | Comparison::NotMatches) {
        let text = match quoted {
            Some(text) => text,
            None => word(scanner)?.to_owned(),
        };
        let pattern =
            Pattern::new(&text).map_err(|error| scanner.error(start, error.to_string()))?;
        return Ok(compare(field, comparison, Literal::Pattern(pattern)));
    }
    if let Some(text) = quoted {
        return Ok(compare(field, comparison, Literal::String(text)));
    }
    let word = word(scanner)?;
    if word == "untyped:"
        && let Some(text) = scanner.string()?
    {
        return Ok(compare(field, comparison, Literal::Untyped(text)));
    }
    if let Some((kind, text)) = word.split_once(':')
        && let Some(typed) = typed(kind, text)
    {
        let wrong = || scanner.error(start, format!("'{text}' is no {kind}"));
        return Ok(compare(field, comparison, typed.ok_or_else(wrong)?));
    }
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if field.is_duration() {
        let nano = nanos(word).ok_or_else(|| {
            scanner.error(
                start,
                format!("'{word}' is no duration: write 200ms or 1.5s"),
            )
        })?;
        return Ok(compare(field, comparison, Literal::Int(nano)));
    }
    if is_number(&field) {
        let number = word
            .parse()
            .map_err(|_| scanner.error(start, format!("'{word}' is no number")))?;
        return Ok(compare(field, comparison, Literal::Int(number)));
    }
    if is_equality && word.contains('*') {
        return wildcard(field, comparison, word).map_err(|error| scanner.error(start, error));
    }
    if let Some(choices) = words::choices(&field)
        && !choices.contains(&word)
    {
        let choices = choices.join(", ");
        return Err(scanner.error(start, format!("expected one of {choices}")));
    }
    let literal = if is_text(&field) {
        Literal::String(word.to_owned())
    } else {
        Literal::Untyped(word.to_owned())
    };
    Ok(compare(field, comparison, literal))
}

fn compare(field: Field, comparison: Comparison, literal: Literal) -> SpanFilter {
    SpanFilter::Compare {
        field,
        comparison,
        literal,
    }
}

fn word<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, ParseError> {
    let start = scanner.at();
    let word = scanner.take_while(is_value);
    if word.is_empty() {
        return Err(scanner.error(
            start,
            "expected a value, in quotes if it has spaces or braces",
        ));
    }
    Ok(word)
}

/// The literal that is typed; `None` inside if the text is none of that type.
fn typed(kind: &str, text: &str) -> Option<Option<Literal>> {
    match kind {
        "int" => Some(text.parse().map(Literal::Int).ok()),
        "double" => Some(text.parse().map(Literal::Double).ok()),
        "bool" => Some(text.parse().map(Literal::Bool).ok()),
        _ => None,
    }
}

/// `*` alone asks for the field.
fn wildcard(field: Field, comparison: Comparison, word: &str) -> Result<SpanFilter, String> {
    let equal = comparison == Comparison::Equal;
    if word.bytes().all(|byte| byte == b'*') {
        let exists = SpanFilter::Exists(field);
        return Ok(if equal {
            exists
        } else {
            SpanFilter::Not(Box::new(exists))
        });
    }
    let pattern = Pattern::wildcard(word).map_err(|error| error.to_string())?;
    let comparison = if equal {
        Comparison::Matches
    } else {
        Comparison::NotMatches
    };
    Ok(compare(field, comparison, Literal::Pattern(pattern)))
}

/// `1.5s`, `1h30m`, `-2ms`.
fn nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut sum = 0_i128;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let unit_end = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole: i128 = whole.parse::<u64>().ok()?.into();
        if fraction.is_empty() || fraction.len() > 12 {
            return None;
        }
        let part: i128 = fraction.parse::<u64>().ok()?.into();
        sum += whole * unit + part * unit / 10_i128.pow(fraction.len() as u32);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    i64::try_from(if negative { -sum } else { sum }).ok()
}

/// A literal as [`condition`] reads it behind this field.
pub(super) struct Shown<'a>(pub(super) &'a Field, pub(super) &'a Literal);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(field, literal) = self;
        match literal {
            Literal::String(text) if is_text(field) && is_bare(field, text) => f.write_str(text),
            Literal::String(text) => write!(f, "{}", Quoted(text)),
            Literal::Pattern(pattern) => write!(f, "{}", Quoted(pattern.as_str())),
            Literal::Untyped(text) if !is_text(field) && is_bare(field, text) => f.write_str(text),
            Literal::Untyped(text) => write!(f, "untyped:{}", Quoted(text)),
            Literal::Int(number) if field.is_duration() => {
                let number = i128::from(*number);
                let fits = |unit: &&(&str, i128)| number % unit.1 == 0;
                // Every number is a whole one of nanoseconds.
                let (name, unit) = UNITS[2..6].iter().find(fits).unwrap_or(&UNITS[5]);
                write!(f, "{}{name}", number / unit)
            }
            Literal::Int(number) if is_number(field) => write!(f, "{number}"),
            Literal::Int(number) => write!(f, "int:{number}"),
            Literal::Double(number) => write!(f, "double:{number:?}"),
            Literal::Bool(value) => write!(f, "bool:{value}"),
        }
    }
}

fn is_bare(field: &Field, text: &str) -> bool {
    let typed = ["int:", "double:", "bool:", "untyped:"];
    !text.is_empty()
        && text.chars().all(|c| is_value(c) && c != '*')
        && !text.starts_with(['~', '=', '!', '<', '>'])
        && !typed.iter().any(|kind| text.starts_with(kind))
        && !field.is_duration()
        && !is_number(field)
        && words::choices(field).is_none_or(|choices| choices.contains(&text))
}

/// A text in quotes, as [`Scanner::string`] reads it.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for part in self.0.split_inclusive(['"', '\\']) {
            match part.strip_suffix(['"', '\\']) {
                Some(before) => write!(f, "{before}\\{}", &part[before.len()..])?,
                None => f.write_str(part)?,
            }
        }
        f.write_str("\"")
    }
}

/// The signs between `{…}` and `{…}`, the longer ones first, and what the left one is to the right.
pub(super) const STRUCTURE: [(&str, Relation); 5] = [
    (">>", Relation::Ancestor),
    ("<<", Relation::Descendant),
    (">", Relation::Parent),
    ("<", Relation::Child),
    ("~", Relation::Sibling),
];
