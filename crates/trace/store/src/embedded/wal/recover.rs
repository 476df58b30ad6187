use std::io;
use std::ops::Range;
use std::path::Path;

use super::record::{self, Kind, Record, Seed};
use super::{Position, number, path};
use crate::embedded::disk::{Disk, read_file};

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Records that were handed on.
    pub(crate) records: u64,
    /// What was not.
    pub(crate) gaps: Vec<Gap>,
    /// The number for the next file.
    pub(crate) next_file: u64,
    /// The number for the next record.
    pub(crate) next_sequence: u64,
    /// Files that are wholly before the place where the replay began.
    pub(crate) old_files: Vec<u64>,
    /// Where the last record ends.
    pub(crate) end: Position,
}

/// A part of the log that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The file.
    pub(crate) file: u64,
    /// Its bytes.
    pub(crate) bytes: Range<u64>,
    /// Whether nothing readable follows in the last file: then it is a group that was being written
    /// when the process or the machine died, which nobody was told is stored.
    pub(crate) torn: bool,
    /// What is wrong.
    pub(crate) reason: String,
    /// The bytes, unless the file is missing.
    pub(crate) content: Option<Vec<u8>>,
}

/// Where to read the log from, and whether to cut off a torn end: it would be found again as damage
/// in the middle of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayFrom {
    pub(crate) store_id: u64,
    pub(crate) position: Position,
    pub(crate) repair: bool,
}

/// Hands on every record from a place in the log, in order, with its end. `take` may refuse a
/// record, with a reason; it is then a gap.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    replay_from: ReplayFrom,
    mut take: impl FnMut(Kind, u64, &[u8], Position) -> io::Result<Result<(), String>>,
) -> io::Result<Recovered> {
    let ReplayFrom {
        store_id,
        position: from,
        repair,
    } = replay_from;
    let names = disk.list(dir)?;
    let mut files: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    files.sort_unstable();
    let mut found = Recovered {
        next_file: files
            .last()
            .map_or(from.file, |last| last.saturating_add(1))
            .max(from.file),
        end: from,
        ..Recovered::default()
    };
    found.old_files = files.iter().copied().filter(|&n| n < from.file).collect();
    let live: Vec<u64> = files.into_iter().filter(|&n| n >= from.file).collect();
    let mut expected = from.file;
    for (i, &file) in live.iter().enumerate() {
        for missing in expected..file {
            // Before the first record there may be no file yet.
            if missing > from.file || from.offset > 0 {
                found.gaps.push(Gap {
                    file: missing,
                    bytes: 0..0,
                    torn: false,
                    reason: "the file is missing".to_owned(),
                    content: None,
                });
            }
        }
        expected = file.saturating_add(1);
        let path = path(dir, file);
        let bytes = read_file(disk, &path)?;
        let start = if file == from.file { from.offset } else { 0 };
        let start = usize::try_from(start).map_err(io::Error::other)?;
        let reader = FileReader {
            bytes: &bytes,
            file,
            seed: Seed::new(store_id, file),
        };
        let is_last = i + 1 == live.len();
        let end = reader.read(start, is_last, &mut found, &mut take)?;
        if repair && is_last && end < bytes.len() {
            let opened = disk.open(&path)?;
            opened.truncate(end as u64)?;
            opened.sync()?;
        }
    }
    Ok(found)
}

struct FileReader<'a> {
    bytes: &'a [u8],
    file: u64,
    seed: Seed,
}

impl FileReader<'_> {
    /// Reads from here; returns where the readable part ends.
    fn read(
        &self,
        start: usize,
        is_last: bool,
        found: &mut Recovered,
        take: &mut impl FnMut(Kind, u64, &[u8], Position) -> io::Result<Result<(), String>>,
    ) -> io::Result<usize> {
        let mut at = start;
        while at < self.bytes.len() {
            let Some(record) = self.next(at, found.next_sequence) else {
                let Some(next) = self.find(at + 1, found.next_sequence) else {
                    self.end(at, is_last, found);
                    return Ok(at);
                };
                found.gaps.push(self.gap(at..next, false, "damaged"));
                at = next;
                continue;
            };
            let end = at + record.end;
            let outcome = match record.kind {
                Some(kind) => take(
                    kind,
                    record.received_unix_nano,
                    record.body,
                    self.position(end),
                )?,
                None => Err("written by a later version".to_owned()),
            };
            match outcome {
                Ok(()) => found.records += 1,
                Err(reason) => found.gaps.push(self.gap(at..end, false, &reason)),
            }
            found.next_sequence = record.sequence.saturating_add(1);
            found.end = self.position(end);
            at = end;
        }
        Ok(at)
    }

    /// Behind the last record there are zeros, or what a crash left of a write.
    fn end(&self, at: usize, is_last: bool, found: &mut Recovered) {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if let Some(last) = rest.iter().rposition(|byte| *byte != 0) {
            let reason = if is_last {
                "not completely written"
            } else {
                "damaged"
            };
            let gap = self.gap(at..at + last + 1, is_last, reason);
            found.gaps.push(gap);
        }
    }

    /// A record that is not what an earlier, failed write left behind.
    fn next(&self, at: usize, sequence: u64) -> Option<Record<'_>> {
        record::read(self.bytes, at, self.seed).filter(|record| record.sequence >= sequence)
    }

    fn find(&self, from: usize, sequence: u64) -> Option<usize> {
        let mut from = from;
        loop {
            let at = record::find(self.bytes, from, self.seed)?;
            if self.next(at, sequence).is_some() {
                return Some(at);
            }
            from = at + 1;
        }
    }

    fn position(&self, offset: usize) -> Position {
        Position {
            file: self.file,
            offset: offset as u64,
        }
    }

    fn gap(&self, bytes: Range<usize>, torn: bool, reason: &str) -> Gap {
        Gap {
            file: self.file,
            bytes: bytes.start as u64..bytes.end as u64,
            torn,
            reason: reason.to_owned(),
            content: self.bytes.get(bytes).map(<[u8]>::to_vec),
        }
    }
}
