//! Filters as text that [`super::parse()`] reads.

use std::fmt;

use super::literal::{Quoted, Shown};
use super::scan::is_key;
use super::words;
use crate::{Comparison, Field, SpanFilter, TraceFilter};

/// What a part stands in, which says whether it needs parentheses.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Inside {
    /// Alone, or in braces.
    Nothing,
    Or,
    And,
    Not,
}

impl fmt::Display for TraceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnySpan(filter) => write!(f, "{filter}"),
            _ => show_trace(self, Inside::Nothing, f),
        }
    }
}

impl fmt::Display for SpanFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_span(self, Inside::Nothing, f)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute { scope, key } => {
                let name = words::name_of_scope(*scope);
                let prefix = if name.is_empty() {
                    String::new()
                } else {
                    format!("{name}.")
                };
                let word = format!("{prefix}{key}");
                let bare = !key.is_empty() && word.chars().all(is_key);
                if bare && words::is_read_as(&word, self) {
                    f.write_str(&word)
                } else {
                    write!(f, "{name}.{}", Quoted(key))
                }
            }
            Self::Relatives { relation, filter } => {
                write!(f, "{}{{{filter}}}", words::name_of_relation(*relation))
            }
            Self::Intrinsic(_) | Self::Trace(_) => {
                f.write_str(words::name_of(self).unwrap_or_default())
            }
        }
    }
}

fn show_trace(filter: &TraceFilter, inside: Inside, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match filter {
        TraceFilter::AnySpan(filter) => write!(f, "{{{filter}}}"),
        TraceFilter::And(filters) => joined(filters, Inside::And, inside, "{*}", show_trace, f),
        TraceFilter::Or(filters) => joined(filters, Inside::Or, inside, "NOT {*}", show_trace, f),
        TraceFilter::Not(filter) => {
            f.write_str("NOT ")?;
            show_trace(filter, Inside::Not, f)
        }
    }
}

fn show_span(filter: &SpanFilter, inside: Inside, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match filter {
        SpanFilter::True => f.write_str("*"),
        SpanFilter::Exists(field) => show_exists(field, f),
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => {
            let space = if *comparison == Comparison::Contains {
                " "
            } else {
                ""
            };
            write!(
                f,
                "{field}{space}{comparison}{space}{}",
                Shown(field, literal)
            )
        }
        SpanFilter::And(filters) => joined(filters, Inside::And, inside, "*", show_span, f),
        SpanFilter::Or(filters) => joined(filters, Inside::Or, inside, "NOT *", show_span, f),
        SpanFilter::Not(filter) => {
            f.write_str("NOT ")?;
            show_span(filter, Inside::Not, f)
        }
    }
}

fn show_exists(field: &Field, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match field {
        Field::Relatives { .. } => write!(f, "{field}"),
        _ => write!(f, "{field}?"),
    }
}

/// Parts side by side or with `OR` between them, in parentheses where they would be torn apart.
fn joined<T>(
    parts: &[T],
    join: Inside,
    inside: Inside,
    none: &str,
    show: fn(&T, Inside, &mut fmt::Formatter<'_>) -> fmt::Result,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match parts {
        [] => return f.write_str(none),
        [one] => return show(one, inside, f),
        _ => {}
    }
    let parentheses = inside > join;
    if parentheses {
        f.write_str("(")?;
    }
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(if join == Inside::Or { " OR " } else { " " })?;
        }
        show(part, join, f)?;
    }
    if parentheses {
        f.write_str(")")?;
    }
    Ok(())
}
