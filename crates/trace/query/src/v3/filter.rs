//! What Jaeger's structured filter means as a query of ours.

mod reference;

use periplus_store::{Comparison, Field, Literal, Pattern, Relation, SpanFilter};

use self::reference::{Kind, Reference};
use super::Problem;
use super::expression::{Call, Expression, NestedReference, Term};

/// What a call says about one span.
pub(super) fn span_filter(call: &Call) -> Result<SpanFilter, Problem> {
    match call.op.as_str() {
        "and" => Ok(SpanFilter::And(predicates(call)?)),
        "or" => Ok(SpanFilter::Or(predicates(call)?)),
        "not" => match call.args.as_slice() {
            [predicate] => {
                let predicate = span_filter(as_call(predicate, call)?)?;
                Ok(SpanFilter::Not(Box::new(predicate)))
            }
            args => Err(wrong_operands(call, args.len(), "one predicate")),
        },
        "some" => some(call),
        "exists" => match call.args.as_slice() {
            [operand] => Ok(Reference::of(operand, call)?.exists()),
            args => Err(wrong_operands(call, args.len(), "one reference")),
        },
        "eq" => comparison(call, Comparison::Equal),
        "ne" => comparison(call, Comparison::NotEqual),
        "gt" => comparison(call, Comparison::Greater),
        "gte" => comparison(call, Comparison::GreaterOrEqual),
        "lt" => comparison(call, Comparison::Less),
        "lte" => comparison(call, Comparison::LessOrEqual),
        "regex" => regex(call),
        "in" => Ok(any_of(call)?.1),
        "not_in" => {
            let (reference, any) = any_of(call)?;
            Ok(present_but_not(&reference, any))
        }
        op => Err(unsupported(format!("operator '{op}'"))),
    }
}

fn unsupported(what: impl std::fmt::Display) -> Problem {
    Problem::Unsupported(format!(
        "query.filter: {what} is not supported by this store"
    ))
}

fn invalid(what: impl std::fmt::Display) -> Problem {
    Problem::Invalid(format!("malformed parameter query.filter: {what}"))
}

fn wrong_operands(call: &Call, found: usize, wanted: &str) -> Problem {
    invalid(format!(
        "'{}' takes {wanted}, not {found} operands",
        call.op
    ))
}

fn predicates(call: &Call) -> Result<Vec<SpanFilter>, Problem> {
    if call.args.is_empty() {
        return Err(wrong_operands(call, 0, "predicates"));
    }
    call.args
        .iter()
        .map(|argument| span_filter(as_call(argument, call)?))
        .collect()
}

fn as_call<'a>(argument: &'a Expression, of: &Call) -> Result<&'a Call, Problem> {
    match &argument.term {
        Some(Term::Call(call)) => Ok(call),
        _ => Err(invalid(format!("an operand of '{}' is no call", of.op))),
    }
}

/// A negated comparison holds where there is a value and none matches.
fn present_but_not(reference: &Reference, matching: SpanFilter) -> SpanFilter {
    SpanFilter::And(vec![
        reference.exists(),
        SpanFilter::Not(Box::new(matching)),
    ])
}

fn comparison(call: &Call, comparison: Comparison) -> Result<SpanFilter, Problem> {
    let [left, right] = call.args.as_slice() else {
        return Err(wrong_operands(call, call.args.len(), "two operands"));
    };
    let (reference, constant, comparison) = match (&left.term, &right.term) {
        (_, Some(Term::Scalar(constant))) if !matches!(left.term, Some(Term::Scalar(_))) => {
            (left, constant, comparison)
        }
        (Some(Term::Scalar(constant)), Some(Term::Attr(_) | Term::Field(_))) => {
            (right, constant, reversed(comparison))
        }
        (Some(Term::Scalar(_)), Some(Term::Scalar(_))) => {
            return Err(unsupported(format!("'{}' of two constants", call.op)));
        }
        (Some(Term::Attr(_) | Term::Field(_)), Some(Term::Attr(_) | Term::Field(_))) => {
            return Err(unsupported(format!("'{}' of two references", call.op)));
        }
        _ => {
            return Err(invalid(format!(
                "'{}' compares an attribute or a field with a scalar",
                call.op
            )));
        }
    };
    let reference = Reference::of(reference, call)?;
    let literal = reference.literal(&constant.value, &constant.r#type)?;
    match comparison {
        Comparison::Equal => Ok(reference.compares(comparison, &literal)),
        Comparison::NotEqual => {
            let equal = reference.compares(Comparison::Equal, &literal);
            Ok(present_but_not(&reference, equal))
        }
        _ if matches!(reference.kind, Kind::Word(_)) || matches!(literal, Literal::Bool(_)) => Err(
            invalid(format!("the values of '{}' have no order", reference.name)),
        ),
        _ => Ok(reference.compares(comparison, &literal)),
    }
}

fn reversed(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        other => other,
    }
}

