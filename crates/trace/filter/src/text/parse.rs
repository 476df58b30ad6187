use thiserror::Error;

use super::literal::{STRUCTURE, condition};
use super::scan::{Scanner, is_key};
use super::words;
use crate::{Comparison, Field, MAX_DEPTH, SpanFilter, TraceFilter};

/// The longest line, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// What is wrong with a line, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}, at character {}", at + 1)]
pub struct ParseError {
    /// Where, in characters from the start.
    pub at: usize,
    /// What is wrong there, or what was expected.
    pub message: String,
}

/// Operators, the longer ones first.
const OPERATORS: [(&str, Comparison); 9] = [
    ("=~", Comparison::Matches),
    ("!~", Comparison::NotMatches),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("~", Comparison::Matches),
];

/// A part of a line, before it is known whether it is about one span or several.
#[derive(Debug)]
enum Node {
    /// About the span that the braces around it, or the line, mean.
    Condition(SpanFilter),
    /// `{…}`: some span.
    Span(SpanFilter),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
}

/// Reads a query line; an empty one is every trace.
pub fn parse(line: &str) -> Result<TraceFilter, ParseError> {
    let mut scanner = Scanner::new(line);
    if line.len() > MAX_BYTES {
        return Err(scanner.error(0, format!("more than {MAX_BYTES} bytes")));
    }
    let node = any_of(&mut scanner, MAX_DEPTH)?;
    if !scanner.is_at_end() {
        return Err(scanner.error(scanner.at(), "nothing is open that this could close"));
    }
    let filter = node.into_trace();
    let invalid = |error: crate::InvalidFilter| scanner.error(0, error.to_string());
    filter.check().map_err(invalid)?;
    Ok(filter)
}

/// Alternatives.
fn any_of(scanner: &mut Scanner<'_>, depth: usize) -> Result<Node, ParseError> {
    let depth = deeper(scanner, depth)?;
    let mut nodes = vec![all_of(scanner, depth)?];
    while scanner.take_word("OR") {
        nodes.push(all_of(scanner, depth)?);
        let start = scanner.at();
        if matches!(nodes.last(), Some(Node::And(all)) if all.is_empty()) {
            return Err(scanner.error(start, "expected a condition behind OR"));
        }
    }
    Ok(one_or(nodes, Node::Or))
}

/// Terms side by side; none is everything.
fn all_of(scanner: &mut Scanner<'_>, depth: usize) -> Result<Node, ParseError> {
    let mut nodes = Vec::new();
    loop {
        scanner.skip_space();
        let start = scanner.at();
        if scanner.is_at_end() || matches!(scanner.peek(), Some(')' | '}')) {
            break;
        }
        if scanner.take_word("OR") {
            if nodes.is_empty() {
                return Err(scanner.error(start, "expected a condition before OR"));
            }
            scanner.go_back(start);
            break;
        }
        if scanner.take_word("AND") {
            scanner.skip_space();
            let behind = scanner.peek();
            if nodes.is_empty() || matches!(behind, None | Some(')' | '}')) {
                return Err(scanner.error(start, "expected a condition on either side of AND"));
            }
            continue;
        }
        nodes.push(term(scanner, depth, false)?);
    }
    Ok(one_or(nodes, Node::And))
}

fn one_or(mut nodes: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        last => {
            nodes.extend(last);
            join(nodes)
        }
    }
}

/// The parts, each that is joined in the same way replaced by its own: parentheses there change nothing.
fn flat<T>(parts: Vec<T>, same: fn(T) -> Result<Vec<T>, T>) -> Vec<T> {
    let parts = parts.into_iter();
    parts
        .flat_map(|part| same(part).unwrap_or_else(|other| vec![other]))
        .collect()
}

