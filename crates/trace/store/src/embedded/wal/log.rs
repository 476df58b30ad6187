use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, Seed};
use super::{Kind, Position, path};
use crate::embedded::disk::{Disk, DiskFile, is_full, is_out_of_files};

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// The size of its files; one that holds a single large batch may be larger.
    pub(crate) file_bytes: u64,
    /// Whether an append waits until the bytes are on stable storage.
    pub(crate) sync: bool,
}

/// Why an append failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// There is no room, on the disk or for open files. Nothing of it is in the log; trying again
    /// later is fine.
    Full(io::Error),
    /// It is not known what the disk holds: the log must not be written any more.
    Broken {
        action: &'static str,
        source: io::Error,
    },
}

/// Tells somebody the number of a file before the first record comes into it.
pub(crate) type Announce = Box<dyn FnMut(u64) -> Result<(), AppendError> + Send>;

/// The end of the log, where it is written.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store_id: u64,
    options: LogOptions,
    /// The file to write; none until something is to be written.
    file: Option<Arc<dyn DiskFile>>,
    /// How many bytes are reserved in it.
    reserved: u64,
    end: Position,
    sequence: u64,
    announce: Option<Announce>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// A log that goes on in a new file, `number`, behind what `sequence` counted.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        store_id: u64,
        options: LogOptions,
        (number, sequence): (u64, u64),
    ) -> Self {
        Self {
            disk,
            dir,
            store_id,
            options,
            file: None,
            reserved: 0,
            end: Position {
                file: number,
                offset: 0,
            },
            sequence,
            announce: None,
        }
    }

    /// With somebody who is told of each file, so that one that is lost is missed.
    pub(crate) fn announced_to(mut self, announce: Announce) -> Self {
        self.announce = Some(announce);
        self
    }

    /// Writes the bodies, syncs once, and says where each one's record ends.
    pub(crate) fn append<'a>(
        &mut self,
        received_unix_nano: u64,
        bodies: impl Iterator<Item = (Kind, &'a [u8])> + Clone,
    ) -> Result<Vec<Position>, AppendError> {
        let size: usize = bodies
            .clone()
            .map(|(_, body)| record::size(body.len()))
            .sum();
        let file = self.room(size as u64)?;
        let seed = Seed::new(self.store_id, self.end.file);
        let (mut heads, mut ends) = (Vec::new(), Vec::new());
        let mut end = self.end;
        for (kind, body) in bodies.clone() {
            let head = (kind, self.sequence, received_unix_nano);
            heads.push(record::head(seed, end.offset, head, body));
            self.sequence += 1;
            end.offset += record::size(body.len()) as u64;
            ends.push(end);
        }
        let pieces = heads.iter().zip(bodies);
        // Bodies are written from where they are: to copy them would take as long as to write them.
        let pieces: Vec<&[u8]> = pieces
            .flat_map(|(head, (_, body))| [&head[..], body, record::padding(body.len())])
            .collect();
        if let Err(error) = file.write_pieces_at(&pieces, self.end.offset) {
            return Err(self.undo(&*file, error));
        }
        if self.options.sync
            && let Err(source) = file.sync()
        {
            return Err(AppendError::Broken {
                action: "syncing the log",
                source,
            });
        }
        self.end = end;
        Ok(ends)
    }

    /// The file to write, with this much room behind its end; a new one if the last one is full.
    fn room(&mut self, size: u64) -> Result<Arc<dyn DiskFile>, AppendError> {
        if let Some(file) = &self.file {
            if self.end.offset + size <= self.reserved {
                return Ok(Arc::clone(file));
            }
            // What is reserved and not used is given back: the file ends here.
            let end = self.end.offset;
            let closed = file.truncate(end).and_then(|()| file.sync());
            closed.map_err(|source| AppendError::Broken {
                action: "closing a file of the log",
                source,
            })?;
            self.file = None;
            self.end = Position {
                file: self.end.file + 1,
                offset: 0,
            };
        }
        let path = path(&self.dir, self.end.file);
        let wanted = self.options.file_bytes.max(size);
        let made = self.make(&path, wanted).or_else(|error| {
            // On a disk that is nearly full, a file for this one group may still fit.
            if is_full(&error) && size < wanted {
                self.make(&path, size)
            } else {
                Err(error)
            }
        });
        match made {
            Ok((file, reserved)) => {
                if let Some(announce) = &mut self.announce {
                    announce(self.end.file)?;
                }
                self.reserved = reserved;
                Ok(Arc::clone(self.file.insert(file)))
            }
            Err(error) if is_full(&error) || is_out_of_files(&error) => {
                Err(AppendError::Full(error))
            }
            Err(source) => Err(AppendError::Broken {
                action: "making a file of the log",
                source,
            }),
        }
    }

    fn make(&self, path: &Path, size: u64) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let made = match self.options.sync {
            true => self.disk.create_to_append(path),
            // It is the system that is to write it, later.
            false => self.disk.create(path),
        };
        let file = match made {
            // Left of an attempt before, which could not even be taken back.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open_to_write(path)?;
                file.truncate(0)?;
                file
            }
            file => file?,
        };
        let ready = file
            .allocate(size)
            .and_then(|()| file.sync())
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = ready {
            // Its number is free again only if its name is.
            self.disk.remove(path)?;
            return Err(error);
        }
        Ok((file, size))
    }

    /// Takes back what a failed write may have left.
    fn undo(&mut self, file: &dyn DiskFile, error: io::Error) -> AppendError {
        if !is_full(&error) {
            return AppendError::Broken {
                action: "writing the log",
                source: error,
            };
        }
        let undone = file.truncate(self.end.offset).and_then(|()| file.sync());
        if let Err(source) = undone {
            return AppendError::Broken {
                action: "taking back a write to the log",
                source,
            };
        }
        self.reserved = self.end.offset;
        AppendError::Full(error)
    }
}
