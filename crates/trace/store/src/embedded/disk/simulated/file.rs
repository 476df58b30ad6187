//! The files of the simulated disk.

use std::io;
use std::sync::Arc;

use super::state::{Change, put};
use super::{EIO, Fault, SimulatedDisk};
use crate::embedded::disk::staged::BLOCK;
use crate::embedded::disk::{DiskFile, is_full};

#[derive(Debug)]
pub(super) struct SimulatedFile {
    pub(super) disk: SimulatedDisk,
    pub(super) at: usize,
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.at].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.read()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = (state.files[self.at].bytes)
            .get(start..start.saturating_add(buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        let bytes = &pieces.concat()[..];
        let mut state = self.disk.state();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset.saturating_add(bytes.len());
        let outcome = state.operation().and_then(|()| state.room(self.at, end));
        let full = outcome.as_ref().is_err_and(is_full);
        if outcome.is_err() && !full {
            return outcome;
        }
        let written = if full && state.limit.is_none() {
            &bytes[..bytes.len() / 2]
        } else if full {
            &[]
        } else {
            bytes
        };
        state.files[self.at].change(Change::Write(offset, written.to_vec()));
        outcome
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        state.room(self.at, size)?;
        let file = &mut state.files[self.at];
        if size > file.bytes.len() {
            file.change(Change::Size(size));
        }
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        state.files[self.at].change(Change::Size(size));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let number = state.operations;
        let outcome = state.operation();
        let failed =
            state.fails_once(|fault| matches!(fault, Fault::FailedSync(from) if number >= *from));
        let file = &mut state.files[self.at];
        if outcome.is_ok() && !failed {
            for change in std::mem::take(&mut file.pending) {
                match change {
                    Change::Write(offset, bytes) => put(&mut file.durable, offset, &bytes),
                    Change::Size(size) => file.durable.resize(size, 0),
                }
            }
        }
        if failed {
            // The system has marked the pages as clean: no later sync writes them.
            file.pending.clear();
            return Err(io::Error::from_raw_os_error(EIO));
        }
        outcome
    }
}

/// A file without a cache above it: whoever writes anything but whole blocks from where blocks begin is
/// refused, as Linux does.
#[derive(Debug)]
pub(super) struct BlockFile(pub(super) Arc<dyn DiskFile>);

impl DiskFile for BlockFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        let are_blocks = offset.is_multiple_of(BLOCK as u64)
            && pieces.iter().all(|piece| {
                piece.as_ptr().align_offset(BLOCK) == 0 && piece.len().is_multiple_of(BLOCK)
            });
        match are_blocks {
            true => self.0.write_pieces_at(pieces, offset),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
