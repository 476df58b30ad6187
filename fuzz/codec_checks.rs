//! What must hold for the bytes of every client of HTTP/1.1, shared by the fuzz targets and by the test that
//! replays their corpora (`crates/mesh/proxy/tests/fuzz_corpus.rs`).

use periplus_proxy::codec::{Body, Decoded, Request, chunked as decode, request};

/// A head that is taken can be read in one way only, and reads the same when it is written again.
pub(crate) fn h1(input: &[u8]) {
    let whole = request(input);
    for length in 0..input.len().min(400) {
        match request(&input[..length]) {
            Ok(None) => {}
            Err(_) => assert!(whole.is_err(), "refused at {length} bytes, then {whole:?}"),
            taken => assert_eq!(taken, whole, "at {length} bytes"),
        }
    }
    let Ok(Some(taken)) = whole else {
        return;
    };
    let head = &input[..taken.length];
    for (at, byte) in head.iter().enumerate() {
        assert_ne!(*byte, 0, "NUL at {at}");
        assert!(*byte != b'\n' || head[at - 1] == b'\r', "bare LF at {at}");
        assert!(*byte != b'\r' || head[at + 1] == b'\n', "bare CR at {at}");
    }
    let count = |name: &str| {
        let is_it = |field: &&(Vec<u8>, Vec<u8>)| field.0.eq_ignore_ascii_case(name.as_bytes());
        taken.fields.iter().filter(is_it).count()
    };
    assert!(count("host") <= 1 && count("content-length") <= 1 && count("transfer-encoding") <= 1);
    match taken.body {
        Body::Chunked => assert_eq!(count("content-length"), 0),
        Body::Length(_) => assert_eq!(count("transfer-encoding"), 0),
        Body::None => {}
    }
    let again = request(&written(&taken));
    let again = again.expect("it is refused when written again");
    let again = again.expect("it is cut off when written again");
    let values = |request: &Request| {
        let others = |field: &&(Vec<u8>, Vec<u8>)| !is_host(&field.0);
        let fields = request.fields.iter().filter(others);
        fields.cloned().collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&taken));
    let rest = |request: Request| Request {
        length: 0,
        fields: Vec::new(),
        ..request
    };
    assert_eq!(rest(again), rest(taken));
}

fn is_host(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"host")
}

fn written(request: &Request) -> Vec<u8> {
    let mut text = Vec::new();
    let mut put = |parts: &[&[u8]]| text.extend(parts.concat());
    // Only HTTP/1.0 may do without a host; then its target may say whom it is for.
    let has_host = request.fields.iter().any(|(name, _)| is_host(name));
    let path = match &*request.path {
        b"*" => &[][..],
        path => path,
    };
    let absolute = [&b"http://"[..], &request.authority, path].concat();
    let target = match &*request.method {
        b"CONNECT" => &request.authority,
        _ if !has_host && !request.authority.is_empty() => &absolute,
        _ => &request.path,
    };
    let version = if has_host { b"1.1" } else { b"1.0" };
    put(&[&request.method, b" ", target, b" HTTP/", version, b"\r\n"]);
    for (name, value) in &request.fields {
        // An authority in the target goes before the field (RFC 9112 §3.2.2).
        let value = if is_host(name) {
            &request.authority
        } else {
            value
        };
        put(&[name, b": ", value, b"\r\n"]);
    }
    put(&[b"\r\n"]);
    text
}

/// A chunked body is the same whatever parts it comes in, and the same again when it is written in other chunks.
pub(crate) fn chunked(input: &[u8]) {
    let whole = decode(std::iter::once(input));
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(decode(input.chunks(size)), whole, "in parts of {size}");
    }
    let Ok(Some(decoded)) = whole else {
        return;
    };
    assert!(decoded.data.len() + decoded.trailers.len() + decoded.left < input.len());
    let mut written = Vec::new();
    for data in decoded.data.chunks(5) {
        written.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        written.extend_from_slice(data);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(b"0\r\n");
    written.extend_from_slice(&decoded.trailers);
    written.extend_from_slice(b"\r\n");
    let again = decode(std::iter::once(&*written));
    assert_eq!(again, Ok(Some(Decoded { left: 0, ..decoded })));
}
