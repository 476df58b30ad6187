//! The chunked transfer coding (RFC 9112 §7.1), strictly.

use thiserror::Error;

/// The most bytes of chunk extensions in one body; they are dropped.
const MOST_EXTENSION_BYTES: u32 = 16 * 1024;
/// The most bytes of a trailer section.
const MOST_TRAILER_BYTES: usize = 8 * 1024;
/// The most trailer fields.
const MOST_TRAILERS: usize = 64;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum ChunkError {
    #[error("a chunk size is not a hexadecimal number of at most 15 digits")]
    Size,
    #[error("the chunk extensions are malformed or over the limit")]
    Extension,
    #[error("a chunk does not end in CRLF")]
    End,
    #[error("the trailer section is malformed")]
    Trailer,
    #[error("the trailer section is over the limit")]
    TrailerLimit,
}

/// Decodes a chunked body.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    /// The size of the current chunk, then what is left of it.
    left: u64,
    extension_bytes: u32,
    /// The trailer section as it arrived, its final empty line included.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size0,
    Size {
        digits: u8,
    },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Ended,
}

/// What to do with the bytes at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Drop `skip` bytes, then take `data` bytes of body; at least one.
    Data { skip: usize, data: usize },
    /// Drop `skip` bytes; more input is needed.
    More { skip: usize },
    /// Drop `skip` bytes; the body has ended.
    End { skip: usize },
}

impl Chunked {
    /// Looks at the input up to the end of the next piece of body.
    pub(crate) fn decode(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            match self.state {
                State::Data => {
                    let here = input.len() - at;
                    let data = usize::try_from(self.left).map_or(here, |left| left.min(here));
                    self.left -= data as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step::Data { skip: at, data });
                }
                State::Trailers => return self.take_trailers(input, at),
                State::Ended => return Ok(Step::End { skip: at }),
                State::Size0 => {
                    self.left = digit(byte)?;
                    self.state = State::Size { digits: 1 };
                }
                State::Size { digits } => self.size(byte, digits)?,
                State::Extension => self.extension(byte)?,
                State::SizeLf => {
                    expect(byte, b'\n', ChunkError::Size)?;
                    self.state = if self.left == 0 {
                        State::Trailers
                    } else {
                        State::Data
                    };
                }
                State::DataCr => {
                    expect(byte, b'\r', ChunkError::End)?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect(byte, b'\n', ChunkError::End)?;
                    self.state = State::Size0;
                }
            }
            at += 1;
        }
        Ok(Step::More { skip: at })
    }

    /// Whether the body has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The trailer section of a body that has ended, if it has fields: lines that end in CRLF.
    pub(crate) fn trailers(&self) -> &[u8] {
        self.trailers.strip_suffix(b"\r\n").unwrap_or_default()
    }

    fn size(&mut self, byte: u8, digits: u8) -> Result<(), ChunkError> {
        match byte {
            b'\r' => self.state = State::SizeLf,
            b';' => self.state = State::Extension,
            // 15 digits fit with room to spare; nobody needs an exabyte.
            _ if digits < 15 => {
                self.left = self.left << 4 | digit(byte)?;
                self.state = State::Size { digits: digits + 1 };
            }
            _ => return Err(ChunkError::Size),
        }
        Ok(())
    }

    fn extension(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        match byte {
            b'\r' => self.state = State::SizeLf,
            _ if self.extension_bytes > MOST_EXTENSION_BYTES => return Err(ChunkError::Extension),
            b'\t' | b' '..=b'~' => {}
            _ => return Err(ChunkError::Extension),
        }
        Ok(())
    }

    /// Collects the trailer section, which nearly always is just the empty line.
    fn take_trailers(&mut self, input: &[u8], from: usize) -> Result<Step, ChunkError> {
        let rest = &input[from..];
        if self.trailers.is_empty() && rest.starts_with(b"\r\n") {
            self.state = State::Ended;
            return Ok(Step::End { skip: from + 2 });
        }
        for (i, byte) in rest.iter().enumerate() {
            self.trailers.push(*byte);
            if *byte == b'\n' {
                if !self.trailers.ends_with(b"\r\n") {
                    return Err(ChunkError::Trailer);
                }
                if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                    check_trailers(&self.trailers)?;
                    self.state = State::Ended;
                    return Ok(Step::End { skip: from + i + 1 });
                }
            }
            if self.trailers.len() > MOST_TRAILER_BYTES {
                return Err(ChunkError::TrailerLimit);
            }
        }
        Ok(Step::More { skip: input.len() })
    }
}

fn check_trailers(section: &[u8]) -> Result<(), ChunkError> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if length == section.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(ChunkError::TrailerLimit),
        _ => Err(ChunkError::Trailer),
    }
}

fn expect(byte: u8, wanted: u8, error: ChunkError) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(error) }
}

fn digit(byte: u8) -> Result<u64, ChunkError> {
    (byte as char)
        .to_digit(16)
        .map(u64::from)
        .ok_or(ChunkError::Size)
}

/// Appends the head of a chunk.
pub(crate) fn append_chunk_head(out: &mut Vec<u8>, size: usize) {
    debug_assert!(size > 0, "a chunk of size zero is the last one");
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * i) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
