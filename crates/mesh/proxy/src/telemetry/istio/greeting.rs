//! What proxies tell each other about themselves at the beginning of a connection of TCP, where both have agreed on it by ALPN.
//!
//! Each side sends, before any other byte: a magic number and a length, 32 bits each with the highest byte first, and
//! behind them a `google.protobuf.Any` of that length with a `Struct`: `x-envoy-peer-metadata`, the same `Struct` that
//! the header of that name has in Base64, and `x-envoy-peer-metadata-id`, the node's id.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use prost::{Message as _, Name as _};

use super::Peer;

const MAGIC: [u8; 4] = 0x3d23_0467_u32.to_be_bytes();
/// The bytes of the magic number and the length.
pub(crate) const HEAD: usize = 8;
/// The longest message that is read. Istio's proxies have no limit, and messages of some hundred bytes.
const MOST_BYTES: usize = 8 * 1024;

const METADATA: &str = "x-envoy-peer-metadata";
const ID: &str = "x-envoy-peer-metadata-id";

/// What has arrived of the other side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// Too little to tell.
    More,
    /// The message, and how many bytes it takes in all.
    Message(&'a [u8], usize),
    /// It begins with something else: the other side says nothing of itself.
    SomethingElse,
    /// It is longer than what is read.
    TooLong,
}

/// Reads what a connection begins with.
pub(crate) fn hear(bytes: &[u8]) -> Heard<'_> {
    if bytes.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
        return Heard::SomethingElse;
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Heard::More;
    };
    let [.., a, b, c, d] = *head;
    match u32::from_be_bytes([a, b, c, d]) as usize {
        length if length > MOST_BYTES => Heard::TooLong,
        length => match rest.get(..length) {
            Some(message) => Heard::Message(message, HEAD + length),
            None => Heard::More,
        },
    }
}

/// How many of the bytes of a message that makes no sense go on to whoever the connection is for: all but its head, as with
/// Istio's proxies, if it is not even an `Any`.
pub(crate) fn passed_over(message: &[u8]) -> usize {
    match Any::decode(message) {
        Ok(_) => HEAD + message.len(),
        Err(_) => HEAD,
    }
}

/// What a proxy says of itself.
pub(crate) fn greeting(own: Option<&Peer>, node_id: &str) -> Vec<u8> {
    let value = |kind| Value { kind: Some(kind) };
    let metadata = own.map(Peer::metadata).unwrap_or_default();
    let mut said = HashMap::from([(METADATA.to_owned(), value(Kind::StructValue(metadata)))]);
    if !node_id.is_empty() {
        said.insert(ID.to_owned(), value(Kind::StringValue(node_id.to_owned())));
    }
    let message = Any {
        type_url: Struct::type_url(),
        value: Struct { fields: said }.encode_to_vec(),
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a node's metadata has less than 4 GiB");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&message);
    bytes
}

/// What a message says of the other side, if it says anything.
pub(super) fn metadata_of(message: &[u8]) -> Option<Struct> {
    let any = Any::decode(message).ok()?;
    let (_, of_type) = any.type_url.rsplit_once('/')?;
    if of_type != Struct::full_name() {
        return None;
    }
    let mut said = Struct::decode(any.value.as_slice()).ok()?;
    match said.fields.remove(METADATA)?.kind? {
        Kind::StructValue(metadata) => Some(metadata),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;

    #[test]
    fn what_is_said_is_heard_byte_by_byte() {
        let own = node("reviews-v1");
        let said = greeting(Some(&own), "sidecar~10.0.0.1~reviews-v1-x.default~y");
        assert_eq!(said[..4], [0x3d, 0x23, 0x04, 0x67]);
        let length = said.len() - HEAD;
        assert_eq!(
            said[4..8],
            u32::try_from(length).expect("short").to_be_bytes()
        );
        for end in 0..said.len() {
            assert_eq!(hear(&said[..end]), Heard::More, "{end} bytes");
        }
        let mut more = said.clone();
        more.extend_from_slice(b"hello");
        assert_eq!(hear(&more), Heard::Message(&said[HEAD..], said.len()));
        let heard = metadata_of(&said[HEAD..]).expect("metadata");
        assert_eq!(heard, own.metadata());
        // Who has no metadata says so.
        let nobody = greeting(None, "");
        assert_eq!(metadata_of(&nobody[HEAD..]), Some(Struct::default()));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let of_length = |length: u32, rest: &[u8]| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(rest);
            bytes
        };
        // Four bytes are enough to know that it is something else, and fewer may be.
        for (bytes, expected) in [
            (&b"G"[..], Heard::SomethingElse),
            (b"\x3d\x23\x05", Heard::SomethingElse),
            (b"", Heard::More),
            (b"\x3d", Heard::More),
            (&of_length(u32::MAX, b""), Heard::TooLong),
            (&of_length(8193, b""), Heard::TooLong),
            (&of_length(8192, b""), Heard::More),
            (&of_length(0, b"x"), Heard::Message(b"", HEAD)),
        ] {
            assert_eq!(hear(bytes), expected, "{bytes:?}");
        }
        let other = Any {
            type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(),
            value: Vec::new(),
        };
        let other = other.encode_to_vec();
        assert_eq!(passed_over(&other), HEAD + other.len());
        assert_eq!(passed_over(b"\xff\xff"), HEAD);
        for message in [&other[..], b"\xff\xff", b""] {
            assert_eq!(metadata_of(message), None);
        }
    }
}
