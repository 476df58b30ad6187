//! A file that is written from its beginning to its end, in whole blocks: what a disk takes that is written
//! without a cache above it. The last block is written again with what comes next.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::DiskFile;

/// Places, lengths and memory are multiples of this: no disk that is in use wants more.
pub(super) const BLOCK: usize = 4096;

/// The most that is written at once: more would only be memory.
const AT_ONCE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct StagedFile {
    /// Takes whole blocks only.
    below: Arc<dyn DiskFile>,
    staging: Mutex<Staging>,
}

/// What is about to be written. The last block that was is kept, since the next write begins in it.
#[derive(Debug, Default)]
struct Staging {
    /// Whole blocks from [`Self::start`] on, with room in front to begin at a multiple of [`BLOCK`].
    memory: Vec<u8>,
    /// Where the blocks lie in the file.
    at: u64,
    /// How many bytes of them there are.
    filled: usize,
}

impl StagedFile {
    /// Above a file that was made just now.
    pub(super) fn new(below: Arc<dyn DiskFile>) -> Self {
        Self {
            below,
            staging: Mutex::default(),
        }
    }
}

impl Staging {
    /// Where whole blocks begin: memory does not move while its capacity lasts.
    fn start(&self) -> usize {
        self.memory.as_ptr().align_offset(BLOCK)
    }

    /// Makes room for so many bytes behind those that are filled, up to [`AT_ONCE`] of both.
    fn make_room(&mut self, more: usize) {
        let wanted = (self.filled + more).min(AT_ONCE).next_multiple_of(BLOCK);
        if self.memory.len() < BLOCK + wanted {
            let mut larger = Staging {
                memory: vec![0; BLOCK + wanted],
                ..*self
            };
            if self.filled > 0 {
                let (from, to) = (self.start(), larger.start());
                larger.memory[to..][..self.filled]
                    .copy_from_slice(&self.memory[from..][..self.filled]);
            }
            *self = larger;
        }
    }

    /// The blocks, the last one filled up with zeros.
    fn blocks(&mut self) -> &[u8] {
        let start = self.start();
        let whole = self.filled.next_multiple_of(BLOCK);
        self.memory[start + self.filled..start + whole].fill(0);
        &self.memory[start..start + whole]
    }

    /// Goes on with the block that is not full.
    fn advance(&mut self) {
        let written = self.filled - self.filled % BLOCK;
        let start = self.start();
        self.memory
            .copy_within(start + written..start + self.filled, start);
        self.at += written as u64;
        self.filled -= written;
    }
}

impl DiskFile for StagedFile {
    fn size(&self) -> io::Result<u64> {
        self.below.size()
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(unsupported("such a file is only written"))
    }

    /// What is behind the end of the file's bytes in the last block becomes zeros.
    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = &mut *staging;
        if staging.at + staging.filled as u64 != offset {
            return Err(unsupported(
                "such a file is written from its beginning to its end",
            ));
        }
        let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                staging.make_room(left);
                let room = AT_ONCE - staging.filled;
                let (now, later) = rest.split_at(room.min(rest.len()));
                let to = staging.start() + staging.filled;
                staging.memory[to..to + now.len()].copy_from_slice(now);
                staging.filled += now.len();
                left -= now.len();
                rest = later;
                if staging.filled == AT_ONCE {
                    let at = staging.at;
                    self.below.write_at(staging.blocks(), at)?;
                    staging.advance();
                }
            }
        }
        if staging.filled > 0 {
            let at = staging.at;
            self.below.write_at(staging.blocks(), at)?;
            staging.advance();
        }
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.below.allocate(size.next_multiple_of(BLOCK as u64))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.below.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.below.sync()
    }
}

pub(super) fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::super::direct::DirectFile;
    use super::*;

    #[test]
    fn what_is_appended_in_pieces_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let made = DirectFile::create(&path).unwrap();
        let made = made.expect("a file system that takes direct writes");
        let file = StagedFile::new(Arc::new(made));
        file.allocate(5 << 20).unwrap();
        let mut expected = Vec::new();
        for (number, length) in [1, 4095, 4096, 4097, 0, 3 << 20, 7, AT_ONCE, 12_345]
            .into_iter()
            .enumerate()
        {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + number) as u8 | 1).collect();
            let (first, second) = bytes.split_at(length / 3);
            let offset = expected.len() as u64;
            file.write_pieces_at(&[first, &[], second], offset).unwrap();
            file.sync().unwrap();
            expected.extend_from_slice(&bytes);
            let found = std::fs::read(&path).unwrap();
            assert!(found.starts_with(&expected), "{length} bytes");
            assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
        }
        assert!(file.staging.lock().unwrap().memory.len() <= AT_ONCE + BLOCK);

        let end = expected.len() as u64;
        for elsewhere in [0, end - 1, end + 1] {
            let refused = file.write_pieces_at(&[b"x"], elsewhere).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::Unsupported, "{elsewhere}");
        }
        file.truncate(end).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        let again = DirectFile::create(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
