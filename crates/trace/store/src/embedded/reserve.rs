//! A file that takes room, so that there is some when the disk is full: segments are dropped by an edit
//! of the manifest, and a start writes a new one.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;

const NAME: &str = "RESERVE";

/// Takes the room, unless that was done before.
pub(super) fn fill(disk: &dyn Disk, data: &Path, bytes: u64) -> io::Result<()> {
    let path = path(data);
    let there = disk.open(&path).and_then(|file| file.size());
    match there {
        Ok(size) if size == bytes => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => disk.remove(&path)?,
    }
    if bytes == 0 {
        return Ok(());
    }
    let file = disk.create(&path)?;
    // Some file systems take no room for zeros.
    let noise = (0..bytes).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
    let filled = file
        .write_at(&noise.collect::<Vec<u8>>(), 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.sync_dir(data));
    if filled.is_err() {
        disk.remove(&path)?;
    }
    filled
}

/// Gives the room back; `false` if there was none.
pub(super) fn release(disk: &dyn Disk, data: &Path) -> bool {
    disk.remove(&path(data)).is_ok()
}

fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}
