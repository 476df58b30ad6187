//! HTTP/1.1 as clients' bytes are taken (RFC 9112), for whoever wants to try what is taken and what is refused.

use crate::http1::chunked::{ChunkError, Chunked, Step};
use crate::http1::framing::Framing;
use crate::http1::head::Limits;
use crate::http1::request::RequestHead;

/// The limits of Envoy's defaults.
const LIMITS: Limits = Limits {
    bytes: 60 * 1024,
    fields: 100,
};

/// A request head that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In bytes, with the empty line.
    pub length: usize,
    /// As it came.
    pub method: Vec<u8>,
    /// In origin or asterisk form; CONNECT has none.
    pub path: Vec<u8>,
    /// From the target, else from `Host`; may be empty.
    pub authority: Vec<u8>,
    /// Name and value of each field line, in their order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The length of the body.
    pub body: Body,
}

/// How long a body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// A chunked body that has come to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The data of all chunks.
    pub data: Vec<u8>,
    /// The lines of the trailer section.
    pub trailers: Vec<u8>,
    /// How many bytes of the input are behind it.
    pub left: usize,
}

/// The request head at the beginning of the bytes; none if more are needed. An error is the status and the reason of
/// the refusal.
pub fn request(bytes: &[u8]) -> Result<Option<Request>, (u16, &'static str)> {
    let mut bytes = bytes.to_vec();
    let mut head = RequestHead::default();
    let parsed = head.parse(&mut bytes, LIMITS);
    let Some(length) = parsed.map_err(|refused| (refused.status, refused.reason))? else {
        return Ok(None);
    };
    let text = &bytes[..length];
    let fields = head.fields.iter();
    let fields = fields.map(|field| {
        let (name, value) = (field.name.get(text), field.value.get(text));
        (name.to_vec(), value.to_vec())
    });
    Ok(Some(Request {
        length,
        method: head.method(text).to_vec(),
        path: head.target.path.get(text).to_vec(),
        authority: head.target.authority.get(text).to_vec(),
        fields: fields.collect(),
        body: match head.framing {
            Framing::None | Framing::Close => Body::None,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked,
        },
    }))
}

/// Decodes a chunked body that comes in these parts; none if it does not come to its end. An error says what is
/// malformed.
pub fn chunked<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Option<Decoded>, String> {
    let mut decoder = Chunked::default();
    let mut decoded = Decoded::default();
    for mut part in parts {
        while !part.is_empty() && !decoder.is_ended() {
            let step = decoder.decode(part);
            let (skip, data) = match step.map_err(|error: ChunkError| error.to_string())? {
                Step::Data { skip, data } => (skip, data),
                Step::More { skip } | Step::End { skip } => (skip, 0),
            };
            decoded.data.extend_from_slice(&part[skip..][..data]);
            part = &part[skip + data..];
        }
        decoded.left += part.len();
    }
    decoded.trailers = decoder.trailers().to_vec();
    Ok(decoder.is_ended().then_some(decoded))
}
