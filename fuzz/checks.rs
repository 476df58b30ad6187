//! What must hold for every input, shared by the fuzz targets and by the test that replays their
//! corpora (`crates/trace/wire/tests/fuzz_corpus.rs`). Each function panics if it does not.

use periplus_model::propagation::{B3Headers, Extracted, SpanContext, request_id, w3c};
use periplus_model::{Batch, SpanId, TraceId};
use periplus_wire::{jaeger, otlp, sampling, zipkin};

/// What is read can be written, and then reads and writes the same.
pub(crate) fn otlp_protobuf(input: &[u8]) {
    if let Ok(decoded) = otlp::decode_protobuf(input) {
        let written = otlp::encode_protobuf(&decoded.batch);
        let again = otlp::decode_protobuf(&written).expect("what was written");
        assert!(again.refused.is_empty(), "{}", again.refused);
        assert_eq!(again.batch.span_count(), decoded.batch.span_count());
        // Bytes, as NaN differs from itself.
        assert_eq!(otlp::encode_protobuf(&again.batch), written);
        // The other formats take it too.
        otlp_json(&otlp::encode_json(&decoded.batch));
        let list = zipkin::encode_json(&decoded.batch);
        if let Ok(batch) = zipkin::decode_json(&list) {
            assert_eq!(batch.span_count(), decoded.batch.span_count());
        }
    }
}

/// What is read can be written, and then reads and writes the same.
pub(crate) fn otlp_json(input: &[u8]) {
    if let Ok(decoded) = otlp::decode_json(input) {
        let written = otlp::encode_json(&decoded.batch);
        let again = otlp::decode_json(&written).expect("what was written");
        assert!(again.refused.is_empty(), "{}", again.refused);
        assert_eq!(again.batch.span_count(), decoded.batch.span_count());
        assert_eq!(otlp::encode_json(&again.batch), written);
    }
}

/// What is read can be written and read again.
pub(crate) fn zipkin_json(input: &[u8]) {
    written_again(zipkin::decode_json(input));
}

/// As [`zipkin_json`].
pub(crate) fn zipkin_proto(input: &[u8]) {
    written_again(zipkin::decode_proto(input));
}

/// As [`zipkin_json`]: version 1 is written as version 2.
pub(crate) fn zipkin_json_v1(input: &[u8]) {
    written_again(zipkin::decode_json_v1(input));
}

/// As [`zipkin_json`]: version 1 is written as version 2.
pub(crate) fn zipkin_thrift(input: &[u8]) {
    written_again(zipkin::decode_thrift(input));
}

fn written_again(read: Result<periplus_model::Batch, zipkin::DecodeError>) {
    let Ok(batch) = read else { return };
    let json = zipkin::decode_json(&zipkin::encode_json(&batch));
    let proto = zipkin::decode_proto(&zipkin::encode_proto(&batch));
    for again in [json, proto] {
        let again = again.expect("what was written");
        assert_eq!(again.span_count(), batch.span_count());
        assert_eq!(ids(&again), ids(&batch));
    }
}

/// A body of `POST /api/traces`, and a datagram of port 6832.
pub(crate) fn jaeger_binary(input: &[u8]) {
    check_jaeger(jaeger::decode_thrift_batch(input));
    let protocol = jaeger::ThriftProtocol::Binary;
    check_jaeger(jaeger::decode_agent_message(input, protocol));
}

/// A call of `SamplingManager/GetSamplingStrategy`: the service that it names is read again.
pub(crate) fn sampling(input: &[u8]) {
    if let Ok(service) = sampling::decode_parameters(input) {
        let mut written = vec![0x0a];
        let mut length = service.len();
        while length >= 0x80 {
            written.push(length as u8 | 0x80);
            length >>= 7;
        }
        written.push(length as u8);
        written.extend(service.as_bytes());
        assert_eq!(sampling::decode_parameters(&written), Ok(service));
    }
}

