//! What must hold for the first bytes of every connection, shared by the fuzz targets and by the test
//! that replays their corpora (`crates/mesh/proxy/tests/fuzz_corpus.rs`).

use periplus_proxy::inspect::client_hello::{self, MAX_BYTES};
use periplus_proxy::inspect::proxy_protocol::{self, write_v1, write_v2};
use periplus_proxy::inspect::{Look, http};
use rustls::server::Acceptor;

/// What rustls takes for a ClientHello is one here too, with the same names; what is said of the first
/// bytes is said of more of them.
pub(crate) fn client_hello(input: &[u8]) {
    let found = client_hello::parse(input);
    grows(input, client_hello::parse);
    grows(input, http::parse);
    let mut acceptor = Acceptor::default();
    let mut rest = input;
    // It reads no more than it has room for.
    while let Ok(1..) = acceptor.read_tls(&mut rest) {}
    let Ok(Some(accepted)) = acceptor.accept() else {
        return;
    };
    let theirs = accepted.client_hello();
    let Look::Found(ours) = found else {
        assert!(
            input.len() > MAX_BYTES,
            "rustls takes it, and it was {found:?}"
        );
        return;
    };
    if let Some(name) = theirs.server_name() {
        assert_eq!(ours.server_name, Some(name.to_ascii_lowercase()));
    }
    let protocols: Vec<&[u8]> = theirs.alpn().into_iter().flatten().collect();
    assert_eq!(ours.protocols, protocols);
}

/// A header that is read and written again reads the same, and every part of it waits for the rest.
pub(crate) fn proxy_header(input: &[u8]) {
    let Ok(Look::Found(header)) = proxy_protocol::parse(input) else {
        return;
    };
    assert!(header.length <= input.len());
    for length in 0..header.length.min(300) {
        let part = proxy_protocol::parse(&input[..length]);
        assert_eq!(part, Ok(Look::More), "{length} bytes");
    }
    let Some((source, destination)) = header.ends else {
        return;
    };
    for write in [write_v1, write_v2] {
        let mut written = Vec::new();
        write(source, destination, &mut written);
        let Ok(Look::Found(again)) = proxy_protocol::parse(&written) else {
            panic!("what was written is no header: {written:?}");
        };
        assert_eq!(again.length, written.len());
        let (from, to) = again.ends.expect("both ends");
        assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
        assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
        assert_eq!(
            (from.port(), to.port()),
            (source.port(), destination.port())
        );
    }
}

/// Once something is said of the first bytes, more of them change nothing.
fn grows<T: PartialEq + std::fmt::Debug>(input: &[u8], parse: fn(&[u8]) -> Look<T>) {
    let whole = parse(input);
    let mut length = 0;
    while length < input.len() {
        let part = parse(&input[..length]);
        assert!(
            part == Look::More || part == whole,
            "{length}: {part:?}, then {whole:?}"
        );
        // All of the short ones, and some of the long ones.
        length += 1 + length / 32;
    }
}
