//! `GET /api/periplus/v1/openapi.json` says what the API does.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use periplus_model::{Attribute, Event, Link, Value};
use serde_json::{Value as Json, json};
use support::{BOOKINFO_ID, Server, span, with_attributes};

const BASE: &str = "/api/periplus/v1";

/// Checks a value against the part of JSON Schema that the document uses. Objects have no members
/// besides those that are named.
fn check(document: &Json, schema: &Json, value: &Json, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return check(document, schema, value, at);
    }
    let fits = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: unknown type {other}"),
    };
    match &schema["type"] {
        Json::Null => {}
        Json::String(name) => assert!(fits(name), "{at}: {value} is no {name}"),
        names => assert!(
            names
                .as_array()
                .unwrap()
                .iter()
                .any(|name| fits(name.as_str().unwrap())),
            "{at}: {value} is none of {names}"
        ),
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{at}: no {name}"
        );
    }
    if let (Some(members), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for (name, member) in members {
            let schema = properties.get(name);
            let schema = schema.unwrap_or_else(|| panic!("{at}: {name} is not documented"));
            check(document, schema, member, &format!("{at}.{name}"));
        }
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            check(document, &schema["items"], item, &format!("{at}[{index}]"));
        }
    }
}

#[tokio::test]
async fn every_answer_is_as_documented() {
    let server = Server::with_bookinfo().await;
    let mut full = with_attributes(
        span(7, 2, 9, "full", 0),
        vec![
            Attribute::new("bytes", Value::Bytes(vec![1])),
            Attribute::new("list", Value::Array(vec![1.5.into()])),
            Attribute::new("map", Value::Map(vec![Attribute::new("k", true)])),
        ],
    );
    full.events = vec![Event {
        attributes: vec![Attribute::new("k", 1_i64)],
        ..Event::default()
    }];
    full.links = vec![Link::default()];
    server.add_spans("shop", vec![full]).await;
    let document = server.get(&format!("{BASE}/openapi.json")).await.json();

    for (path, template, status) in [
        ("/boot".to_owned(), "/boot", 200),
        ("/search?start=0".to_owned(), "/search", 200),
        ("/search?limit=x".to_owned(), "/search", 400),
        (format!("/traces/{BOOKINFO_ID}"), "/traces/{id}", 200),
        ("/traces/7".to_owned(), "/traces/{id}", 200),
        ("/traces/8".to_owned(), "/traces/{id}", 404),
        ("/traces/x".to_owned(), "/traces/{id}", 400),
        (
            format!("/traces/{BOOKINFO_ID}/spans?rows=0-8"),
            "/traces/{id}/spans",
            200,
        ),
        (
            "/traces/7/spans?rows=0".to_owned(),
            "/traces/{id}/spans",
            200,
        ),
        (
            "/traces/7/spans?rows=0&revision=0".to_owned(),
            "/traces/{id}/spans",
            409,
        ),
        (
            "/red?start=1795332550000000&step=10s&end=1795332570000000".to_owned(),
            "/red",
            200,
        ),
        ("/red?step=x".to_owned(), "/red", 400),
        (
            "/dependencies?start=1795332550000000".to_owned(),
            "/dependencies",
            200,
        ),
        ("/dependencies?start=x".to_owned(), "/dependencies", 400),
        ("/openapi.json".to_owned(), "/openapi.json", 200),
    ] {
        let answer = server.get(&format!("{BASE}{path}")).await;
        assert_eq!(answer.status, status, "{path}");
        let described = &document["paths"][template]["get"]["responses"][status.to_string()];
        let schema = &described["content"]["application/json"]["schema"];
        assert_ne!(*schema, json!(null), "{path}: {status} is not documented");
        check(&document, schema, &answer.json(), &path);
    }
}
