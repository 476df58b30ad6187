//! Which segments there are, and from where the log is to be replayed: the only mutable truth.
//!
//! ```text
//! CURRENT                "MANIFEST-000003\n", replaced by a rename
//! MANIFEST-000003        a line per edit: crc32c of the rest in hex, a space, the edit as JSON
//! ```
//!
//! An edit is one line, so it is there as a whole or not at all. The last line may be torn: then the
//! edit was never finished, what it would have removed is still there, and what it would have added
//! is swept away. A store that is opened writes a fresh manifest, so the log of edits stays short.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, is_full, read_file};
use super::partition;
use super::wal::Position;

/// The version of everything in the directory.
const FORMAT: u32 = 1;

const CURRENT: &str = "CURRENT";

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
}

impl SegmentEntry {
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
}

/// What the edits add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) store_id: u64,
    pub(super) segments: BTreeMap<u64, SegmentEntry>,
    pub(super) replay_from: Position,
    pub(super) next_segment: u64,
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
    }

    fn as_edit(&self) -> Edit {
        Edit {
            format: Some(FORMAT),
            store: Some(self.store_id),
            add: self.segments.values().cloned().collect(),
            remove: Vec::new(),
            replay_from: Some(self.replay_from),
            next_segment: Some(self.next_segment),
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
    file: Arc<dyn DiskFile>,
    size: u64,
    contents: Contents,
    /// An edit is in a state that nobody knows.
    broken: bool,
}

impl Manifest {
    /// Reads the manifest of a directory, or makes one, and starts a fresh file. Says, too, whether
    /// the last edit was torn.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(Self, bool)> {
        let (contents, number, torn) = match read(disk, dir)? {
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
        let manifest = Self::write(disk, dir, contents, number + 1)?;
        Ok((manifest, torn))
    }

    /// Reads the manifest without changing anything; `None` if there is none.
    pub(super) fn peek(disk: &dyn Disk, dir: &Path) -> io::Result<Option<(Contents, bool)>> {
        Ok(read(disk, dir)?.map(|(contents, _, torn)| (contents, torn)))
    }

    fn write(disk: &dyn Disk, dir: &Path, contents: Contents, number: u64) -> io::Result<Self> {
        let path = dir.join(name(number));
        // A start that failed half-way leaves one behind.
        remove_if_there(disk, &path)?;
        let file = disk.create(&path)?;
        let line = line(&contents.as_edit())?;
        file.write_at(&line, 0)?;
        file.sync()?;
        let temporary = dir.join("CURRENT.new");
        remove_if_there(disk, &temporary)?;
        let pointer = disk.create(&temporary)?;
        pointer.write_at(format!("{}\n", name(number)).as_bytes(), 0)?;
        pointer.sync()?;
        disk.sync_dir(dir)?;
        disk.rename(&temporary, &dir.join(CURRENT))?;
        disk.sync_dir(dir)?;
        for other in disk.list(dir)? {
            if other.starts_with("MANIFEST-") && other != name(number) {
                disk.remove(&dir.join(other))?;
            }
        }
        Ok(Self {
            file,
            size: line.len() as u64,
            contents,
            broken: false,
        })
    }

    /// Makes a change, durably.
    pub(super) fn edit(&mut self, edit: &Edit) -> Result<(), EditError> {
        if self.broken {
            return Err(EditError::Broken(io::Error::other(
                "an earlier edit of the manifest failed; restart when the disk is well",
            )));
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
