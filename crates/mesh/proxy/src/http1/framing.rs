//! Where a body ends (RFC 9112 §6): decided from the head, followed byte by byte.

use crate::http1::chunked::{ChunkError, Chunked, Step};
use crate::http1::head::{Fields, Refused};
use crate::http1::name::Name;

/// How a body is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes: responses and tunnels only.
    Close,
}

/// The framing of a request body (RFC 9112 §6.3).
pub(crate) fn of_request(
    head: &[u8],
    fields: &Fields,
    minor_version: u8,
) -> Result<Framing, Refused> {
    let length = content_length(head, fields)?;
    let Some(coding) =
        fields.single(Name::TransferEncoding, head, "two transfer-encoding fields")?
    else {
        return Ok(match length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        });
    };
    if length.is_some() {
        return Err(Refused::bad("both content-length and transfer-encoding"));
    }
    if minor_version == 0 {
        return Err(Refused::bad("transfer-encoding in HTTP/1.0"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    if ends_chunked_twice(coding) {
        return Err(Refused::bad("transfer-encoding is chunked twice"));
    }
    Err(Refused::new(
        501,
        "only the transfer coding chunked is supported",
    ))
}

fn ends_chunked_twice(coding: &[u8]) -> bool {
    crate::http1::head::list(coding)
        .filter(|coding| coding.eq_ignore_ascii_case(b"chunked"))
        .count()
        > 1
}

/// The framing of the body of a final response (RFC 9112 §6.3); errors are the upstream's fault.
pub(crate) fn of_response(
    head: &[u8],
    fields: &Fields,
    minor_version: u8,
    status: u16,
    to_head: bool,
) -> Result<Framing, Refused> {
    let length = content_length(head, fields)?;
    let coding = fields.single(Name::TransferEncoding, head, "two transfer-encoding fields")?;
    if coding.is_some() && length.is_some() {
        return Err(Refused::bad("both content-length and transfer-encoding"));
    }
    if to_head || matches!(status, 204 | 304) {
        return Ok(Framing::None);
    }
    match (coding, length) {
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") && minor_version == 1 => {
            Ok(Framing::Chunked)
        }
        (Some(_), _) => Err(Refused::bad("an unknown transfer coding")),
        (None, Some(0)) => Ok(Framing::None),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::Close),
    }
}

/// One field, digits only: several fields and lists are refused even if they agree.
fn content_length(head: &[u8], fields: &Fields) -> Result<Option<u64>, Refused> {
    const INVALID: Refused = Refused::bad("content-length is not a number");
    let Some(text) = fields.single(Name::ContentLength, head, "two content-length fields")? else {
        return Ok(None);
    };
    if text.is_empty() || text.len() > 18 {
        return Err(INVALID);
    }
    text.iter()
        .try_fold(0u64, |length, byte| {
            byte.is_ascii_digit()
                .then(|| length * 10 + u64::from(byte - b'0'))
        })
        .map(Some)
        .ok_or(INVALID)
}

/// Follows a body through the bytes that arrive.
#[derive(Debug, Default)]
pub(crate) enum Decoder {
    /// All has arrived.
    #[default]
    Done,
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Until the end of the stream.
    Close,
}

/// What to do with the bytes at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Framing to drop.
    pub(crate) skip: usize,
    /// Then, body to take.
    pub(crate) data: usize,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Close => Self::Close,
        }
    }

    /// Whether the body has ended.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(chunked) => chunked.is_ended(),
            Self::Length(_) | Self::Close => false,
        }
    }

    /// How much of `input` is body that can be passed on as it is: none if the body is chunked.
    #[inline]
    pub(crate) fn verbatim(&self, input: &[u8]) -> Option<usize> {
        match self {
            Self::Length(left) => {
                Some(usize::try_from(*left).map_or(input.len(), |left| left.min(input.len())))
            }
            Self::Close => Some(input.len()),
            Self::Done | Self::Chunked(_) => None,
        }
    }

    /// Counts bytes that were passed on as they are.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        if let Self::Length(left) = self {
            *left -= n as u64;
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// The trailer fields of a chunked body that has ended.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(chunked) => chunked.trailers(),
            _ => &[],
        }
    }

    /// Takes the next piece of `input`; an empty piece means that more input is needed, or the end.
    #[inline]
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        match self {
            Self::Done => Ok(Piece { skip: 0, data: 0 }),
            Self::Close => Ok(Piece {
                skip: 0,
                data: input.len(),
            }),
            Self::Length(left) => {
                let data = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                self.advance(data);
                Ok(Piece { skip: 0, data })
            }
            Self::Chunked(chunked) => match chunked.decode(input)? {
                Step::Data { skip, data } => Ok(Piece { skip, data }),
                Step::More { skip } | Step::End { skip } => Ok(Piece { skip, data: 0 }),
            },
        }
    }

    /// The stream has ended: whether the body is complete.
    pub(crate) fn finish(&mut self) -> bool {
        if matches!(self, Self::Close) {
            *self = Self::Done;
        }
        self.is_done()
    }
}
