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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes a whole input given in parts: the body, the trailers, and what was left over.
    fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, usize), ChunkError> {
        let mut chunked = Chunked::default();
        let mut body = Vec::new();
        let mut left_over = 0;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() && !chunked.is_ended() {
                match chunked.decode(rest)? {
                    Step::Data { skip, data } => {
                        body.extend_from_slice(&rest[skip..skip + data]);
                        rest = &rest[skip + data..];
                    }
                    Step::More { skip } => {
                        assert_eq!(skip, rest.len(), "waits with input at hand");
                        rest = &[];
                    }
                    Step::End { skip } => rest = &rest[skip..],
                }
            }
            left_over += rest.len();
        }
        assert!(chunked.is_ended(), "not complete");
        Ok((body, chunked.trailers().to_vec(), left_over))
    }

    fn encode(chunks: &[Vec<u8>], extension: &str, trailers: &[(String, String)]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            append_chunk_head(&mut out, chunk.len());
            out.truncate(out.len() - 2);
            out.extend_from_slice(extension.as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_decodes_to_the_same_however_it_is_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..6),
            extension in "(;[a-z]{0,5}(=\"[a-z ]{0,5}\")?)?",
            trailers in prop::collection::vec(("[a-z-]{1,10}", "[!-~]{0,10}"), 0..3),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            next in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = encode(&chunks, &extension, &trailers);
            bytes.extend_from_slice(&next);
            let mut at: Vec<_> = cuts.drain(..).map(|cut| cut.index(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let parts: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (body, section, left_over) = decode(&parts).expect("valid");
            prop_assert_eq!(body, chunks.concat());
            let lines: String = trailers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            prop_assert_eq!(String::from_utf8(section).expect("text"), lines);
            prop_assert_eq!(left_over, next.len());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_without_a_panic(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b';')],
                0..200,
            ),
        ) {
            let mut chunked = Chunked::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() && !chunked.is_ended() {
                let used = match chunked.decode(rest) {
                    Ok(Step::Data { skip, data }) => skip + data,
                    Ok(Step::More { skip } | Step::End { skip }) => skip,
                    Err(_) => break,
                };
                prop_assert!(used > 0 && used <= rest.len());
                rest = &rest[used..];
            }
        }
    }

    #[test]
    fn chunk_heads_are_short_hex() {
        for (size, expected) in [
            (1, "1\r\n"),
            (10, "a\r\n"),
            (16, "10\r\n"),
            (16_384, "4000\r\n"),
        ] {
            let mut out = Vec::new();
            append_chunk_head(&mut out, size);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn what_is_malformed_is_refused_at_its_first_bad_byte() {
        for (input, error) in [
            ("g\r\n", ChunkError::Size),
            ("1 \r\n", ChunkError::Size),
            ("\r\n", ChunkError::Size),
            ("1\n", ChunkError::Size),
            ("1\r\r", ChunkError::Size),
            ("1234567890123456\r\n", ChunkError::Size),
            ("1;a\n", ChunkError::Extension),
            ("1\r\nab", ChunkError::End),
            ("1\r\na\n", ChunkError::End),
            ("0\r\na\n", ChunkError::Trailer),
            ("0\r\na b: c\r\n\r\n", ChunkError::Trailer),
        ] {
            let mut chunked = Chunked::default();
            let mut rest = input.as_bytes();
            let found = loop {
                match chunked.decode(rest) {
                    Ok(Step::Data { skip, data }) => rest = &rest[skip + data..],
                    Ok(step) => break Ok(step),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(found, Err(error), "{input:?}");
        }
    }
}
