//! Replays the corpora of the fuzz targets (`fuzz/corpus`).

#[path = "../../../../fuzz/checks.rs"]
mod checks;

#[path = "../../../../fuzz/replay.rs"]
mod replay;

use std::path::Path;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus");

#[test]
fn otlp_protobuf() {
    replay(Path::new(CORPORA), "otlp_protobuf", checks::otlp_protobuf);
}

#[test]
fn otlp_json() {
    replay(Path::new(CORPORA), "otlp_json", checks::otlp_json);
}

#[test]
fn zipkin_json() {
    replay(Path::new(CORPORA), "zipkin_json", checks::zipkin_json);
}

#[test]
fn zipkin_proto() {
    replay(Path::new(CORPORA), "zipkin_proto", checks::zipkin_proto);
}

#[test]
fn zipkin_json_v1() {
    replay(Path::new(CORPORA), "zipkin_json_v1", checks::zipkin_json_v1);
}

#[test]
fn zipkin_thrift() {
    replay(Path::new(CORPORA), "zipkin_thrift", checks::zipkin_thrift);
}

#[test]
fn propagation() {
    replay(Path::new(CORPORA), "propagation", checks::propagation);
}

#[test]
fn jaeger_binary() {
    replay(Path::new(CORPORA), "jaeger_binary", checks::jaeger_binary);
}

#[test]
fn jaeger_compact() {
    replay(Path::new(CORPORA), "jaeger_compact", checks::jaeger_compact);
}

#[test]
fn jaeger_protobuf() {
    replay(
        Path::new(CORPORA),
        "jaeger_protobuf",
        checks::jaeger_protobuf,
    );
}

#[test]
fn sampling() {
    replay(Path::new(CORPORA), "sampling", checks::sampling);
}
