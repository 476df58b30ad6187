//! Replays the corpora of the fuzz targets (`fuzz/corpus`).

#[path = "../../../../fuzz/bridge_checks.rs"]
mod bridge_checks;
#[path = "../../../../fuzz/inspect_checks.rs"]
mod checks;
#[path = "../../../../fuzz/codec_checks.rs"]
mod codec_checks;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

use std::path::Path;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus");

#[test]
fn client_hello() {
    replay(Path::new(CORPORA), "client_hello", checks::client_hello);
}

#[test]
fn proxy_header() {
    replay(Path::new(CORPORA), "proxy_header", checks::proxy_header);
}

#[test]
fn h2_bridge() {
    replay(Path::new(CORPORA), "h2_bridge", bridge_checks::h2_bridge);
}

#[test]
fn h2_response() {
    replay(
        Path::new(CORPORA),
        "h2_response",
        bridge_checks::h2_response,
    );
}

#[test]
fn h1() {
    replay(Path::new(CORPORA), "h1", codec_checks::h1);
}

#[test]
fn chunked() {
    replay(Path::new(CORPORA), "chunked", codec_checks::chunked);
}