/// One term; of a negated one, a key alone means that it is there.
fn term(scanner: &mut Scanner<'_>, depth: usize, negated: bool) -> Result<Node, ParseError> {
    let depth = deeper(scanner, depth)?;
    scanner.skip_space();
    let start = scanner.at();
    if scanner.take("!") || scanner.take("-") || scanner.take_word("NOT") {
        return Ok(Node::Not(Box::new(term(scanner, depth, true)?)));
    }
    if scanner.take("(") {
        let node = any_of(scanner, depth)?;
        close(scanner, start, ")")?;
        return Ok(node);
    }
    if scanner.peek() == Some('{') {
        return span(scanner, depth);
    }
    if scanner.take_word("*") {
        return Ok(Node::Condition(SpanFilter::True));
    }
    let filter = span_condition(scanner, depth, negated)?;
    Ok(Node::Condition(filter))
}

/// `{…}`, and what it is to other ones: `{…} >> {…}`.
fn span(scanner: &mut Scanner<'_>, depth: usize) -> Result<Node, ParseError> {
    let mut filter = in_braces(scanner, depth)?;
    let mut depth = depth;
    loop {
        let end = scanner.at();
        scanner.skip_space();
        let none = scanner.take("!");
        let sign = STRUCTURE.iter().find(|(sign, _)| scanner.take(sign));
        scanner.skip_space();
        let Some((_, relation)) = sign.filter(|_| scanner.peek() == Some('{')) else {
            scanner.go_back(end);
            return Ok(Node::Span(filter));
        };
        depth = deeper(scanner, depth)?;
        let mut related = SpanFilter::Exists(Field::relatives(*relation, filter));
        if none {
            related = SpanFilter::Not(Box::new(related));
        }
        filter = SpanFilter::And(vec![in_braces(scanner, depth)?, related]);
    }
}

fn in_braces(scanner: &mut Scanner<'_>, depth: usize) -> Result<SpanFilter, ParseError> {
    let start = scanner.at();
    if !scanner.take("{") {
        return Err(scanner.error(start, "expected {"));
    }
    let node = any_of(scanner, depth)?;
    close(scanner, start, "}")?;
    node.into_span().ok_or_else(|| {
        let hint = "a span holds no other one: use parent{…}, child{…}, ancestor{…}, \
                    descendant{…}, sibling{…} or trace{…}";
        scanner.error(start, hint)
    })
}

fn span_condition(
    scanner: &mut Scanner<'_>,
    depth: usize,
    negated: bool,
) -> Result<SpanFilter, ParseError> {
    let start = scanner.at();
    let word = scanner.take_while(is_key);
    if scanner.peek() == Some('{') {
        let Some(relation) = words::relation(word) else {
            let hint = "expected parent, child, ancestor, descendant, sibling, trace, event or link before {";
            return Err(scanner.error(start, hint));
        };
        let field = Field::relatives(relation, in_braces(scanner, depth)?);
        return match operator(scanner) {
            Some(comparison) => condition(scanner, field, comparison),
            None => Ok(SpanFilter::Exists(field)),
        };
    }
    let quoted = scanner.string()?;
    let field = match quoted {
        Some(key) => {
            let scope = word.strip_suffix('.').and_then(words::scope);
            let wrong = "expected . or a scope such as span. before a quoted key";
            let scope = scope.ok_or_else(|| scanner.error(start, wrong))?;
            words::attribute(scope, &key)
        }
        None if word.is_empty() => return Err(scanner.error(start, "expected a condition")),
        None => {
            // `service:checkout`
            if let Some((name, _)) = word.split_once(':')
                && let Some(field) = words::plain(name)
            {
                scanner.go_back(start + name.len() + 1);
                return condition(scanner, field, Comparison::Equal);
            }
            let flag = match word {
                "error" => error_flag(scanner),
                "root" => is_alone(scanner).then(words::root),
                _ => None,
            };
            if let Some(flag) = flag {
                return Ok(flag);
            }
            words::field(word)
        }
    };
    if scanner.take("?") {
        return Ok(SpanFilter::Exists(field));
    }
    match operator(scanner) {
        Some(comparison) => condition(scanner, field, comparison),
        None if negated => Ok(SpanFilter::Exists(field)),
        None => {
            let hint =
                "expected an operator such as = or >= behind the key, or ? to ask for the key";
            Err(scanner.error(scanner.at(), hint))
        }
    }
}

