//! B3 in several headers, as Envoy's Zipkin tracer reads and writes it; and the span ids that follow.

use periplus_model::propagation::{
    B3Format, B3Headers, Extracted, FORWARDED_BY_APPLICATIONS, Incoming, SpanContext, ZipkinMode,
};
use periplus_model::{SpanId, SpanKind, TraceId};
use proptest::prelude::*;

const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN: &str = "a2fb4a1d1a96d312";
const PARENT: &str = "0020000000000001";

fn headers<'a>(
    trace_id: Option<&'a str>,
    span_id: Option<&'a str>,
    parent_span_id: Option<&'a str>,
    sampled: Option<&'a str>,
) -> B3Headers<'a> {
    B3Headers {
        b3: None,
        trace_id: trace_id.map(str::as_bytes),
        span_id: span_id.map(str::as_bytes),
        parent_span_id: parent_span_id.map(str::as_bytes),
        sampled: sampled.map(str::as_bytes),
    }
}

fn context(high: u64, low: u64, span: u64, parent: Option<u64>) -> Extracted {
    Extracted::Context(Incoming {
        trace_id: TraceId::from_halves(high, low),
        span_id: SpanId::from_u64(span),
        parent_span_id: parent.map(SpanId::from_u64),
        sampled: None,
    })
}

const HIGH: u64 = 0x463a_c35c_9f64_13ad;
const LOW: u64 = 0x4848_5a39_53bb_6124;
const S: u64 = 0xa2fb_4a1d_1a96_d312;

