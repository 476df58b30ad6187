//! Calls as gRPC makes them, over HTTP/2: the load generator and the origin.

pub(crate) mod load;
pub(crate) mod origin;

use bytes::{BufMut, Bytes, BytesMut};

/// The method that is called.
const PATH: &str = "/bench.Echo/Say";

/// A message with its prefix: not compressed, so many bytes.
fn message(bytes: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes + 5);
    message.put_u8(0);
    message.put_u32(bytes as u32);
    message.put_bytes(b'x', bytes);
    message.freeze()
}
