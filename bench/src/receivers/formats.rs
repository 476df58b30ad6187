//! The same batches in every format that a receiver takes.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context;
use periplus_model::{Batch, Resource, Scope, SpanGroup};
use periplus_wire::jaeger::{project_process, project_span};
use periplus_wire::{otlp, zipkin};
use periplus_workload::{START_UNIX_NANO, demo_requests};

use jaeger::{JBatch, JSpan};
use thrift::Thrift;

/// Jaeger's formats, written by the hand that tests their decoders.
#[path = "../../../crates/trace/wire/tests/formats/support/jaeger.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod jaeger;
#[path = "../../../crates/trace/wire/tests/formats/support/thrift.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod thrift;

/// A format on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OtlpGrpc,
    OtlpProtobuf,
    OtlpProtobufGzip,
    OtlpJson,
    ZipkinJson,
    JaegerGrpc,
    JaegerThrift,
    JaegerCompact,
    JaegerBinary,
}

impl Format {
    pub(super) const ALL: [Self; 9] = [
        Self::OtlpGrpc,
        Self::OtlpProtobuf,
        Self::OtlpProtobufGzip,
        Self::OtlpJson,
        Self::ZipkinJson,
        Self::JaegerGrpc,
        Self::JaegerThrift,
        Self::JaegerCompact,
        Self::JaegerBinary,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "OTLP, gRPC",
            Self::OtlpProtobuf => "OTLP, HTTP, protobuf",
            Self::OtlpProtobufGzip => "OTLP, HTTP, protobuf, gzip",
            Self::OtlpJson => "OTLP, HTTP, JSON",
            Self::ZipkinJson => "Zipkin v2, JSON",
            Self::JaegerGrpc => "Jaeger, gRPC",
            Self::JaegerThrift => "Jaeger, HTTP, Thrift",
            Self::JaegerCompact => "Jaeger, UDP, Thrift compact",
            Self::JaegerBinary => "Jaeger, UDP, Thrift binary",
        }
    }

    /// A request's body, a message or a datagram.
    pub(super) fn encode(self, batch: &Batch) -> Vec<u8> {
        let call = |batch: &Batch| Thrift::Struct(vec![(1, of_jaeger(batch).thrift())]);
        match self {
            Self::OtlpGrpc | Self::OtlpProtobuf => otlp::encode_protobuf(batch),
            Self::OtlpProtobufGzip => gzip(&otlp::encode_protobuf(batch)),
            Self::OtlpJson => otlp::encode_json(batch),
            Self::ZipkinJson => zipkin::encode_json(batch),
            Self::JaegerGrpc => of_jaeger(batch).protobuf(),
            Self::JaegerThrift => of_jaeger(batch).thrift().binary(),
            Self::JaegerCompact => thrift::compact_call("emitBatch", &call(batch)),
            Self::JaegerBinary => thrift::binary_call("emitBatch", &call(batch)),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // A vector takes everything.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn of_jaeger(batch: &Batch) -> JBatch {
    let resource = batch.groups.first().map(|group| &*group.resource);
    let spans = batch.groups.iter().flat_map(|group| {
        let spans = group.spans.iter();
        spans.map(|span| JSpan::of(&project_span(span, &group.scope)))
    });
    JBatch::of(
        &project_process(resource.unwrap_or(&Resource::default())),
        spans.collect(),
    )
}

/// The demo's spans as its processes report them: each request has the spans of one.
pub(super) fn batches(spans: usize, per_request: usize) -> anyhow::Result<Vec<Batch>> {
    let mut open: Vec<SpanGroup> = Vec::new();
    let mut full = Vec::new();
    for request in demo_requests(spans, START_UNIX_NANO, 8_192) {
        let decoded = otlp::decode_protobuf(&request).context("the workload is not OTLP")?;
        for group in decoded.batch.groups {
            let at = open.iter().position(|it| it.resource == group.resource);
            let at = at.unwrap_or_else(|| {
                open.push(SpanGroup {
                    resource: Arc::clone(&group.resource),
                    scope: Arc::new(Scope::default()),
                    spans: Vec::new(),
                });
                open.len() - 1
            });
            open[at].spans.extend(group.spans);
            while open[at].spans.len() >= per_request {
                let spans = open[at].spans.drain(..per_request).collect();
                full.push(batch(&open[at], spans));
            }
        }
    }
    for group in &mut open {
        let spans = std::mem::take(&mut group.spans);
        if !spans.is_empty() {
            full.push(batch(group, spans));
        }
    }
    Ok(full)
}

fn batch(of: &SpanGroup, spans: Vec<periplus_model::Span>) -> Batch {
    Batch {
        groups: vec![SpanGroup {
            spans,
            resource: Arc::clone(&of.resource),
            scope: Arc::clone(&of.scope),
        }],
    }
}
