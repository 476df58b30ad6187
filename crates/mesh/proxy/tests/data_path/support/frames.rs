//! Frames of HTTP/2 by hand, for what no library would send.

use std::net::SocketAddr;

use super::wire::Client;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The four bytes at `at` as a number: of GOAWAY and RST_STREAM, an error code.
    pub(crate) fn number(&self, at: usize) -> u32 {
        let bytes = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals that are never indexed (RFC 7541 §6.2.2).
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            assert!(text.len() < 127, "one byte tells the length");
            block.push(text.len() as u8);
            block.extend(text);
        }
    }
    block
}

/// A connection that has sent the preface and its settings.
pub(crate) fn connect(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(PREFACE);
    client.send(frame(SETTINGS, 0, 0, ""));
    client
}

/// The next frame; none at the end of the connection.
pub(crate) fn next(client: &mut Client) -> Option<Frame> {
    let head = client.exactly(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: stream & 0x7fff_ffff,
        payload: client.exactly(length as usize)?,
    })
}

/// The next frame of a kind.
pub(crate) fn next_of(client: &mut Client, kind: u8) -> Option<Frame> {
    loop {
        let frame = next(client)?;
        if frame.kind == kind {
            return Some(frame);
        }
    }
}
