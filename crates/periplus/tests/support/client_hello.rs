//! What a client of TLS says first.

/// The first that a client of TLS 1.2 says, which asks for a name (RFC 5246 §7.4.1.2, RFC 6066 §3).
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let list = sized([&[0], &sized(name.as_bytes().to_vec())[..]].concat());
    let extensions = sized([&[0, 0], &sized(list)[..]].concat());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    body.extend(extensions);
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1], &sized(handshake)[..]].concat()
}
