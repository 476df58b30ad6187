//! The search cases of Jaeger's storage integration suite (`queries.json` and its fixtures).

use periplus_model::Batch;
use periplus_store::{Comparison, Field, Intrinsic, Literal, SpanFilter};

use super::build::{
    Query, SECOND, Store, contents, name_is, noon, service_is, span, tag_is, write,
};
use super::jaeger_cases::{Case, cases};

fn query(case: &Case) -> Query {
    let mut filters = vec![service_is(&case.service)];
    filters.extend(case.operation.as_deref().map(name_is));
    for (comparison, nano) in [
        (Comparison::GreaterOrEqual, case.duration.0),
        (Comparison::LessOrEqual, case.duration.1),
    ] {
        filters.extend(nano.map(|nano| SpanFilter::Compare {
            field: Field::Intrinsic(Intrinsic::Duration),
            comparison,
            literal: Literal::Int(nano as i64),
        }));
    }
    filters.extend(case.tags.iter().map(|(key, text)| tag_is(key, text)));
    let (first, last) = case.window;
    Query::from(SpanFilter::And(filters)).between(first, last + 1)
}

pub(crate) async fn jaegers_find_traces_cases(store: Store) {
    let cases = cases(noon() - 43_200 * SECOND);
    assert_eq!(cases.len(), 25);
    for batch in cases
        .iter()
        .flat_map(|case| case.expected.iter().chain(&case.decoys))
    {
        store
            .append(batch.clone())
            .await
            .expect("the store takes the batch");
    }
    for case in &cases {
        let mut found = query(case).run(&store).await;
        found.sort_by_key(|trace| trace.id);
        assert_eq!(found.len(), case.expected.len(), "{}", case.caption);
        for (found, expected) in found.iter().zip(&case.expected) {
            let Batch { groups } = expected.clone();
            let expected: Vec<_> = groups.into_iter().map(Into::into).collect();
            assert_eq!(
                contents(&found.groups),
                contents(&expected),
                "{}",
                case.caption
            );
        }
    }
}

pub(crate) async fn traces_are_found_without_a_service(store: Store) {
    let tagged = |trace, service| span(trace, service, 1).with("cross.service", "yes");
    write(
        &store,
        [
            tagged(1, "cross-service-a").starting(noon() + 1),
            tagged(2, "cross-service-b"),
            span(3, "cross-service-b", 1),
        ],
    )
    .await;
    assert_eq!(
        Query::from(tag_is("cross.service", "yes"))
            .ids(&store)
            .await,
        [1, 2]
    );
}
