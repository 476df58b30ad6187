//! Replays the corpora of the fuzz targets (`fuzz/corpus`).

#[path = "../../../../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is committed") {
        let path = entry.expect("a readable directory").path();
        let input = fs::read(&path).expect("a readable file");
        // A panic names the input that is at fault.
        println!("{}", path.display());
        check(&input);
        inputs += 1;
    }
    assert!(inputs >= 5, "{inputs} inputs in {}", corpus.display());
}

#[test]
fn otlp_protobuf() {
    replay("otlp_protobuf", checks::otlp_protobuf);
}

#[test]
fn otlp_json() {
    replay("otlp_json", checks::otlp_json);
}

#[test]
fn zipkin_json() {
    replay("zipkin_json", checks::zipkin_json);
}

#[test]
fn propagation() {
    replay("propagation", checks::propagation);
}

#[test]
fn jaeger_binary() {
    replay("jaeger_binary", checks::jaeger_binary);
}

#[test]
fn jaeger_compact() {
    replay("jaeger_compact", checks::jaeger_compact);
}

#[test]
fn jaeger_protobuf() {
    replay("jaeger_protobuf", checks::jaeger_protobuf);
}
