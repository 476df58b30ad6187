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
    /// The file; the first of those that are missing.
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
    /// The last file that was begun, as far as the manifest knows.
    pub(crate) last_file: Option<u64>,
    pub(crate) repair: bool,
}

/// Who a replay tells.
pub(crate) trait Visitor {
    /// A record, when it was received and where it ends. It may be refused, with a reason; it is then
    /// a gap.
    fn record(
        &mut self,
        kind: Kind,
        received_unix_nano: u64,
        body: &[u8],
        end: Position,
    ) -> io::Result<Result<(), String>>;

    /// A part of the log that cannot be read, before anything that comes behind it.
    fn gap(&mut self, _gap: &Gap) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Kind, u64, &[u8], Position) -> io::Result<Result<(), String>>> Visitor for F {
    fn record(
        &mut self,
        kind: Kind,
        received_unix_nano: u64,
        body: &[u8],
        end: Position,
    ) -> io::Result<Result<(), String>> {
        self(kind, received_unix_nano, body, end)
    }
}

/// Hands on every record from a place in the log, in order, and what is between them.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    replay_from: ReplayFrom,
    mut visitor: impl Visitor,
) -> io::Result<Recovered> {
    let ReplayFrom {
        store_id,
        position: from,
        last_file,
        repair,
    } = replay_from;
    let names = disk.list(dir)?;
    let mut files: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    files.sort_unstable();
    // A file that is missing has had its number, too: in a new one of the same number, what comes
    // before the place where the replay begins would never be read.
    let begun = (from.offset > 0).then_some(from.file).max(last_file);
    let last = files.last().copied().max(begun);
    let mut found = Recovered {
        next_file: last
            .map_or(from.file, |last| last.saturating_add(1))
            .max(from.file),
        end: from,
        ..Recovered::default()
    };
    found.old_files = files.iter().copied().filter(|&n| n < from.file).collect();
    let live: Vec<u64> = files.into_iter().filter(|&n| n >= from.file).collect();
    let mut expected = from.file;
    for (i, &file) in live.iter().enumerate() {
        found.missing(expected..file, &mut visitor)?;
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
        let end = reader.read(start, is_last, &mut found, &mut visitor)?;
        if repair && is_last && end < bytes.len() {
            let opened = disk.open_to_write(&path)?;
            opened.truncate(end as u64)?;
            opened.sync()?;
        }
    }
    let missing = begun.map_or(0..0, |begun| expected..begun.saturating_add(1));
    found.missing(missing, &mut visitor)?;
    Ok(found)
}

impl Recovered {
    fn gap(&mut self, mut gap: Gap, visitor: &mut impl Visitor) -> io::Result<()> {
        visitor.gap(&gap)?;
        // Many large ones should not all stay in memory.
        gap.content = None;
        self.gaps.push(gap);
        Ok(())
    }

    /// One gap for all of them: the name of a stray file may make them as many as there are numbers.
    fn missing(&mut self, files: Range<u64>, visitor: &mut impl Visitor) -> io::Result<()> {
        let Some(last) = files.clone().next_back() else {
            return Ok(());
        };
        let reason = if files.start == last {
            "the file is missing".to_owned()
        } else {
            format!("the files up to {last} are missing")
        };
        let gap = Gap {
            file: files.start,
            bytes: 0..0,
            torn: false,
            reason,
            content: None,
        };
        self.gap(gap, visitor)
    }
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
        visitor: &mut impl Visitor,
    ) -> io::Result<usize> {
        let mut at = start;
        while at < self.bytes.len() {
            let Some(record) = self.next(at, found.next_sequence) else {
                let Some(next) = self.find(at + 1, found.next_sequence) else {
                    self.end(at, is_last, found, visitor)?;
                    return Ok(at);
                };
                found.gap(self.gap(at..next, false, "damaged"), visitor)?;
                at = next;
                continue;
            };
            let end = at + record.end;
            let outcome = match record.kind {
                Some(kind) => visitor.record(
                    kind,
                    record.received_unix_nano,
                    record.body,
                    self.position(end),
                )?,
                None => Err("written by a later version".to_owned()),
            };
            match outcome {
                Ok(()) => found.records += 1,
                Err(reason) => found.gap(self.gap(at..end, false, &reason), visitor)?,
            }
            found.next_sequence = record.sequence.saturating_add(1);
            found.end = self.position(end);
            at = end;
        }
        Ok(at)
    }

    /// Behind the last record there are zeros, or what a crash left of a write.
    fn end(
        &self,
        at: usize,
        is_last: bool,
        found: &mut Recovered,
        visitor: &mut impl Visitor,
    ) -> io::Result<()> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if let Some(last) = rest.iter().rposition(|byte| *byte != 0) {
            let reason = if is_last {
                "not completely written"
            } else {
                "damaged"
            };
            let gap = self.gap(at..at + last + 1, is_last, reason);
            found.gap(gap, visitor)?;
        }
        Ok(())
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
