//! A filter in terms of columns and codes.

use periplus_filter::{Field, Intrinsic, Scalar, Scope as Where, SpanFilter};
use periplus_model::{Attribute, Resource, Scope, SpanKind, StatusCode};

use super::test::{CodeSet, IntTest, Test};
use crate::ReadError;
use crate::layout::Core;
use crate::schema::{Place, Type};

/// A filter, prepared for a builder or a segment.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    All,
    Nothing,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// A column of codes that every span has.
    Codes(Core, CodeSet),
    /// The duration in nanoseconds.
    Duration(IntTest),
    /// An attribute column.
    Column(Place, usize, ColumnTest),
    /// What has no column of its own is asked of whole spans.
    Spans(SpanFilter),
}

/// A condition on the values of an attribute column.
#[derive(Clone, Debug)]
pub(crate) enum ColumnTest {
    /// Some value is there.
    Exists,
    Codes(CodeSet),
    Texts(Test),
    Ints(IntTest),
    Doubles(Test),
    Bools {
        yes: bool,
        no: bool,
    },
    /// A list of attributes: one with this key passes.
    Lists {
        key: String,
        test: Option<Test>,
    },
}

/// What a builder or a segment knows about its columns.
pub(crate) trait Catalog {
    /// The codes of a core column whose strings pass.
    fn strings(&self, column: Core, test: &Test) -> Result<CodeSet, ReadError>;
    /// The codes of the resources that pass.
    fn resources(&self, passes: impl Fn(&Resource) -> bool) -> Result<CodeSet, ReadError>;
    /// The codes of the scopes that pass.
    fn scopes(&self, passes: impl Fn(&Scope) -> bool) -> Result<CodeSet, ReadError>;
    /// The columns with this key, and those of lists.
    fn columns(&self, place: Place, key: &str) -> Result<Vec<(usize, Type)>, ReadError>;
    /// The codes of a column's strings that pass; `None` if it has no dictionary.
    fn codes(&self, place: Place, column: usize, test: &Test)
    -> Result<Option<CodeSet>, ReadError>;
}

pub(crate) fn prepare(filter: &SpanFilter, of: &impl Catalog) -> Result<Node, ReadError> {
    Ok(match filter {
        SpanFilter::True => Node::All,
        SpanFilter::And(filters) => conjunction(each(filters, of)?),
        SpanFilter::Or(filters) => disjunction(each(filters, of)?),
        SpanFilter::Not(filter) => match prepare(filter, of)? {
            Node::All => Node::Nothing,
            Node::Nothing => Node::All,
            node => Node::Not(Box::new(node)),
        },
        SpanFilter::Exists(Field::Attribute { scope, key }) => attribute(*scope, key, None, of)?,
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => {
            let test = Test {
                comparison: *comparison,
                literal: literal.clone(),
            };
            match field {
                Field::Attribute { scope, key } => attribute(*scope, key, Some(&test), of)?,
                Field::Intrinsic(intrinsic) => intrinsic_test(*intrinsic, &test, filter, of)?,
                _ => Node::Spans(filter.clone()),
            }
        }
        SpanFilter::Exists(_) => Node::Spans(filter.clone()),
    })
}

fn each(filters: &[SpanFilter], of: &impl Catalog) -> Result<Vec<Node>, ReadError> {
    filters.iter().map(|filter| prepare(filter, of)).collect()
}

/// The cheap conditions first: they may leave nothing for the others.
fn conjunction(mut nodes: Vec<Node>) -> Node {
    if nodes.iter().any(|node| matches!(node, Node::Nothing)) {
        return Node::Nothing;
    }
    nodes.retain(|node| !matches!(node, Node::All));
    nodes.sort_by_key(Node::cost);
    match nodes.len() {
        0 => Node::All,
        1 => nodes.remove(0),
        _ => Node::And(nodes),
    }
}

fn disjunction(mut nodes: Vec<Node>) -> Node {
    if nodes.iter().any(|node| matches!(node, Node::All)) {
        return Node::All;
    }
    nodes.retain(|node| !matches!(node, Node::Nothing));
    nodes.sort_by_key(Node::cost);
    match nodes.len() {
        0 => Node::Nothing,
        1 => nodes.remove(0),
        _ => Node::Or(nodes),
    }
}

impl Node {
    /// What it costs to answer, roughly.
    fn cost(&self) -> u32 {
        match self {
            Self::All | Self::Nothing => 0,
            Self::Codes(..) => 1,
            Self::Duration(_) => 4,
            Self::Column(_, _, ColumnTest::Exists | ColumnTest::Codes(_)) => 3,
            Self::Column(_, _, ColumnTest::Ints(_) | ColumnTest::Bools { .. }) => 4,
            Self::Column(_, _, ColumnTest::Doubles(_)) => 8,
            Self::Column(_, _, ColumnTest::Texts(_)) => 30,
            Self::Column(_, _, ColumnTest::Lists { .. }) => 50,
            Self::Spans(_) => 10_000,
            Self::Not(node) => node.cost(),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().map(Self::cost).sum(),
        }
    }