/// RE2, anywhere in the text.
fn regex(call: &Call) -> Result<SpanFilter, Problem> {
    let [subject, pattern] = call.args.as_slice() else {
        return Err(wrong_operands(
            call,
            call.args.len(),
            "a reference and a string",
        ));
    };
    let Some(Term::Scalar(constant)) = &pattern.term else {
        return Err(invalid("'regex' wants a string as its second operand"));
    };
    let reference = Reference::of(subject, call)?;
    if matches!(reference.kind, Kind::Duration | Kind::Id(_)) {
        return Err(invalid(format!("'{}' is no text to match", reference.name)));
    }
    if !matches!(constant.r#type.as_str(), "" | "string") {
        return Err(invalid("'regex' wants a string as its second operand"));
    }
    // By itself first, so that an error shows what was sent.
    Pattern::new(&constant.value).map_err(invalid)?;
    let anywhere = format!("(?s:.*)(?:{})(?s:.*)", constant.value);
    let pattern = Pattern::new(&anywhere).map_err(invalid)?;
    Ok(reference.compares(Comparison::Matches, &Literal::Pattern(pattern)))
}

/// The reference of a membership, and that its value is one of the list's.
fn any_of(call: &Call) -> Result<(Reference, SpanFilter), Problem> {
    let [subject, list] = call.args.as_slice() else {
        return Err(wrong_operands(
            call,
            call.args.len(),
            "a reference and a list",
        ));
    };
    let Some(Term::List(list)) = &list.term else {
        return Err(invalid(format!(
            "'{}' wants a list as its second operand",
            call.op
        )));
    };
    let reference = Reference::of(subject, call)?;
    let one_of = list
        .values
        .iter()
        .map(|value| {
            let literal = reference.literal(value, &list.r#type)?;
            Ok(reference.compares(Comparison::Equal, &literal))
        })
        .collect::<Result<_, Problem>>()?;
    Ok((reference, SpanFilter::Or(one_of)))
}

/// That one event, or one link, satisfies a predicate.
fn some(call: &Call) -> Result<SpanFilter, Problem> {
    let [collection, predicate] = call.args.as_slice() else {
        let wanted = "a collection and a predicate";
        return Err(wrong_operands(call, call.args.len(), wanted));
    };
    let Some(Term::Nested(NestedReference { level })) = &collection.term else {
        return Err(invalid(
            "'some' wants a nested reference as its first operand",
        ));
    };
    let relation = match level.as_str() {
        "event" => Relation::Event,
        "link" => Relation::Link,
        _ => {
            return Err(invalid(format!(
                "'some' speaks of the level event or link, not of '{level}'"
            )));
        }
    };
    let predicate = as_call(predicate, call)?;
    within(predicate, level)?;
    let filter = span_filter(predicate)?;
    // A condition of ours looks at all events by itself, so one that stands alone needs no more.
    Ok(match is_alternatives(&filter) {
        true => filter,
        false => SpanFilter::Exists(Field::relatives(relation, filter)),
    })
}

/// Whether it is one condition, or one of several.
fn is_alternatives(filter: &SpanFilter) -> bool {
    match filter {
        SpanFilter::Exists(_) | SpanFilter::Compare { .. } => true,
        SpanFilter::Or(filters) => filters.iter().all(is_alternatives),
        SpanFilter::True | SpanFilter::And(_) | SpanFilter::Not(_) => false,
    }
}

/// Whether everything in the call refers to the level.
fn within(call: &Call, level: &str) -> Result<(), Problem> {
    for argument in &call.args {
        let is_within = match &argument.term {
            Some(Term::Attr(attribute)) => attribute.level == level,
            Some(Term::Field(field)) => field.level == level,
            Some(Term::Nested(_)) => false,
            Some(Term::Call(inner)) => {
                within(inner, level)?;
                true
            }
            _ => true,
        };
        if !is_within {
            return Err(invalid(format!(
                "a predicate inside of 'some' may only refer to the level '{level}'"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
