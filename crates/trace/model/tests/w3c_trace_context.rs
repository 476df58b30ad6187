//! W3C Trace Context, as Envoy's OpenTelemetry tracer reads and writes it.

use periplus_model::propagation::{Extracted, Incoming, SpanContext, w3c};
use periplus_model::{SpanId, TraceId};
use proptest::prelude::*;

const T: &str = "0af7651916cd43dd8448eb211c80319c";
const S: &str = "b7ad6b7169203331";

fn extract(value: &str) -> Extracted {
    w3c::extract(Some(value.as_bytes()))
}

fn context(sampled: bool) -> Extracted {
    Extracted::Context(Incoming {
        trace_id: TraceId::from_halves(0x0af7_6519_16cd_43dd, 0x8448_eb21_1c80_319c),
        span_id: SpanId::from_u64(0xb7ad_6b71_6920_3331),
        parent_span_id: None,
        sampled: Some(sampled),
    })
}

#[test]
fn absent_is_not_malformed() {
    assert_eq!(w3c::extract(None), Extracted::Absent { sampled: None });
    assert_eq!(extract(""), Extracted::Malformed);
}

#[test]
fn good_values_are_read() {
    let cases = [
        (format!("00-{T}-{S}-01"), true),
        (format!("00-{T}-{S}-00"), false),
        (format!("00-{T}-{S}-03"), true),
        (format!("00-{T}-{S}-ff"), true),
        (format!("00-{T}-{S}-02"), false),
        (format!("01-{T}-{S}-01"), true),
        (format!("ff-{T}-{S}-01"), true),
        (format!("00-{T}-{S}-01").to_uppercase(), true),
    ];
    for (value, sampled) in cases {
        assert_eq!(extract(&value), context(sampled), "{value}");
    }
}

#[test]
fn bad_values_are_malformed() {
    let cases = [
        "garbage".to_owned(),
        format!("00-{T}-{S}-1"),
        format!("00-{T}-{S}-011"),
        format!("00-{T}-{S}-01-"),
        format!("cc-{T}-{S}-01-what-the-future-brings"),
        format!("00-{T}-{S}"),
        format!("0-{T}-{S}-001"),
        format!("00_{T}-{S}-01"),
        format!("00-{T}_{S}-01"),
        format!("00-{T}-{S}_01"),
        format!("zz-{T}-{S}-01"),
        format!("00-{T}-{S}-zz"),
        format!("00-{}z-{S}-01", &T[..31]),
        format!("00-z{}-{S}-01", &T[1..]),
        format!("00-{T}-{}z-01", &S[..15]),
        format!("00-{}-{S}-01", "0".repeat(32)),
        format!("00-{T}-{}-01", "0".repeat(16)),
        format!(" 00-{T}-{S}-01"),
    ];
    for value in cases {
        assert_eq!(extract(&value), Extracted::Malformed, "{value}");
    }
}

#[test]
fn both_sides_must_agree_to_sample() {
    for (parent, own, sampled) in [
        (Some(true), true, true),
        (Some(true), false, false),
        (Some(false), true, false),
        (Some(false), false, false),
        (None, true, true),
        (None, false, false),
    ] {
        let extracted = match parent {
            Some(parent) => context(parent),
            None => Extracted::Absent { sampled: None },
        };
        assert_eq!(
            extracted.sampled_by_opentelemetry(own),
            sampled,
            "{parent:?} {own}"
        );
    }
}

#[test]
fn ids_are_never_shared() {
    let mut last = 0x10;
    let mut random = || {
        last += 1;
        last
    };
    let root = SpanContext::begin_w3c(None, true, &mut random);
    assert_eq!(root.trace_id, TraceId::from_halves(0x11, 0x12));
    assert_eq!(root.span_id, SpanId::from_u64(0x13));
    assert_eq!(root.parent_span_id, None);
    assert_eq!(root.otlp_flags(), 257);

    let incoming = context(true);
    let incoming = incoming.context();
    let child = SpanContext::begin_w3c(incoming, true, &mut random);
    assert_eq!(Some(child.trace_id), incoming.map(|it| it.trace_id));
    assert_eq!(child.span_id, SpanId::from_u64(0x14));
    assert_eq!(child.parent_span_id, incoming.map(|it| it.span_id));
    assert!(!child.shared);
    assert_eq!(child.otlp_flags(), 769);
    assert_eq!(child.child(0x15).otlp_flags(), 257);
    let unsampled = SpanContext {
        sampled: false,
        ..child
    };
    assert_eq!(unsampled.otlp_flags(), 768);
}

#[test]
fn the_header_is_written_in_version_00_and_padded() {
    let context = SpanContext {
        trace_id: TraceId::from_halves(0, 0x8448_eb21_1c80_319c),
        span_id: SpanId::from_u64(0xb7ad_6b71_6920_3331),
        parent_span_id: None,
        sampled: true,
        shared: false,
        parent_is_remote: false,
    };
    assert_eq!(
        context.traceparent().escape_ascii().to_string(),
        format!("00-00000000000000008448eb211c80319c-{S}-01")
    );
}

#[test]
fn tracestate_headers_are_joined_unseen() {
    let mut out = b"before:".to_vec();
    w3c::join_tracestate([b"a=1".as_slice(), b"", b"!! b=2"], &mut out);
    assert_eq!(out, b"before:a=1,,!! b=2");
    w3c::join_tracestate([], &mut out);
    assert_eq!(out.len(), 18);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(high: u64, low in 1..u64::MAX, span in 1..u64::MAX, sampled: bool) {
        let context = SpanContext {
            trace_id: TraceId::from_halves(high, low),
            span_id: SpanId::from_u64(span),
            parent_span_id: Some(SpanId::from_u64(9)),
            sampled,
            shared: false,
            parent_is_remote: false,
        };
        let expected = Incoming {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: None,
            sampled: Some(sampled),
        };
        prop_assert_eq!(
            w3c::extract(Some(&context.traceparent())),
            Extracted::Context(expected)
        );
    }

    #[test]
    fn no_value_makes_it_panic(
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            proptest::collection::vec(any::<u8>(), 55),
            "[0-9a-z]{2}-[0-9a-g]{32}-[0-9a-g]{16}-[0-9a-g]{2}".prop_map(String::into_bytes),
        ],
    ) {
        let sampled = w3c::extract(Some(&value)).sampled();
        prop_assert!(sampled.is_none() || value.len() == 55);
    }
}
