//! Replays the corpora of the fuzz targets (`fuzz/corpus`).

#[path = "../../../../fuzz/store_checks.rs"]
mod checks;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

use std::path::Path;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus");

#[test]
fn wal() {
    replay(Path::new(CORPORA), "wal", checks::wal);
}

#[test]
fn manifest() {
    replay(Path::new(CORPORA), "manifest", checks::manifest);
}
