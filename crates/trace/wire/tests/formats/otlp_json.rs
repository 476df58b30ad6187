//! OTLP/JSON ⇄ model, strict where the standard is and lenient where its receivers are.

use periplus_model::{Attribute, SpanKind, StatusCode, Value};
use periplus_wire::otlp::{
    Decoded, MAX_ATTRIBUTES, MAX_DEPTH, MAX_VALUES, Refused, decode_json, encode_json,
};
use proptest::prelude::*;

const IDS: &str = r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174""#;

/// A request of one span with these members, besides ids.
fn request(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS}{comma}{members}}}]}}]}}]}}"#)
}

fn decode_span(members: &str) -> Result<periplus_model::Span, String> {
    let decoded = decode_json(request(members).as_bytes()).map_err(|error| error.to_string())?;
    match decoded.batch.groups.as_slice() {
        [group] => Ok(group.spans[0].clone()),
        _ => Err(decoded.refused.to_string()),
    }
}

#[test]
fn the_example_of_the_standard_is_read() {
    let decoded = decode_json(include_bytes!("fixtures/otlp_example.json")).expect("well-formed");
    assert!(decoded.refused.is_empty());
    insta::assert_debug_snapshot!(decoded.batch);
}

#[test]
fn values_keep_their_types() {
    let cases = [
        (r#"{"stringValue":"a\u00e9"}"#, Value::from("aé")),
        (r#"{"stringValue":""}"#, Value::from("")),
        (r#"{"boolValue":false}"#, Value::Bool(false)),
        (
            r#"{"intValue":"-9223372036854775808"}"#,
            Value::Int(i64::MIN),
        ),
        (r#"{"intValue":9223372036854775807}"#, Value::Int(i64::MAX)),
        (r#"{"intValue":-3}"#, Value::Int(-3)),
        (r#"{"intValue":1e3}"#, Value::Int(1000)),
        (r#"{"doubleValue":0.1}"#, Value::Double(0.1)),
        (r#"{"doubleValue":2}"#, Value::Double(2.0)),
        (r#"{"doubleValue":-2}"#, Value::Double(-2.0)),
        (
            r#"{"doubleValue":"-Infinity"}"#,
            Value::Double(f64::NEG_INFINITY),
        ),
        (r#"{"doubleValue":"1.5"}"#, Value::Double(1.5)),
        (r#"{"bytesValue":"AP8="}"#, Value::Bytes(vec![0, 255])),
        (r#"{"bytesValue":"AP8"}"#, Value::Bytes(vec![0, 255])),
        (r#"{"bytesValue":"_-8"}"#, Value::Bytes(vec![0xff, 0xef])),
        (r#"{"bytesValue":[0,255]}"#, Value::Bytes(vec![0, 255])),
        (
            r#"{"arrayValue":{"values":[{"intValue":"1"},{}]}}"#,
            Value::Array(vec![Value::Int(1), Value::Empty]),
        ),
        (r#"{"arrayValue":{}}"#, Value::Array(vec![])),
        (r#"{"arrayValue":{"values":null}}"#, Value::Array(vec![])),
        (
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}"#,
            Value::Map(vec![Attribute::new("k", "v")]),
        ),
        (r#"{"string_value":"snake"}"#, Value::from("snake")),
        ("{}", Value::Empty),
        ("null", Value::Empty),
        (r#"{"stringValue":null}"#, Value::Empty),
        (r#"{"new":[1],"stringValue":"v"}"#, Value::from("v")),
    ];
    for (json, value) in cases {
        let span = decode_span(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#));
        let span = span.unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!(span.attributes, [Attribute::new("k", value)], "{json}");
    }
    let span = decode_span(r#""attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]"#);
    let value = span.expect("a good span").attributes[0].value.clone();
    assert!(matches!(value, Value::Double(number) if number.is_nan()));
}

#[test]
fn what_receivers_tolerate_is_tolerated() {
    type Holds = fn(&periplus_model::Span) -> bool;
    let cases: [(&str, Holds); 17] = [
        (r#""kind":2"#, |span| span.kind == SpanKind::Server),
        (r#""kind":"SPAN_KIND_CLIENT""#, |span| {
            span.kind == SpanKind::Client
        }),
        (r#""kind":77"#, |span| span.kind == SpanKind::Unspecified),
        (r#""kind":-1"#, |span| span.kind == SpanKind::Unspecified),
        (r#""kind":null"#, |span| span.kind == SpanKind::Unspecified),
        (r#""status":{"code":2,"message":"m"}"#, |span| {
            span.status.code == StatusCode::Error && span.status.message == "m"
        }),
        (r#""status":{"code":"STATUS_CODE_OK"}"#, |span| {
            span.status.code == StatusCode::Ok
        }),
        (r#""status":null"#, |span| {
            span.status.code == StatusCode::Unset
        }),
        (r#""startTimeUnixNano":"1544712660000000000""#, |span| {
            span.start_unix_nano == 1_544_712_660_000_000_000
        }),
        (r#""start_time_unix_nano":1544712660000000000"#, |span| {
            span.start_unix_nano == 1_544_712_660_000_000_000
        }),
        (r#""flags":257,"traceState":"a=b""#, |span| {
            span.flags == 257 && span.trace_state == "a=b"
        }),
        (r#""parentSpanId":"""#, |span| span.parent_span_id.is_none()),
        (r#""parentSpanId":"0000000000000000""#, |span| {
            span.parent_span_id.is_none()
        }),
        (r#""parent_span_id":"EEE19B7EC3C1B173""#, |span| {
            span.parent_span_id
                .is_some_and(|id| id.as_u64() & 0xff == 0x73)
        }),
        (r#""attributes":null,"events":null,"links":null"#, |span| {
            span.attributes.is_empty()
        }),
        (r#""futureField":{"deep":[1,2,{"x":null}]}"#, |span| {
            span.name.is_empty()
        }),
        (
            r#""droppedAttributesCount":"3","dropped_events_count":4,"droppedLinksCount":0"#,
            |span| span.dropped_attributes_count == 3 && span.dropped_events_count == 4,
        ),
    ];
    for (members, holds) in cases {
        let span = decode_span(members).unwrap_or_else(|error| panic!("{members}: {error}"));
        assert!(holds(&span), "{members}: {span:?}");
    }
    for empty in [
        "{}",
        r#"{"resourceSpans":null}"#,
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}"#,
        r#"{"resourceSpans":[{"resource":null,"scopeSpans":[{"scope":null,"spans":null}]}]}"#,
        r#"{"resource_spans":[{"scope_spans":[{}],"schema_url":"u"}]}"#,
    ] {
        assert_eq!(
            decode_json(empty.as_bytes()),
            Ok(Decoded::default()),
            "{empty}"
        );
    }
}

#[test]
fn a_span_with_bad_ids_is_refused_alone() {
    let trace = r#""traceId":"5b8efff798038103d269b633813fc60c""#;
    let cases = [
        (
            r#""spanId":"eee19b7ec3c1b174""#.to_owned(),
            "traceId is missing",
        ),
        (
            r#""traceId":"","spanId":"eee19b7ec3c1b174""#.to_owned(),
            "traceId is missing",
        ),
        (
            r#""traceId":"W47/95gDgQPSabYzgT/GDA==","spanId":"eee19b7ec3c1b174""#.to_owned(),
            "traceId has 24 characters instead of 32 hex digits",
        ),
        (
            r#""traceId":"zb8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174""#
                .to_owned(),
            "traceId is not hex",
        ),
        (
            r#""traceId":"00000000000000000000000000000000","spanId":"eee19b7ec3c1b174""#
                .to_owned(),
            "trace_id is missing or zero",
        ),
        (trace.to_owned(), "spanId is missing"),
        (
            format!(r#"{trace},"spanId":"7ec3c1b174""#),
            "spanId has 10 characters instead of 16 hex digits",
        ),
        (
            format!(r#"{trace},"spanId":"eee19b7ec3c1b174","parentSpanId":"1""#),
            "parentSpanId has 1 characters instead of 16 hex digits",
        ),
        (
            format!(r#"{trace},"spanId":"eee19b7ec3c1b174","links":[{{"traceId":"12"}}]"#),
            "a link's traceId has 2 characters instead of 32 hex digits",
        ),
    ];
    for (members, reason) in cases {
        let json = format!(
            r#"{{"resourceSpans":[{{}},{{"scopeSpans":[{{"spans":[{{{IDS}}},{{{members}}}]}}]}}]}}"#
        );
        let decoded = decode_json(json.as_bytes()).expect("well-formed JSON");
        assert_eq!(decoded.batch.span_count(), 1, "{reason}");
        let expected = Refused {
            spans: 1,
            reasons: vec![format!(
                "resource_spans[1].scope_spans[0].spans[1]: {reason}"
            )],
        };
        assert_eq!(decoded.refused, expected);
    }
}

#[test]
fn malformed_requests_are_refused_with_the_place() {
    let cases = [
        String::new(),
        "[]".to_owned(),
        "{".to_owned(),
        "{} trailing".to_owned(),
        r#"{"resourceSpans":{}}"#.to_owned(),
        r#"{"resourceSpans":[[]]}"#.to_owned(),
        request(r#""name":7"#),
        request(r#""kind":"2""#),
        request(r#""kind":"SPAN_KIND_BEST""#),
        request(r#""kind":2.5"#),
        request(r#""startTimeUnixNano":"soon""#),
        request(r#""startTimeUnixNano":-1"#),
        request(r#""startTimeUnixNano":1.5"#),
        request(r#""endTimeUnixNano":"18446744073709551616""#),
        request(r#""flags":4294967296"#),
        request(r#""attributes":[{"key":"k","value":"bare"}]"#),
        request(r#""attributes":[{"key":"k","value":{"intValue":"9223372036854775808"}}]"#),
        request(r#""attributes":[{"key":"k","value":{"intValue":1.5}}]"#),
        request(r#""attributes":[{"key":"k","value":{"boolValue":"true"}}]"#),
        request(r#""attributes":[{"key":"k","value":{"bytesValue":"%%%"}}]"#),
        request(r#""attributes":{"k":"v"}"#),
        request(r#""attributes":[["k",{"intValue":"1"}]]"#),
        request(r#""attributes":[{"key":"k","value":{"arrayValue":[[]]}}]"#),
        request(r#""status":["failed",2]"#),
        request(&format!(r#""kind":"{}""#, "x".repeat(5000))),
    ];
    let errors: Vec<String> = cases
        .iter()
        .map(|json| match decode_json(json.as_bytes()) {
            Ok(decoded) => panic!("{json} was read as {decoded:?}"),
            Err(error) => error.to_string(),
        })
        .collect();
    assert!(errors.iter().all(|error| error.len() < 500));
    insta::assert_snapshot!(errors.join("\n"));
    assert!(decode_json(b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}").is_err());
}

#[test]
fn lists_and_nesting_are_bounded() {
    let many = vec![r#"{"key":"k","value":{"intValue":1}}"#; MAX_ATTRIBUTES + 2].join(",");
    let span = decode_span(&format!(
        r#""attributes":[{many}],"droppedAttributesCount":1"#
    ));
    let span = span.expect("a good span");
    assert_eq!(span.attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(span.dropped_attributes_count, 3);

    let nested = |depth: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(depth);
        let close = "]}}".repeat(depth);
        format!(r#""attributes":[{{"key":"k","value":{open}{close}}}]"#)
    };
    assert!(decode_span(&nested(MAX_DEPTH)).is_ok());
    let refused = decode_span(&nested(MAX_DEPTH + 1)).expect_err("too deep");
    assert!(refused.contains("nested more than 32 deep"), "{refused}");
    let error = decode_span(&nested(100_000)).expect_err("far too deep");
    assert!(error.contains("recursion limit"), "{error}");

    let many = vec!["{}"; MAX_VALUES + 1].join(",");
    let refused = decode_span(&format!(
        r#""attributes":[{{"key":"k","value":{{"arrayValue":{{"values":[{many}]}}}}}}]"#
    ))
    .expect_err("too many");
    assert!(refused.contains("nested values"), "{refused}");
}

#[test]
fn json_is_written_as_the_standard_asks() {
    let decoded = decode_json(include_bytes!("fixtures/otlp_example.json")).expect("well-formed");
    let text = String::from_utf8(encode_json(&decoded.batch)).expect("JSON is UTF-8");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).expect("JSON"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(batch in crate::support::batch()) {
        let decoded = decode_json(&encode_json(&batch));
        prop_assert_eq!(decoded, Ok(Decoded { batch, refused: Refused::default() }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_text_does_no_harm(bytes: Vec<u8>, text in "[\\[\\]{}\":,a-z0-9.eE+-]{0,40}") {
        let _ = decode_json(&bytes);
        let _ = decode_json(text.as_bytes());
        let _ = decode_json(request(&text).as_bytes());
    }

    #[test]
    fn changed_requests_do_no_harm(mutations in crate::support::mutations()) {
        let mut bytes = include_bytes!("fixtures/otlp_example.json").to_vec();
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        let _ = decode_json(&bytes);
    }
}
