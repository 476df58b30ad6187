//! B3 in one header, as Envoy's Zipkin tracer reads and writes it.

use periplus_model::propagation::{B3Format, B3Headers, Extracted, Incoming, SpanContext};
use periplus_model::{SpanId, TraceId};
use proptest::prelude::*;

const T128: &str = "463ac35c9f6413ad48485a3953bb6124";
const T64: &str = "48485a3953bb6124";
const S: &str = "a2fb4a1d1a96d312";
const P: &str = "0020000000000001";

fn extract(value: &[u8]) -> Extracted {
    let headers = B3Headers {
        b3: Some(value),
        ..B3Headers::default()
    };
    assert_eq!(headers.format(), B3Format::Single);
    headers.extract()
}

#[test]
fn decisions_alone_begin_a_new_trace() {
    for (value, sampled) in [("0", false), ("1", true), ("d", true)] {
        let expected = Extracted::Absent {
            sampled: Some(sampled),
        };
        assert_eq!(extract(value.as_bytes()), expected, "{value}");
    }
}

#[test]
fn contexts_are_read() {
    let wide = TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124);
    let narrow = TraceId::from_halves(0, 0x4848_5a39_53bb_6124);
    let parent = Some(SpanId::from_u64(0x0020_0000_0000_0001));
    let cases = [
        (format!("{T128}-{S}"), wide, None, None),
        (format!("{T64}-{S}"), narrow, None, None),
        (format!("{T128}-{S}-1"), wide, Some(true), None),
        (format!("{T64}-{S}-0"), narrow, Some(false), None),
        (format!("{T64}-{S}-d"), narrow, Some(true), None),
        (format!("{T128}-{S}-1-{P}"), wide, Some(true), parent),
        (format!("{T64}-{S}-0-{P}"), narrow, Some(false), parent),
        (format!("{T64}-{S}-d-{P}"), narrow, Some(true), parent),
        (
            format!("{T128}-{S}-1-{P}").to_uppercase(),
            wide,
            Some(true),
            parent,
        ),
        (
            format!("{T64}-{S}-1-0000000000000000"),
            narrow,
            Some(true),
            None,
        ),
        (format!("{}-{S}", "0".repeat(32)), TraceId::ZERO, None, None),
    ];
    for (value, trace_id, sampled, parent_span_id) in cases {
        let expected = Incoming {
            trace_id,
            span_id: SpanId::from_u64(0xa2fb_4a1d_1a96_d312),
            parent_span_id,
            sampled,
        };
        assert_eq!(
            extract(value.as_bytes()),
            Extracted::Context(expected),
            "{value}"
        );
    }
}

#[test]
fn everything_else_is_malformed() {
    let cases = [
        String::new(),
        "-".to_owned(),
        "x".to_owned(),
        "D".to_owned(),
        "2".to_owned(),
        "10".to_owned(),
        "true".to_owned(),
        T64.to_owned(),
        T128.to_owned(),
        format!("{T64}-"),
        format!("{T64}-{}", &S[..15]),
        format!("{T64}-{S}-"),
        format!("{T64}-{S}--"),
        format!("{T64}-{S}-2"),
        format!("{T64}-{S}-D"),
        format!("{T64}-{S}-1-"),
        format!("{T64}-{S}-1-{}", &P[..15]),
        format!("{T64}-{S}-1-{P}0"),
        format!("{T128}-{S}-1-{P}0"),
        format!("{T128}-{S}-1-{P}-{P}"),
        format!("{T64}-{S}-{P}"),
        format!("{T128}-{S}-{P}"),
        format!("{T64}{S}"),
        format!("{T64}_{S}"),
        format!("{T64}-{S}_1"),
        format!("{}-{S}", &T64[..15]),
        format!("{}-{S}", &T128[..31]),
        format!("+{}-{S}", &T64[..15]),
        format!("-{}-{S}", &T64[..15]),
        format!("{T64}-{S}-1-{} ", &P[..15]),
        format!("{T64}-zzzzzzzzzzzzzzzz"),
        format!("zzzzzzzzzzzzzzzz-{S}"),
        format!("{T64}zzzzzzzzzzzzzzzz-{S}"),
        format!("zzzzzzzzzzzzzzzz{T64}-{S}"),
        format!("{T64}-{S}-1-zzzzzzzzzzzzzzzz"),
        format!("{T64}-{S}-1 "),
    ];
    for value in cases {
        assert_eq!(extract(value.as_bytes()), Extracted::Malformed, "{value:?}");
    }
}

#[test]
fn debug_goes_on_as_sampled_and_the_parent_only_if_there_is_one() {
    let mut context = SpanContext {
        trace_id: TraceId::from_halves(0, 0x4848_5a39_53bb_6124),
        span_id: SpanId::from_u64(0xa2fb_4a1d_1a96_d312),
        parent_span_id: None,
        sampled: true,
        shared: false,
        parent_is_remote: false,
    };
    assert_eq!(&*context.b3_single(), format!("{T64}-{S}-1").as_bytes());
    context.parent_span_id = Some(SpanId::from_u64(0x0020_0000_0000_0001));
    context.sampled = false;
    assert_eq!(&*context.b3_single(), format!("{T64}-{S}-0-{P}").as_bytes());
    context.trace_id = TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124);
    assert_eq!(
        &*context.b3_single(),
        format!("{T128}-{S}-0-{P}").as_bytes()
    );
    assert_eq!(
        format!("{:?}", context.b3_single()),
        format!("\"{T128}-{S}-0-{P}\"")
    );
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        high in prop_oneof![Just(0), any::<u64>()], low: u64, span: u64, parent: Option<u64>, sampled: bool,
    ) {
        let context = SpanContext {
            trace_id: TraceId::from_halves(high, low),
            span_id: SpanId::from_u64(span),
            parent_span_id: parent.filter(|id| *id != 0).map(SpanId::from_u64),
            sampled,
            shared: false,
            parent_is_remote: false,
        };
        let expected = Incoming {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: context.parent_span_id,
            sampled: Some(sampled),
        };
        prop_assert_eq!(extract(&context.b3_single()), Extracted::Context(expected));
    }

    #[test]
    fn no_value_makes_it_panic(
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[0-9a-f]{14,34}[-0-9a-f]{0,3}-?[0-9a-f]{14,18}(-[01d-]{0,2})?(-[0-9a-f]{0,17})?"
                .prop_map(String::into_bytes),
        ],
    ) {
        extract(&value);
    }

    /// A context that was cut short reads only where a shorter form ends.
    #[test]
    fn cut_values_are_malformed(cut in 2..68_usize) {
        let whole = format!("{T128}-{S}-1-{P}");
        let value = &whole.as_bytes()[..cut];
        let expected = matches!(cut, 49 | 51);
        prop_assert_eq!(extract(value).context().is_some(), expected, "{}", cut);
    }
}
