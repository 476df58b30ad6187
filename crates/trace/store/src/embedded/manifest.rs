//! Which segments there are, and from where the log is to be replayed: the only mutable truth.
//!
//! ```text
//! CURRENT                "MANIFEST-000003\n", replaced by a rename
//! MANIFEST-000003        a line per edit: crc32c of the rest in hex, a space, the edit as JSON
//! ```
//!
//! An edit is one line, so it is there as a whole or not at all. The last line may be torn: then the
//! edit was never finished, what it would have removed is still there, and what it would have added
//! is put aside. A store that is opened writes a fresh manifest, and so does one whose manifest has
//! grown, so the log of edits stays short.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, is_full, read_file};
use super::part::Chunk;
use super::partition;
use super::wal::Position;
use crate::TimeRange;

/// The version of everything in the directory.
const FORMAT: u32 = 1;

const CURRENT: &str = "CURRENT";

/// What becomes [`CURRENT`] in one step.
const CURRENT_NEW: &str = "CURRENT.new";

/// A manifest is written anew when it has so many bytes, and four times those of its first line.
const ROLL_BYTES: u64 = 256 << 10;

/// What is known of a segment without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its number: the name of its file.
    pub id: u64,
    /// The hour that it belongs to, in hours since the Unix epoch: the name of its directory.
    pub hour: u64,
    /// The size of its file.
    pub bytes: u64,
    /// How many spans it has.
    pub spans: u64,
    /// How many traces have spans in it.
    pub traces: u64,
    /// The start of its first span, nanoseconds since the Unix epoch.
    pub min_start_unix_nano: u64,
    /// The start of its last span.
    pub max_start_unix_nano: u64,
    /// The number of merges behind it.
    #[serde(default)]
    pub level: u32,
    /// When it was written, nanoseconds since the Unix epoch.
    #[serde(default)]
    pub written_unix_nano: u64,
    /// If it was merged from others: the least and the greatest number of those that were written
    /// from tables. See [`Self::covers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_from: Option<(u64, u64)>,
    /// The row groups that were found to be damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_groups: Vec<u32>,
    /// Whether a part was found to be damaged that all row groups need.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

impl SegmentEntry {
    /// When its spans came, as the least and the greatest number of a segment that was written from a
    /// table. Two segments that overlap in this share no trace, so that the spans of a trace are in
    /// the order in which they came when the segments are in this order.
    pub fn covers(&self) -> (u64, u64) {
        self.merged_from.unwrap_or((self.id, self.id))
    }

    /// Whether some of its spans may start in a range.
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        let (first, last) = (self.min_start_unix_nano, self.max_start_unix_nano);
        Chunk { first, last }.overlaps(range)
    }

    /// Whether a part of it was found to be damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged || !self.damaged_groups.is_empty()
    }

    /// The hour that it belongs to, such as `2026-11-22T08`, in UTC.
    pub fn hour_name(&self) -> String {
        partition::name(self.hour)
    }
}

/// One change. All of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Edit {
    /// The version of the directory; in the first edit only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<u32>,
    /// What the directory's checksums are seeded with; in the first edit only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<u64>,
    /// New segments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) add: Vec<SegmentEntry>,
    /// Segments that are no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remove: Vec<u64>,
    /// All before this place of the log is in segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replay_from: Option<Position>,
    /// Every number of a segment is below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_segment: Option<u64>,
    /// The log has files up to this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_file: Option<u64>,
}

impl Edit {
    /// Whether files can be removed once it is made.
    pub(super) fn frees_room(&self) -> bool {
        !self.remove.is_empty() || self.replay_from.is_some()
    }
}

/// What the edits add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) store_id: u64,
    pub(super) segments: BTreeMap<u64, SegmentEntry>,
    pub(super) replay_from: Position,
    pub(super) next_segment: u64,
    pub(super) log_file: Option<u64>,
}

impl Contents {
    fn apply(&mut self, edit: &Edit) {
        for id in &edit.remove {
            self.segments.remove(id);
        }
        for entry in &edit.add {
            self.next_segment = self.next_segment.max(entry.id.saturating_add(1));
            self.segments.insert(entry.id, entry.clone());
        }
        self.replay_from = self.replay_from.max(edit.replay_from.unwrap_or_default());
        self.next_segment = self.next_segment.max(edit.next_segment.unwrap_or_default());
        self.log_file = self.log_file.max(edit.log_file);
    }

    fn as_edit(&self) -> Edit {
        Edit {
            format: Some(FORMAT),
            store: Some(self.store_id),
            add: self.segments.values().cloned().collect(),
            remove: Vec::new(),
            replay_from: Some(self.replay_from),
            next_segment: Some(self.next_segment),
            log_file: self.log_file,
        }
    }
}

/// Why an edit failed.
#[derive(Debug)]
pub(super) enum EditError {
    /// There is no room; nothing changed, and trying again later is fine.
    Full(io::Error),
    /// It is not known whether the edit is on the disk.
    Broken(io::Error),
}

/// The open manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    number: u64,
    file: Arc<dyn DiskFile>,
    size: u64,
    first_line: u64,
    contents: Contents,
    /// An edit is in a state that nobody knows.
    broken: bool,
}

