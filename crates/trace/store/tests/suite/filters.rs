//! What each part of a query means.

use periplus_model::{Attribute, SpanKind, Status, StatusCode, Value};
use periplus_store::{Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TraceFilter};

use super::build::{
    Query, SECOND, Store, intrinsic_is, name_is, noon, service_is, span, tag_is, write,
};

pub(crate) async fn conditions_must_hold_on_one_span(store: Store) {
    write(
        &store,
        [
            span(1, "a", 1).named("x"),
            span(1, "b", 2).named("y").with("k", "v"),
            span(2, "a", 1).named("y").with("k", "v"),
        ],
    )
    .await;
    let same_span = SpanFilter::And(vec![service_is("a"), name_is("y"), tag_is("k", "v")]);
    assert_eq!(Query::from(same_span).ids(&store).await, [2]);
    let same_trace = [service_is("a"), name_is("y"), tag_is("k", "v")];
    let same_trace = TraceFilter::And(same_trace.map(TraceFilter::AnySpan).into());
    assert_eq!(Query::from(same_trace).ids(&store).await.len(), 2);
}

pub(crate) async fn formulas_over_traces(store: Store) {
    let at = |trace: u64, service| span(trace, service, 1).starting(noon() + trace);
    write(
        &store,
        [at(1, "a"), at(2, "b"), at(3, "c"), at(4, "a"), at(4, "b")],
    )
    .await;
    let any = |name| TraceFilter::AnySpan(service_is(name));
    let not = |filter| TraceFilter::Not(Box::new(filter));
    let cases: Vec<(TraceFilter, &[u64])> = vec![
        (TraceFilter::AnySpan(SpanFilter::True), &[4, 3, 2, 1]),
        (TraceFilter::And(vec![]), &[4, 3, 2, 1]),
        (TraceFilter::Or(vec![]), &[]),
        (any("a"), &[4, 1]),
        (any("nobody"), &[]),
        (TraceFilter::And(vec![any("a"), any("b")]), &[4]),
        (TraceFilter::Or(vec![any("a"), any("b")]), &[4, 2, 1]),
        (not(any("a")), &[3, 2]),
        (TraceFilter::And(vec![any("b"), not(any("a"))]), &[2]),
        (
            TraceFilter::AnySpan(SpanFilter::Or(vec![service_is("b"), service_is("c")])),
            &[4, 3, 2],
        ),
        (
            TraceFilter::AnySpan(SpanFilter::Not(Box::new(service_is("a")))),
            &[4, 3, 2],
        ),
    ];
    for (filter, expected) in cases {
        let shown = format!("{filter:?}");
        assert_eq!(Query::from(filter).ids(&store).await, expected, "{shown}");
    }
    // A trace outside of the range is not there at all, not even for a negation.
    let nobody = Query::from(not(any("a"))).between(noon() - SECOND, noon());
    assert_eq!(nobody.ids(&store).await, [0; 0]);
}

