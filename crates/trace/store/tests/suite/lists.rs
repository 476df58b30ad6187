//! The keys and values of attributes. An engine may say that it does not list them.

use periplus_model::Value;
use periplus_store::{AttributeKey, Scope, StoreError};

use super::build::{Store, span, write};

/// What the engine answers; `None` if it does not list these.
fn answer<T>(answer: Result<Vec<T>, StoreError>) -> Option<Vec<T>> {
    match answer {
        Ok(found) => Some(found),
        Err(StoreError::Unsupported { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn attribute_keys_are_listed(store: Store) {
    for trace in 1..=2 {
        write(
            &store,
            [
                span(trace, "a", 1)
                    .with("http.method", "GET")
                    .with("b", 1_i64),
                span(trace, "a", 2)
                    .with_resource("host", "h")
                    .with_scope("b", "c"),
                span(trace, "a", 3)
                    .with_event("e", true)
                    .with_link("http.l", 0.5),
            ],
        )
        .await;
    }
    let key = |scope, key: &str| AttributeKey {
        scope,
        key: key.to_owned(),
    };
    let all = [
        key(Scope::Span, "b"),
        key(Scope::Span, "http.method"),
        key(Scope::Resource, "host"),
        key(Scope::Resource, "service.name"),
        key(Scope::Instrumentation, "b"),
        key(Scope::Event, "e"),
        key(Scope::Link, "http.l"),
    ];
    let cases = [
        (Scope::Any, "", 100, &all[..]),
        (Scope::Any, "", 3, &all[..3]),
        (Scope::Any, "", 0, &[]),
        (Scope::Resource, "", 100, &all[2..4]),
        (Scope::Resource, "s", 100, &all[3..4]),
        (Scope::Any, "http.", 1, &all[1..2]),
        (Scope::Event, "x", 100, &[]),
    ];
    for (scope, prefix, limit, expected) in cases {
        let Some(found) = answer(store.attribute_keys(scope, prefix, limit).await) else {
            return;
        };
        assert_eq!(found, expected, "{scope:?} {prefix} {limit}");
    }
}

pub(crate) async fn attribute_values_are_listed(store: Store) {
    let values = [
        Value::from("b"),
        Value::from("a"),
        Value::from("10"),
        Value::from(10_i64),
        Value::from(9_i64),
        Value::from(1.5),
        Value::from(true),
        Value::from("a"),
        Value::Bytes(vec![1]),
        Value::Array(vec![Value::from("a")]),
    ];
    for (trace, value) in values.into_iter().enumerate() {
        write(&store, [span(trace as u64 + 1, "s", 1).with("k", value)]).await;
    }
    write(&store, [span(1, "s", 2).with_resource("k", "resource")]).await;
    let all = vec![
        Value::from(1.5),
        Value::from("10"),
        Value::from(10_i64),
        Value::from(9_i64),
        Value::from("a"),
        Value::from("b"),
        Value::from("resource"),
        Value::from(true),
    ];
    let cases = [
        ("k", Scope::Any, "", 100, all.clone()),
        ("k", Scope::Any, "", 2, all[..2].to_vec()),
        ("k", Scope::Any, "1", 100, all[..3].to_vec()),
        ("k", Scope::Resource, "", 100, all[6..7].to_vec()),
        ("k", Scope::Span, "re", 100, vec![]),
        ("service.name", Scope::Any, "", 100, vec![Value::from("s")]),
        ("none", Scope::Any, "", 100, vec![]),
        ("k", Scope::Any, "", 0, vec![]),
    ];
    for (key, scope, prefix, limit, expected) in cases {
        let found = store.attribute_values(key, scope, prefix, limit).await;
        let Some(found) = answer(found) else { return };
        assert_eq!(found, expected, "{key} {scope:?} {prefix} {limit}");
    }
}
