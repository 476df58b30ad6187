use std::cmp::Ordering;

use periplus_model::Value;

use crate::{Comparison, Literal};

/// A value that compares with literals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Text.
    Text(&'a str),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// True or false.
    Bool(bool),
}

impl<'a> Scalar<'a> {
    /// Bytes, lists and maps compare with nothing.
    pub fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(v) => Some(Self::Text(v)),
            Value::Int(v) => Some(Self::Int(*v)),
            Value::Double(v) => Some(Self::Double(*v)),
            Value::Bool(v) => Some(Self::Bool(*v)),
            Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => None,
        }
    }

    /// Whether the comparison with the literal holds: false where the types have no order.
    pub fn compares(self, comparison: Comparison, literal: &Literal) -> bool {
        match (comparison, self, literal) {
            (
                Comparison::Contains,
                Self::Text(text),
                Literal::String(part) | Literal::Untyped(part),
            ) => text.contains(part.as_str()),
            (Comparison::Contains, ..) => false,
            (Comparison::Matches, Self::Text(text), Literal::Pattern(pattern)) => {
                pattern.is_match(text)
            }
            (Comparison::NotMatches, Self::Text(text), Literal::Pattern(pattern)) => {
                !pattern.is_match(text)
            }
            (Comparison::Matches | Comparison::NotMatches, ..) => false,
            (Comparison::Equal, _, Literal::Untyped(text)) => self.is_written(text),
            (Comparison::NotEqual, _, Literal::Untyped(text)) => !self.is_written(text),
            // Booleans have no order.
            (Comparison::Equal, Self::Bool(value), Literal::Bool(literal)) => value == *literal,
            (Comparison::NotEqual, Self::Bool(value), Literal::Bool(literal)) => value != *literal,
            _ => self
                .order(literal)
                .is_some_and(|order| satisfies(order, comparison)),
        }
    }

    /// Whether this is what the text says, if the text is taken for a value of this type.
    fn is_written(self, text: &str) -> bool {
        match self {
            Self::Text(value) => value == text,
            Self::Int(value) => text.parse() == Ok(value),
            Self::Double(value) => text.parse() == Ok(value),
            Self::Bool(value) => text == if value { "true" } else { "false" },
        }
    }

    fn order(self, literal: &Literal) -> Option<Ordering> {
        match (self, literal) {
            (Self::Text(value), Literal::String(text) | Literal::Untyped(text)) => {
                Some(value.cmp(text))
            }
            (Self::Int(value), Literal::Int(number)) => Some(value.cmp(number)),
            (Self::Int(value), Literal::Double(number)) => order_int_double(value, *number),
            (Self::Double(value), Literal::Int(number)) => {
                order_int_double(*number, value).map(Ordering::reverse)
            }
            (Self::Double(value), Literal::Double(number)) => value.partial_cmp(number),
            (Self::Int(_) | Self::Double(_), Literal::Untyped(text)) => {
                let number = match text.parse() {
                    Ok(number) => Literal::Int(number),
                    Err(_) => Literal::Double(text.parse().ok()?),
                };
                self.order(&number)
            }
            _ => None,
        }
    }
}

fn satisfies(order: Ordering, comparison: Comparison) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Contains | Comparison::Matches | Comparison::NotMatches => false,
    }
}

/// Exact, also where the integer has more digits than a double can hold.
fn order_int_double(int: i64, double: f64) -> Option<Ordering> {
    // 2^63: the first double above every i64.
    const ABOVE: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= ABOVE {
        return Some(Ordering::Less);
    }
    if double < -ABOVE {
        return Some(Ordering::Greater);
    }
    let whole = double.trunc();
    let by_whole = int.cmp(&(whole as i64));
    Some(by_whole.then(0.0_f64.partial_cmp(&(double - whole))?))
}