    fn codes(column: Core, codes: CodeSet) -> Self {
        match codes {
            CodeSet::None => Self::Nothing,
            CodeSet::All => Self::All,
            codes => Self::Codes(column, codes),
        }
    }
}

fn intrinsic_test(
    intrinsic: Intrinsic,
    test: &Test,
    filter: &SpanFilter,
    of: &impl Catalog,
) -> Result<Node, ReadError> {
    let text = |text: &str| test.passes(Scalar::Text(text));
    Ok(match intrinsic {
        Intrinsic::Service => resources(of, |resource| text(resource.service_name()))?,
        Intrinsic::ScopeName => scopes(of, |scope| text(&scope.name))?,
        Intrinsic::ScopeVersion => scopes(of, |scope| text(&scope.version))?,
        Intrinsic::Name => Node::codes(Core::Name, of.strings(Core::Name, test)?),
        Intrinsic::StatusMessage => Node::codes(Core::Message, of.strings(Core::Message, test)?),
        Intrinsic::Kind => {
            kind_status(|code| text(SpanKind::from_number((code & 0xf) as i32).as_str()))?
        }
        Intrinsic::Status => kind_status(|code| {
            text(match StatusCode::from_number((code >> 4) as i32) {
                StatusCode::Unset => "unset",
                StatusCode::Ok => "ok",
                StatusCode::Error => "error",
            })
        })?,
        Intrinsic::Duration => match IntTest::of(test) {
            IntTest::Never => Node::Nothing,
            IntTest::Always => Node::All,
            test => Node::Duration(test),
        },
        _ => Node::Spans(filter.clone()),
    })
}

fn kind_status(passes: impl Fn(u32) -> bool) -> Result<Node, ReadError> {
    let codes = CodeSet::of(0x40, |code| Ok(passes(code)))?;
    Ok(Node::codes(Core::KindStatus, codes))
}

fn resources(of: &impl Catalog, passes: impl Fn(&Resource) -> bool) -> Result<Node, ReadError> {
    Ok(Node::codes(Core::Resource, of.resources(passes)?))
}

fn scopes(of: &impl Catalog, passes: impl Fn(&Scope) -> bool) -> Result<Node, ReadError> {
    Ok(Node::codes(Core::Scope, of.scopes(passes)?))
}

/// Whether an attribute with this key is there and passes.
pub(super) fn any(attributes: &[Attribute], key: &str, test: Option<&Test>) -> bool {
    let passes = |attribute: &Attribute| match test {
        None => true,
        Some(test) => Scalar::of(&attribute.value).is_some_and(|value| test.passes(value)),
    };
    (attributes.iter()).any(|attribute| attribute.key == key && passes(attribute))
}

fn attribute(
    scope: Where,
    key: &str,
    test: Option<&Test>,
    of: &impl Catalog,
) -> Result<Node, ReadError> {
    let mut nodes = Vec::new();
    if matches!(scope, Where::Any | Where::Resource) {
        nodes.push(resources(of, |resource| {
            any(&resource.attributes, key, test)
        })?);
    }
    if matches!(scope, Where::Any | Where::Instrumentation) {
        nodes.push(scopes(of, |scope| any(&scope.attributes, key, test))?);
    }
    for place in Place::ALL {
        if place.is_in(scope) {
            for (column, ty) in of.columns(place, key)? {
                nodes.push(column_test(place, column, ty, key, test, of)?);
            }
        }
    }
    Ok(disjunction(nodes))
}

fn column_test(
    place: Place,
    column: usize,
    ty: Type,
    key: &str,
    test: Option<&Test>,
    of: &impl Catalog,
) -> Result<Node, ReadError> {
    let node = |test| Node::Column(place, column, test);
    let test = match (ty, test) {
        (Type::Residual, test) => {
            return Ok(node(ColumnTest::Lists {
                key: key.to_owned(),
                test: test.cloned(),
            }));
        }
        (_, None) => return Ok(node(ColumnTest::Exists)),
        (_, Some(test)) => test,
    };
    Ok(match ty {
        Type::Text => match of.codes(place, column, test)? {
            Some(CodeSet::None) => Node::Nothing,
            Some(CodeSet::All) => node(ColumnTest::Exists),
            Some(codes) => node(ColumnTest::Codes(codes)),
            None => node(ColumnTest::Texts(test.clone())),
        },
        Type::Int => match IntTest::of(test) {
            IntTest::Never => Node::Nothing,
            IntTest::Always => node(ColumnTest::Exists),
            test => node(ColumnTest::Ints(test)),
        },
        Type::Double => node(ColumnTest::Doubles(test.clone())),
        Type::Bool => {
            let yes = test.passes(Scalar::Bool(true));
            let no = test.passes(Scalar::Bool(false));
            match (yes, no) {
                (false, false) => Node::Nothing,
                (true, true) => node(ColumnTest::Exists),
                _ => node(ColumnTest::Bools { yes, no }),
            }
        }
        // Bytes, lists and maps compare with nothing.
        _ => Node::Nothing,
    })
}