impl Manifest {
    /// Reads the manifest of a directory, or makes one, and starts a fresh file. Says, too, whether
    /// the last edit was torn.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<(Self, bool)> {
        let (contents, number, torn) = match read(&*disk, dir)? {
            Some(found) => found,
            None => (
                Contents {
                    store_id: random()?,
                    ..Contents::default()
                },
                0,
                false,
            ),
        };
        let (file, size) = prepare(&*disk, dir, &contents, number + 1)?;
        publish(&*disk, dir, number + 1)?;
        let manifest = Self {
            disk,
            dir: dir.to_owned(),
            number: number + 1,
            file,
            size,
            first_line: size,
            contents,
            broken: false,
        };
        Ok((manifest, torn))
    }

    /// Reads the manifest without changing anything; `None` if there is none.
    pub(super) fn peek(disk: &dyn Disk, dir: &Path) -> io::Result<Option<(Contents, bool)>> {
        Ok(read(disk, dir)?.map(|(contents, _, torn)| (contents, torn)))
    }

    /// Makes a change, durably.
    pub(super) fn edit(&mut self, edit: &Edit) -> Result<(), EditError> {
        if self.broken {
            return Err(EditError::Broken(io::Error::other(
                "an earlier edit of the manifest failed; restart when the disk is well",
            )));
        }
        if self.size > ROLL_BYTES.max(4 * self.first_line) {
            self.roll()?;
        }
        let line = line(edit).map_err(EditError::Broken)?;
        if let Err(error) = self.file.write_at(&line, self.size) {
            return Err(self.undo(error));
        }
        if let Err(error) = self.file.sync() {
            self.broken = true;
            return Err(EditError::Broken(error));
        }
        self.size += line.len() as u64;
        self.contents.apply(edit);
        Ok(())
    }

    /// Goes on in a fresh file. Where none can be made, the old one is as good.
    fn roll(&mut self) -> Result<(), EditError> {
        let number = self.number + 1;
        let (file, size) = match prepare(&*self.disk, &self.dir, &self.contents, number) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::warn!(%error, "the manifest cannot be written anew");
                let _ = remove_if_there(&*self.disk, &self.dir.join(name(number)));
                return Ok(());
            }
        };
        if let Err(error) = publish(&*self.disk, &self.dir, number) {
            // Which of the two counts is not known, so none must get an edit.
            self.broken = true;
            return Err(EditError::Broken(error));
        }
        self.number = number;
        self.file = file;
        self.size = size;
        self.first_line = size;
        Ok(())
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    fn undo(&mut self, error: io::Error) -> EditError {
        let undone = self
            .file
            .truncate(self.size)
            .and_then(|()| self.file.sync());
        if undone.is_ok() && is_full(&error) {
            return EditError::Full(error);
        }
        self.broken = true;
        EditError::Broken(error)
    }
}

/// Writes a manifest that says this, and what will name it.
fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    contents: &Contents,
    number: u64,
) -> io::Result<(Arc<dyn DiskFile>, u64)> {
    let path = dir.join(name(number));
    // A start that failed half-way leaves one behind.
    remove_if_there(disk, &path)?;
    let file = disk.create(&path)?;
    let line = line(&contents.as_edit())?;
    file.write_at(&line, 0)?;
    file.sync()?;
    let temporary = dir.join(CURRENT_NEW);
    remove_if_there(disk, &temporary)?;
    let pointer = disk.create(&temporary)?;
    pointer.write_at(format!("{}\n", name(number)).as_bytes(), 0)?;
    pointer.sync()?;
    disk.sync_dir(dir)?;
    Ok((file, line.len() as u64))
}

/// Makes a manifest that was prepared the one that counts, and removes all others.
fn publish(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    disk.rename(&dir.join(CURRENT_NEW), &dir.join(CURRENT))?;
    disk.sync_dir(dir)?;
    for other in disk.list(dir)? {
        if other.starts_with("MANIFEST-")
            && other != name(number)
            && let Err(error) = disk.remove(&dir.join(&other))
        {
            tracing::warn!(%error, other, "cannot remove an old manifest");
        }
    }
    Ok(())
}

fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<(Contents, u64, bool)>> {
    let pointer = match read_file(disk, &dir.join(CURRENT)) {
        Ok(pointer) => pointer,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = std::str::from_utf8(&pointer)
        .ok()
        .and_then(|text| {
            text.strip_suffix('\n')?
                .strip_prefix("MANIFEST-")?
                .parse()
                .ok()
        })
        .ok_or_else(|| damaged("CURRENT does not name a manifest"))?;
    let bytes = read_file(disk, &dir.join(name(number)))?;
    let mut contents = Contents::default();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
    let mut first = true;
    while let Some(text) = lines.next() {
        let Some(edit) = parse(text) else {
            if lines.peek().is_some() {
                return Err(damaged("the manifest is damaged in the middle"));
            }
            if first {
                break;
            }
            return Ok(Some((contents, number, true)));
        };
        if first {
            let format = edit.format.unwrap_or_default();
            if format != FORMAT {
                return Err(damaged(&format!(
                    "it has format {format}, and this program knows format {FORMAT} only"
                )));
            }
            contents.store_id = edit.store.unwrap_or_default();
            first = false;
        }
        contents.apply(&edit);
    }
    if first {
        return Err(damaged("the manifest's first line is damaged"));
    }
    Ok(Some((contents, number, false)))
}

fn line(edit: &Edit) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(edit)?;
    let crc = crc32c::crc32c(json.as_bytes());
    Ok(format!("{crc:08x} {json}\n").into_bytes())
}

fn parse(line: &[u8]) -> Option<Edit> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (crc, json) = line.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc32c::crc32c(json.as_bytes()) == crc)
        .then(|| serde_json::from_str(json).ok())
        .flatten()
}

fn name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
