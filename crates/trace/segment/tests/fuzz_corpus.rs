//! Replays the corpora of the fuzz targets (`fuzz/corpus`).

#[path = "../../../../fuzz/segment_checks.rs"]
mod checks;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

use std::path::Path;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus");

#[test]
fn otlp_walk() {
    replay(Path::new(CORPORA), "otlp_walk", checks::otlp_walk);
}

#[test]
fn segment() {
    replay(Path::new(CORPORA), "segment", checks::segment);
}