#[test]
fn ids_are_read_as_envoy_reads_them() {
    let ones = "1".repeat(64);
    let zeros = "0".repeat(32);
    let absent = Extracted::Absent { sampled: None };
    let cases = [
        ("nothing", headers(None, None, None, None), absent),
        (
            "128 bits",
            headers(Some(TRACE), Some(SPAN), None, None),
            context(HIGH, LOW, S, None),
        ),
        (
            "64 bits",
            headers(Some("48485a3953bb6124"), Some(SPAN), Some(PARENT), None),
            context(0, LOW, S, Some(0x0020_0000_0000_0001)),
        ),
        (
            "128 bits, high half zero",
            headers(
                Some("000000000000000048485a3953bb6124"),
                Some(SPAN),
                None,
                None,
            ),
            context(0, LOW, S, None),
        ),
        (
            "no span id",
            headers(Some(TRACE), None, Some(PARENT), None),
            absent,
        ),
        ("no trace id", headers(None, Some(SPAN), None, None), absent),
        (
            "no span id beside a bad trace id",
            headers(Some("zz"), None, None, None),
            absent,
        ),
        (
            "three digits",
            headers(Some("123"), Some("7"), None, None),
            context(0, 0x123, 7, None),
        ),
        (
            "0x",
            headers(Some("0x12"), Some("0X1f"), None, None),
            context(0, 0x12, 0x1f, None),
        ),
        (
            "0x in a half",
            headers(
                Some("0x3ac35c9f6413ad0x485a3953bb6124"),
                Some(SPAN),
                None,
                None,
            ),
            context(0x003a_c35c_9f64_13ad, 0x0048_5a39_53bb_6124, S, None),
        ),
        (
            "0x across the halves",
            headers(
                Some("0x3ac35c9f6413adf0x85a3953bb6124"),
                Some(SPAN),
                None,
                None,
            ),
            Extracted::Malformed,
        ),
        (
            "a space within 32 characters",
            headers(
                Some("463ac35c9f6413ad 8485a3953bb6124"),
                Some(SPAN),
                None,
                None,
            ),
            context(HIGH, 0x0848_5a39_53bb_6124, S, None),
        ),
        (
            "a sign",
            headers(Some("+1"), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "a space between digits",
            headers(Some("1 2"), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "a span id of 20 digits that fits 64 bits",
            headers(Some(TRACE), Some("0000000000000000000a"), None, None),
            context(HIGH, LOW, 0xa, None),
        ),
        (
            "0x without digits",
            headers(Some("0x"), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "17 digits",
            headers(Some(&ones[..17]), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "20 digits",
            headers(Some(&ones[..20]), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "33 digits",
            headers(Some(&ones[..33]), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "20 digits that fit 64 bits",
            headers(Some("00000000000000000123"), Some(SPAN), None, None),
            context(0, 0x123, S, None),
        ),
        (
            "upper case",
            headers(
                Some("463AC35C9F6413AD48485A3953BB6124"),
                Some("A2FB4A1D1A96D312"),
                None,
                None,
            ),
            context(HIGH, LOW, S, None),
        ),
        (
            "zero ids",
            headers(Some(&zeros), Some("0"), None, None),
            context(0, 0, 0, None),
        ),
        (
            "empty parent",
            headers(Some(TRACE), Some(SPAN), Some(""), None),
            context(HIGH, LOW, S, None),
        ),
        (
            "zero parent",
            headers(Some(TRACE), Some(SPAN), Some("0000000000000000"), None),
            context(HIGH, LOW, S, None),
        ),
        (
            "bad parent",
            headers(Some(TRACE), Some(SPAN), Some("xyz"), None),
            Extracted::Malformed,
        ),
        (
            "empty trace id",
            headers(Some(""), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "empty span id",
            headers(Some(TRACE), Some(""), None, None),
            Extracted::Malformed,
        ),
        (
            "bad trace id",
            headers(Some("nothex"), Some(SPAN), None, None),
            Extracted::Malformed,
        ),
        (
            "bad high half",
            headers(
                Some("463ac35c9f6413az48485a3953bb6124"),
                Some(SPAN),
                None,
                None,
            ),
            Extracted::Malformed,
        ),
        (
            "bad low half",
            headers(
                Some("463ac35c9f6413ad48485a3953bb612z"),
                Some(SPAN),
                None,
                None,
            ),
            Extracted::Malformed,
        ),
        (
            "bad span id",
            headers(Some(TRACE), Some("-1"), None, None),
            Extracted::Malformed,
        ),
        (
            "span id of 17 digits",
            headers(Some(TRACE), Some(&ones[..17]), None, None),
            Extracted::Malformed,
        ),
    ];
    for (what, headers, expected) in cases {
        assert_eq!(headers.extract(), expected, "{what}");
        assert_eq!(headers.format(), B3Format::Multi, "{what}");
    }
}

#[test]
fn sampled_is_read_as_envoy_reads_it() {
    let cases = [
        (None, None),
        (Some("1"), Some(true)),
        (Some("true"), Some(true)),
        (Some("0"), Some(false)),
        (Some("false"), Some(false)),
        (Some("True"), Some(false)),
        (Some("d"), Some(false)),
        (Some("2"), Some(false)),
        (Some(""), Some(false)),
    ];
    for (value, sampled) in cases {
        let with_ids = headers(Some(TRACE), Some(SPAN), None, value).extract();
        assert_eq!(with_ids.sampled(), sampled, "{value:?}");
        assert!(with_ids.context().is_some(), "{value:?}");
        assert_eq!(
            headers(None, None, None, value).extract(),
            Extracted::Absent { sampled }
        );
        for own in [true, false] {
            assert_eq!(with_ids.sampled_by_zipkin(own), sampled.unwrap_or(own));
        }
    }
}

#[test]
fn a_single_header_wins() {
    let both = B3Headers {
        b3: Some(b"0"),
        ..headers(Some(TRACE), Some(SPAN), None, Some("1"))
    };
    assert_eq!(
        both.extract(),
        Extracted::Absent {
            sampled: Some(false)
        }
    );
    assert_eq!(both.format(), B3Format::Single);
}

/// Numbers that stand for random ones: 0x11, 0x12, and so on.
fn counting() -> impl FnMut() -> u64 {
    let mut last = 0x10;
    move || {
        last += 1;
        last
    }
}

#[test]
fn span_ids_follow_the_mode() {
    let incoming = |parent: Option<u64>| Incoming {
        trace_id: TraceId::from_halves(7, 8),
        span_id: SpanId::from_u64(5),
        parent_span_id: parent.map(SpanId::from_u64),
        sampled: Some(true),
    };
    let (from_root, from_child) = (incoming(None), incoming(Some(4)));
    let mode = |shared_span_context| ZipkinMode {
        shared_span_context,
        trace_id_128bit: false,
    };
    let (client, server) = (SpanKind::Client, SpanKind::Server);
    // kind, shared_span_context, incoming -> trace id, span id, parent, shared, parent is remote
    let cases = [
        (client, true, None, (0, 0x11), 0x11, None, false, false),
        (client, false, None, (0, 0x11), 0x11, None, false, false),
        (
            client,
            true,
            Some(&from_child),
            (7, 8),
            0x11,
            Some(5),
            false,
            true,
        ),
        (
            client,
            false,
            Some(&from_child),
            (7, 8),
            0x11,
            Some(5),
            false,
            true,
        ),
        (
            server,
            true,
            Some(&from_child),
            (7, 8),
            5,
            Some(4),
            true,
            true,
        ),
        (server, true, Some(&from_root), (7, 8), 5, None, true, false),
        (server, true, None, (0, 0x11), 0x11, None, true, false),
        (server, false, None, (0, 0x11), 0x11, None, false, false),
        (
            server,
            false,
            Some(&from_child),
            (7, 8),
            0x11,
            Some(5),
            false,
            true,
        ),
    ];
    for (kind, shared_context, incoming, (high, low), span, parent, shared, remote) in cases {
        let begun =
            SpanContext::begin_zipkin(incoming, kind, true, mode(shared_context), counting());
        let expected = SpanContext {
            trace_id: TraceId::from_halves(high, low),
            span_id: SpanId::from_u64(span),
            parent_span_id: parent.map(SpanId::from_u64),
            sampled: true,
            shared,
            parent_is_remote: remote,
        };
        assert_eq!(begun, expected, "{kind:?} {shared_context} {incoming:?}");

        let attempt = begun.child(0x99);
        let expected = SpanContext {
            span_id: SpanId::from_u64(0x99),
            parent_span_id: Some(begun.span_id),
            shared: false,
            parent_is_remote: false,
            ..begun
        };
        assert_eq!(attempt, expected);
    }
}

#[test]
fn a_new_trace_of_128_bits_ends_in_the_root_spans_id() {
    let mode = ZipkinMode {
        shared_span_context: false,
        trace_id_128bit: true,
    };
    let root = SpanContext::begin_zipkin(None, SpanKind::Client, false, mode, counting());
    assert_eq!(root.trace_id, TraceId::from_halves(0x12, 0x11));
    assert_eq!(root.span_id, SpanId::from_u64(0x11));
    let unlucky = SpanContext::begin_zipkin(None, SpanKind::Client, false, mode, || 0);
    assert!(!unlucky.span_id.is_zero());
}

#[test]
fn headers_are_written_as_envoy_writes_them() {
    let mut context = SpanContext {
        trace_id: TraceId::from_halves(HIGH, LOW),
        span_id: SpanId::from_u64(S),
        parent_span_id: Some(SpanId::from_u64(1)),
        sampled: true,
        shared: false,
        parent_is_remote: false,
    };
    assert_eq!(&*context.b3_trace_id(), TRACE.as_bytes());
    assert_eq!(&context.b3_span_id(), SPAN.as_bytes());
    assert_eq!(context.b3_parent_span_id(), Some(*b"0000000000000001"));
    assert_eq!(context.b3_sampled(), b"1");

    context.trace_id = TraceId::from_halves(0, LOW);
    context.parent_span_id = None;
    context.sampled = false;
    assert_eq!(&*context.b3_trace_id(), b"48485a3953bb6124");
    assert_eq!(context.b3_parent_span_id(), None);
    assert_eq!(context.b3_sampled(), b"0");
}

#[test]
fn w3c_stands_in_where_b3_brings_no_ids() {
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let from_w3c = |sampled| {
        Extracted::Context(Incoming {
            trace_id: TraceId::from_halves(HIGH, LOW),
            span_id: SpanId::from_u64(S),
            parent_span_id: None,
            sampled: Some(sampled),
        })
    };
    let absent = Extracted::Absent { sampled: None };
    let single = |value| B3Headers {
        b3: Some(value),
        ..B3Headers::default()
    };
    let none = B3Headers::default();
    let good = traceparent.as_str();
    let unsampled = &format!("00-{TRACE}-{SPAN}-00");
    let zero = "00-00000000000000000000000000000000-0000000000000000-01";
    let cases = [
        ("neither", none, None, absent),
        ("W3C alone", none, Some(good), from_w3c(true)),
        ("bad W3C begins a new trace", none, Some("garbage"), absent),
        ("so does zero", none, Some(zero), absent),
        ("so does an empty one", none, Some(""), absent),
        (
            "B3 first",
            headers(Some("1"), Some("2"), None, None),
            Some(good),
            context(0, 1, 2, None),
        ),
        (
            "no way back from malformed B3",
            headers(Some("z"), Some("2"), None, None),
            Some(good),
            Extracted::Malformed,
        ),
        (
            "a B3 refusal does not hold",
            headers(None, None, None, Some("0")),
            Some(good),
            from_w3c(true),
        ),
        (
            "a B3 wish holds",
            headers(None, None, None, Some("1")),
            Some(unsampled),
            from_w3c(true),
        ),
        (
            "neither samples",
            headers(None, None, None, Some("junk")),
            Some(unsampled),
            from_w3c(false),
        ),
        (
            "a refusal beside bad W3C",
            headers(None, None, None, Some("0")),
            Some("bad"),
            Extracted::Absent {
                sampled: Some(false),
            },
        ),
        (
            "half of B3's ids are none",
            headers(Some(TRACE), None, Some(PARENT), None),
            Some(good),
            from_w3c(true),
        ),
        (
            "an empty single",
            single(b""),
            Some(good),
            Extracted::Malformed,
        ),
        (
            "a single decision closes the matter",
            single(b"1"),
            Some(good),
            Extracted::Absent {
                sampled: Some(true),
            },
        ),
        (
            "malformed single",
            single(b"x"),
            Some(good),
            Extracted::Malformed,
        ),
    ];
    for (what, b3, w3c, expected) in cases {
        assert_eq!(
            b3.extract_or_w3c(w3c.map(str::as_bytes)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn the_seven_headers_are_those_of_the_documentation() {
    assert_eq!(
        FORWARDED_BY_APPLICATIONS,
        [
            "x-request-id",
            "x-b3-traceid",
            "x-b3-spanid",
            "x-b3-parentspanid",
            "x-b3-sampled",
            "x-b3-flags",
            "x-ot-span-context"
        ]
    );
}

fn soup() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "[0-9a-fA-FxX-]{0,70}".prop_map(String::into_bytes),
    ])
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(
        b3 in soup(), trace in soup(), span in soup(), parent in soup(), sampled in soup(), w3c in soup(),
    ) {
        let headers = B3Headers {
            b3: b3.as_deref(),
            trace_id: trace.as_deref(),
            span_id: span.as_deref(),
            parent_span_id: parent.as_deref(),
            sampled: sampled.as_deref(),
        };
        let extracted = headers.extract();
        if extracted != (Extracted::Absent { sampled: extracted.sampled() }) {
            prop_assert_eq!(headers.extract_or_w3c(w3c.as_deref()), extracted);
        }
    }

    #[test]
    fn what_is_written_reads_back(
        high in prop_oneof![Just(0), any::<u64>()], low: u64, span: u64, parent: Option<u64>, sampled: bool,
    ) {
        let parent_span_id = parent.filter(|id| *id != 0).map(SpanId::from_u64);
        let context = SpanContext {
            trace_id: TraceId::from_halves(high, low),
            span_id: SpanId::from_u64(span),
            parent_span_id,
            sampled,
            shared: false,
            parent_is_remote: false,
        };
        let trace = context.b3_trace_id();
        let span_id = context.b3_span_id();
        let parent = context.b3_parent_span_id();
        let headers = B3Headers {
            b3: None,
            trace_id: Some(&trace),
            span_id: Some(&span_id),
            parent_span_id: parent.as_ref().map(|id| id.as_slice()),
            sampled: Some(context.b3_sampled()),
        };
        let expected = Incoming {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id,
            sampled: Some(sampled),
        };
        prop_assert_eq!(headers.extract(), Extracted::Context(expected));
    }
}