/// A datagram of port 6831.
pub(crate) fn jaeger_compact(input: &[u8]) {
    let protocol = jaeger::ThriftProtocol::Compact;
    check_jaeger(jaeger::decode_agent_message(input, protocol));
}

/// A `PostSpansRequest`.
pub(crate) fn jaeger_protobuf(input: &[u8]) {
    check_jaeger(jaeger::decode_post_spans(input));
}

/// What is read can be shown, and what is shown can be read.
fn check_jaeger(read: Result<otlp::Decoded, jaeger::DecodeError>) {
    let Ok(decoded) = read else {
        return;
    };
    let mut batch = Vec::new();
    for group in &decoded.batch.groups {
        let process = jaeger::project_process(&group.resource);
        for span in &group.spans {
            let span = jaeger::project_span(span, &group.scope);
            jaeger::append_span(&mut batch, 1, &span, &process, &[]);
        }
    }
    // Field 1 of the request: the batch.
    let mut request = vec![0x0a];
    let mut length = batch.len();
    while length >= 0x80 {
        request.push(length as u8 | 0x80);
        length >>= 7;
    }
    request.push(length as u8);
    request.extend(batch);
    let again = jaeger::decode_post_spans(&request).expect("what was written");
    assert!(again.refused.is_empty(), "{}", again.refused);
    assert_eq!(ids(&again.batch), ids(&decoded.batch));
    otlp_protobuf(&otlp::encode_protobuf(&decoded.batch));
}

/// The ids of all spans, in an order of their own.
fn ids(batch: &Batch) -> Vec<(TraceId, SpanId, Option<SpanId>)> {
    let spans = batch.groups.iter().flat_map(|group| &group.spans);
    let mut ids: Vec<_> = spans
        .map(|span| (span.trace_id, span.span_id, span.parent_span_id))
        .collect();
    ids.sort_unstable();
    ids
}

/// Lines are header values: `b3`, `x-b3-traceid`, `x-b3-spanid`, `x-b3-parentspanid`,
/// `x-b3-sampled`, `traceparent`, `x-request-id`; an empty line is a missing header. Context that
/// is read is written so that it reads the same.
pub(crate) fn propagation(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let headers = B3Headers {
        b3: next(),
        trace_id: next(),
        span_id: next(),
        parent_span_id: next(),
        sampled: next(),
    };
    let traceparent = next();
    let id = next();
    for extracted in [
        headers.extract(),
        headers.extract_or_w3c(traceparent),
        w3c::extract(traceparent),
    ] {
        if let Some(incoming) = extracted.context() {
            let context = SpanContext {
                trace_id: incoming.trace_id,
                span_id: incoming.span_id,
                parent_span_id: incoming.parent_span_id,
                sampled: extracted.sampled_by_zipkin(true),
                shared: false,
                parent_is_remote: false,
            };
            check_written(&context);
        }
    }
    if let Some(id) = id {
        let sampling = request_id::Sampling {
            client: 0,
            random: 5000,
            overall: request_id::WHOLE,
        };
        let decision = request_id::decide(Some(id), request_id::Wishes::default(), sampling, || 0);
        let mut id = id.to_vec();
        decision.reason.write(&mut id);
        if id.len() == request_id::LENGTH {
            assert_eq!(request_id::TraceReason::read(&id), decision.reason);
        }
    }
}

fn check_written(context: &SpanContext) {
    let single = context.b3_single();
    let read = B3Headers {
        b3: Some(&single),
        ..B3Headers::default()
    }
    .extract();
    let expected = periplus_model::propagation::Incoming {
        trace_id: context.trace_id,
        span_id: context.span_id,
        parent_span_id: context.parent_span_id,
        sampled: Some(context.sampled),
    };
    assert_eq!(read, Extracted::Context(expected));
    if !context.trace_id.is_zero() && !context.span_id.is_zero() {
        let read = w3c::extract(Some(&context.traceparent()));
        assert_eq!(read.context().map(|it| it.span_id), Some(context.span_id));
    }
}
