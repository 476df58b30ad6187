//! A file that is written from its beginning to its end, around the system's cache of pages: nobody reads
//! it soon, and to copy its bytes there, and clean them out again, takes processor time from spans.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::DiskFile;
use super::real::RealFile;

/// Places, lengths and memory are multiples of this: no disk that is in use wants more.
const BLOCK: usize = 4096;

/// The most that is written at once: more would only be memory.
const AT_ONCE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct DirectFile {
    file: RealFile,
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

impl DirectFile {
    /// Makes the file; an error if it is there already. `None`, and no file, if the file system takes no
    /// direct writes.
    pub(super) fn create(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        match options.open(path) {
            Ok(file) => Ok(Some(Self {
                file: RealFile(file),
                staging: Mutex::default(),
            })),
            // Linux makes the file before it finds that it cannot be opened so.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn file(&self) -> &File {
        &self.file.0
    }

    /// Writes whole blocks. Where they are too small for the disk below, this file is written as any other
    /// from then on.
    fn write(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        match self.file().write_all_at(blocks, at) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let flags = fcntl_getfl(self.file())?;
                if !flags.contains(OFlags::DIRECT) {
                    return Err(error);
                }
                tracing::debug!(%error, "this disk takes no direct writes");
                fcntl_setfl(self.file(), flags - OFlags::DIRECT)?;
                self.file().write_all_at(blocks, at)
            }
            outcome => outcome,
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

impl DiskFile for DirectFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(unsupported("a direct file is only written"))
    }

    /// What is behind the end of the file's bytes in the last block becomes zeros.
    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = &mut *staging;
        if staging.at + staging.filled as u64 != offset {
            return Err(unsupported(
                "a direct file is written from its beginning to its end",
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
                    self.write(staging.blocks(), at)?;
                    staging.advance();
                }
            }
        }
        if staging.filled > 0 {
            let at = staging.at;
            self.write(staging.blocks(), at)?;
            staging.advance();
        }
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size.next_multiple_of(BLOCK as u64))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_in_pieces_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let made = DirectFile::create(&path).unwrap();
        let file = made.expect("a file system that takes direct writes");
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
