//! Bodies: read with a limit, decompressed with a limit.

use std::io::{self, Read};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;

use crate::limits::{Limits, Share};
use crate::{Reason, Refusal};

/// How much a decompressor may write before the limit is looked at again.
const STEP: usize = 64 << 10;

/// The largest window that a zstd frame may ask for, as a power of two: 16 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// A content encoding that the receivers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    /// From `Content-Encoding`; an absent or empty header is identity.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" | "zlib" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Refusal::new(
                Reason::UnsupportedEncoding,
                format!(
                    "unsupported content encoding '{name}': send identity, gzip, deflate or zstd"
                ),
            )),
        }
    }
}

/// Room that is made for a body that was announced, before any of it has come. It takes no memory until
/// something is written to it.
const ROOM: usize = 8 << 20;

/// Reads a body as it came over the wire.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let limit = limits.max_body_bytes;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large("body", limit));
    }
    let reading = async {
        let mut buffer = BytesMut::with_capacity(announced.unwrap_or_default().min(ROOM));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Refusal::new(Reason::Aborted, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if buffer.len() + data.len() > limit {
                return Err(too_large("body", limit));
            }
            claim(share, data.len())?;
            buffer.extend_from_slice(&data);
        }
        Ok(buffer.freeze())
    };
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Refusal::new(
            Reason::Timeout,
            format!(
                "the body did not arrive within {} s",
                limits.body_timeout.as_secs_f32()
            ),
        )),
    }
}

/// Decompresses a body; what comes out never grows over `limit`.
pub(crate) fn decompress(
    encoding: Encoding,
    body: &[u8],
    limit: usize,
    share: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    match encoding {
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Gzip => drain(MultiGzDecoder::new(body), "gzip", limit, share),
        Encoding::Deflate if is_zlib(body) => {
            drain(ZlibDecoder::new(body), "deflate", limit, share)
        }
        Encoding::Deflate => drain(DeflateDecoder::new(body), "deflate", limit, share),
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::new(body).map_err(|error| corrupt("zstd", &error))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|error| corrupt("zstd", &error))?;
            drain(decoder, "zstd", limit, share)
        }
    }
}

fn drain(
    mut reader: impl Read,
    name: &str,
    limit: usize,
    share: &mut Share,
) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    loop {
        let before = out.len();
        reader
            .by_ref()
            .take(STEP as u64)
            .read_to_end(&mut out)
            .map_err(|error| corrupt(name, &error))?;
        let read = out.len() - before;
        if read == 0 {
            return Ok(out);
        }
        if out.len() > limit {
            return Err(too_large("decompressed body", limit));
        }
        claim(share, read)?;
    }
}

/// HTTP's `deflate` is zlib (RFC 9110 §8.4.1.2), but bare deflate streams are sent too.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [first, second, ..] => {
            first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
        }
        _ => true,
    }
}

fn claim(share: &mut Share, bytes: usize) -> Result<(), Refusal> {
    if share.grow(bytes) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::Busy,
        "the receiver is busy with other requests; send again later",
    ))
}

fn too_large(what: &str, limit: usize) -> Refusal {
    Refusal::new(
        Reason::TooLarge,
        format!("the {what} is larger than {limit} bytes: send smaller batches"),
    )
}

fn corrupt(name: &str, error: &io::Error) -> Refusal {
    Refusal::new(
        Reason::CorruptEncoding,
        format!("the body is not valid {name}: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::limits::Budget;

    fn encoded(encoding: Encoding, data: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match encoding {
            Encoding::Identity => data.to_vec(),
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(data, 3).unwrap(),
        }
    }

    #[test]
    fn every_encoding_is_read_and_bounded() {
        let data = vec![b'x'; 300_000];
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let body = encoded(encoding, &data);
            let budget = Budget::new(1 << 20);
            let read = decompress(encoding, &body, 300_000, &mut budget.share()).unwrap();
            assert_eq!(read, data, "{encoding:?}");

            let refusal = decompress(encoding, &body, 299_999, &mut budget.share()).unwrap_err();
            assert_eq!(refusal.reason, Reason::TooLarge, "{encoding:?}");

            let small = Budget::new(100_000);
            let refusal = decompress(encoding, &body, 300_000, &mut small.share()).unwrap_err();
            assert_eq!(refusal.reason, Reason::Busy, "{encoding:?}");

            let cut = &body[..body.len() / 2];
            let refusal = decompress(encoding, cut, 300_000, &mut budget.share()).unwrap_err();
            assert_eq!(refusal.reason, Reason::CorruptEncoding, "{encoding:?}");
        }
    }

    #[test]
    fn bare_deflate_is_read_too() {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"[{}]").unwrap();
        let body = encoder.finish().unwrap();
        let budget = Budget::new(1 << 20);
        let read = decompress(Encoding::Deflate, &body, 100, &mut budget.share()).unwrap();
        assert_eq!(read, b"[{}]");
    }

    #[test]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"small").unwrap();
        let body = encoder.finish().unwrap();
        let budget = Budget::new(1 << 20);
        let refusal = decompress(Encoding::Zstd, &body, 100, &mut budget.share()).unwrap_err();
        assert_eq!(refusal.reason, Reason::CorruptEncoding);
    }
}