pub(crate) async fn literals_compare_by_type(store: Store) {
    use Comparison::{Contains, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let values = [
        (1, Value::from("500")),
        (2, Value::Int(500)),
        (3, Value::Double(500.0)),
        (4, Value::Bool(true)),
        (5, Value::from("true")),
        (6, Value::Double(72.5)),
        (7, Value::from("a500b")),
        (8, Value::Int((1 << 53) + 1)),
        (9, Value::Bytes(b"500".to_vec())),
        (10, Value::Array(vec![Value::Int(500)])),
        (11, Value::Map(vec![Attribute::new("500", 500_i64)])),
        (12, Value::Empty),
        (13, Value::Double(f64::NAN)),
    ];
    for (trace, value) in values {
        write(&store, [span(trace, "a", 1).with("k", value)]).await;
    }
    // Without the attribute.
    write(&store, [span(14, "a", 1)]).await;

    let text = |text: &str| Literal::String(text.to_owned());
    let untyped = |text: &str| Literal::Untyped(text.to_owned());
    let cases: Vec<(Comparison, Literal, &[u64])> = vec![
        (Equal, text("500"), &[1]),
        (Equal, text("true"), &[5]),
        (Equal, untyped("500"), &[1, 2, 3]),
        (Equal, untyped("true"), &[4, 5]),
        (Equal, untyped("True"), &[]),
        (Equal, untyped("72.5"), &[6]),
        (Equal, untyped("NaN"), &[]),
        (Equal, Literal::Int(500), &[2, 3]),
        (Equal, Literal::Double(500.0), &[2, 3]),
        (Equal, Literal::Bool(true), &[4]),
        (Equal, Literal::Bool(false), &[]),
        // 2^53 + 1 is no double; the nearest one differs.
        (Equal, Literal::Double((1_u64 << 53) as f64), &[]),
        (Greater, Literal::Double((1_u64 << 53) as f64), &[8]),
        (NotEqual, text("500"), &[5, 7]),
        (NotEqual, untyped("500"), &[4, 5, 6, 7, 8, 13]),
        (NotEqual, Literal::Int(500), &[6, 8]),
        (NotEqual, Literal::Bool(false), &[4]),
        (Less, Literal::Int(500), &[6]),
        (LessOrEqual, Literal::Double(500.0), &[2, 3, 6]),
        (Greater, Literal::Int(500), &[8]),
        (GreaterOrEqual, Literal::Int(500), &[2, 3, 8]),
        (Less, untyped("500"), &[6]),
        (LessOrEqual, untyped("500.0"), &[1, 2, 3, 6]),
        (Greater, text("500"), &[5, 7]),
        (Less, Literal::Bool(true), &[]),
        (Contains, text("50"), &[1, 7]),
        (Contains, untyped("0b"), &[7]),
        (Contains, text(""), &[1, 5, 7]),
        (Contains, Literal::Int(5), &[]),
    ];
    for (comparison, literal, expected) in cases {
        let filter = SpanFilter::Compare {
            field: attribute(Scope::Span, "k"),
            comparison,
            literal,
        };
        let shown = format!("{filter:?}");
        let mut found = Query::from(filter).ids(&store).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{shown}");
    }
    let exists = Query::from(SpanFilter::Exists(attribute(Scope::Any, "k")));
    assert_eq!(exists.ids(&store).await.len(), 13);
}

pub(crate) async fn intrinsics_compare(store: Store) {
    let draft = span(1, "a", 1)
        .named("GET /")
        .kind(SpanKind::Server)
        .lasting(5_000)
        .change(|draft| {
            draft.scope.name = "library".to_owned();
            draft.scope.version = "1.2".to_owned();
            draft.span.status = Status {
                code: StatusCode::Error,
                message: "broken".to_owned(),
            };
        });
    write(&store, [draft]).await;
    let duration = |comparison, nano| SpanFilter::Compare {
        field: Field::Intrinsic(Intrinsic::Duration),
        comparison,
        literal: Literal::Int(nano),
    };
    let cases = [
        (intrinsic_is(Intrinsic::Service, "a"), true),
        (intrinsic_is(Intrinsic::Service, "A"), false),
        (intrinsic_is(Intrinsic::Name, "GET /"), true),
        (intrinsic_is(Intrinsic::Kind, "server"), true),
        (intrinsic_is(Intrinsic::Kind, "client"), false),
        (intrinsic_is(Intrinsic::Status, "error"), true),
        (intrinsic_is(Intrinsic::Status, "unset"), false),
        (intrinsic_is(Intrinsic::StatusMessage, "broken"), true),
        (intrinsic_is(Intrinsic::ScopeName, "library"), true),
        (intrinsic_is(Intrinsic::ScopeVersion, "1.2"), true),
        (intrinsic_is(Intrinsic::Duration, "5000"), false),
        (duration(Comparison::Equal, 5_000), true),
        (duration(Comparison::Greater, 5_000), false),
        (
            SpanFilter::Exists(Field::Intrinsic(Intrinsic::StatusMessage)),
            true,
        ),
    ];
    for (filter, expected) in cases {
        let shown = format!("{filter:?}");
        let found = Query::from(filter).ids(&store).await;
        assert_eq!(!found.is_empty(), expected, "{shown}");
    }
}

pub(crate) async fn scopes_are_looked_at_separately(store: Store) {
    write(
        &store,
        [
            span(1, "a", 1).with("k", "v"),
            span(2, "a", 1).with_resource("k", "v"),
            span(3, "a", 1).with_scope("k", "v"),
            span(4, "a", 1)
                .with_event("other", "v")
                .with_event("k", "v"),
            span(5, "a", 1).with_link("k", "w").with_link("k", "v"),
        ],
    )
    .await;
    let scopes = [
        (Scope::Span, vec![1]),
        (Scope::Resource, vec![2]),
        (Scope::Instrumentation, vec![3]),
        (Scope::Event, vec![4]),
        (Scope::Link, vec![5]),
        (Scope::Any, vec![1, 2, 3, 4, 5]),
    ];
    for (scope, expected) in scopes {
        let mut found = Query::from(SpanFilter::equals(attribute(scope, "k"), "v"))
            .ids(&store)
            .await;
        found.sort_unstable();
        assert_eq!(found, expected, "{scope:?}");
    }
}

fn attribute(scope: Scope, key: &str) -> Field {
    Field::Attribute {
        scope,
        key: key.to_owned(),
    }
}