/// `error`, `error=true` or `error=false`; nothing if it is an attribute like others.
fn error_flag(scanner: &mut Scanner<'_>) -> Option<SpanFilter> {
    if is_alone(scanner) {
        return Some(words::failed());
    }
    let start = scanner.at();
    if operator(scanner) == Some(Comparison::Equal) {
        scanner.skip_space();
        if scanner.take_word("true") {
            return Some(words::failed());
        }
        if scanner.take_word("false") {
            return Some(SpanFilter::Not(Box::new(words::failed())));
        }
    }
    scanner.go_back(start);
    None
}

/// Whether neither an operator nor `?` follows.
fn is_alone(scanner: &Scanner<'_>) -> bool {
    let mut ahead = scanner.clone();
    ahead.peek() != Some('?') && operator(&mut ahead).is_none()
}

fn operator(scanner: &mut Scanner<'_>) -> Option<Comparison> {
    let start = scanner.at();
    scanner.skip_space();
    if scanner.take_word("contains") {
        return Some(Comparison::Contains);
    }
    let found = OPERATORS.iter().find(|(sign, _)| scanner.take(sign));
    if found.is_none() {
        scanner.go_back(start);
    }
    found.map(|(_, comparison)| *comparison)
}

fn close(scanner: &mut Scanner<'_>, start: usize, sign: &str) -> Result<(), ParseError> {
    if scanner.take(sign) {
        return Ok(());
    }
    Err(scanner.error(start, format!("this is not closed by {sign}")))
}

fn deeper(scanner: &Scanner<'_>, depth: usize) -> Result<usize, ParseError> {
    depth.checked_sub(1).ok_or_else(|| {
        scanner.error(
            scanner.at(),
            format!("nested more than {MAX_DEPTH} levels deep"),
        )
    })
}

impl Node {
    fn has_spans(&self) -> bool {
        match self {
            Self::Condition(_) => false,
            Self::Span(_) => true,
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(Self::has_spans),
            Self::Not(node) => node.has_spans(),
        }
    }

    /// As a formula about one span; `None` if it holds braces.
    fn into_span(self) -> Option<SpanFilter> {
        let all = |nodes: Vec<Self>| {
            let filters = nodes.into_iter().map(Self::into_span);
            filters.collect::<Option<Vec<_>>>()
        };
        Some(match self {
            Self::Condition(filter) => filter,
            Self::Span(_) => return None,
            Self::And(nodes) if nodes.is_empty() => SpanFilter::True,
            Self::And(nodes) => SpanFilter::And(flat(all(nodes)?, |part| match part {
                SpanFilter::And(parts) => Ok(parts),
                other => Err(other),
            })),
            Self::Or(nodes) => SpanFilter::Or(flat(all(nodes)?, |part| match part {
                SpanFilter::Or(parts) => Ok(parts),
                other => Err(other),
            })),
            Self::Not(node) => SpanFilter::Not(Box::new(node.into_span()?)),
        })
    }

    fn into_trace(self) -> TraceFilter {
        if !self.has_spans() {
            // Without braces there is nothing that could fail.
            return TraceFilter::AnySpan(self.into_span().unwrap_or(SpanFilter::True));
        }
        let traces = |nodes: Vec<Self>| nodes.into_iter().map(Self::into_trace).collect();
        match self {
            Self::Condition(filter) | Self::Span(filter) => TraceFilter::AnySpan(filter),
            Self::And(nodes) => {
                let (mut spans, conditions): (Vec<_>, Vec<_>) =
                    nodes.into_iter().partition(Self::has_spans);
                if !conditions.is_empty() {
                    spans.push(one_or(conditions, Self::And));
                }
                TraceFilter::And(flat(traces(spans), |part| match part {
                    TraceFilter::And(parts) => Ok(parts),
                    other => Err(other),
                }))
            }
            Self::Or(nodes) => TraceFilter::Or(flat(traces(nodes), |part| match part {
                TraceFilter::Or(parts) => Ok(parts),
                other => Err(other),
            })),
            Self::Not(node) => TraceFilter::Not(Box::new(node.into_trace())),
        }
    }
}
