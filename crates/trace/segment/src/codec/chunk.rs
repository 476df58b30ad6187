//! The frame of everything in a segment: `length: u32`, `crc32c: u32`, both little-endian, then that
//! many bytes.

use std::thread;

use crate::ReadError;

/// Where a chunk lies in the file, its frame included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    /// Zero if there is none.
    pub(crate) length: u32,
}

/// What a frame takes.
pub(crate) const FRAME: usize = 8;

/// Appends a frame and what it holds. To make all chunks of a row group takes long: after each, who waits
/// for the processor may have it.
pub(crate) fn put_chunk(out: &mut Vec<u8>, payload: &[u8]) -> Chunk {
    thread::yield_now();
    let offset = out.len() as u64;
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
    Chunk {
        offset,
        length: (payload.len() + FRAME) as u32,
    }
}

/// What a frame holds, if the bytes are those that were written.
pub(crate) fn check_chunk(frame: &[u8], name: impl Fn() -> String) -> Result<&[u8], ReadError> {
    let damaged = |reason| ReadError::damaged(name(), reason);
    let Some((head, payload)) = frame.split_first_chunk::<FRAME>() else {
        return Err(damaged("it is cut short"));
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    if u32::from_le_bytes([l0, l1, l2, l3]) as usize != payload.len() {
        return Err(damaged("its length is wrong"));
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != crc32c::crc32c(payload) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(payload)
}
