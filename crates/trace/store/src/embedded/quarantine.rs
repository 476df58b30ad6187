//! Copies of what could not be read, for whoever can make something of it.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, read_file};

/// The directory of the copies.
const DIR: &str = "quarantine";

/// No more copies are made when there are so many bytes.
const MAX_BYTES: u64 = 1 << 30;

/// How many copies of one name there may be.
const MAX_COPIES: u32 = 100;

/// The directory of the copies.
pub(super) fn dir(data: &Path) -> PathBuf {
    data.join(DIR)
}

/// Keeps a copy of these bytes, durably; where it is. One that is there already is enough.
pub(super) fn keep(disk: &dyn Disk, data: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let used = used_bytes(disk, data)?;
    for number in 0..MAX_COPIES {
        let path = path(data, name, number);
        let file = match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if read_file(disk, &path)? == bytes {
                    return Ok(path);
                }
                continue;
            }
            created => created?,
        };
        if used + bytes.len() as u64 > MAX_BYTES {
            disk.remove(&path)?;
            return Err(io::Error::other(format!(
                "{} holds {used} bytes already; empty it",
                dir(data).display()
            )));
        }
        let written = file.write_at(bytes, 0).and_then(|()| file.sync());
        if let Err(error) = written {
            disk.remove(&path)?;
            return Err(error);
        }
        disk.sync_dir(&dir(data))?;
        return Ok(path);
    }
    Err(too_many(name))
}

/// Puts a file aside; where it is then.
pub(super) fn move_file(disk: &dyn Disk, data: &Path, from: &Path) -> io::Result<PathBuf> {
    let name = from.file_stem().unwrap_or_default().to_string_lossy();
    let there = disk.list(&dir(data))?;
    for number in 0..MAX_COPIES {
        let to = path(data, &format!("segment-{name}"), number);
        if there.iter().any(|name| dir(data).join(name) == to) {
            continue;
        }
        disk.rename(from, &to)?;
        disk.sync_dir(&dir(data))?;
        if let Some(parent) = from.parent() {
            disk.sync_dir(parent)?;
        }
        return Ok(to);
    }
    Err(too_many(&name))
}

/// How many bytes the copies have.
pub(super) fn used_bytes(disk: &dyn Disk, data: &Path) -> io::Result<u64> {
    let dir = dir(data);
    let mut bytes = 0;
    for name in disk.list(&dir)? {
        bytes += disk.open(&dir.join(name))?.size()?;
    }
    Ok(bytes)
}

fn path(data: &Path, name: &str, number: u32) -> PathBuf {
    let name = match number {
        0 => format!("{name}.bin"),
        _ => format!("{name}.{number}.bin"),
    };
    dir(data).join(name)
}

fn too_many(name: &str) -> io::Error {
    io::Error::other(format!("there are {MAX_COPIES} copies of {name} already"))
}
