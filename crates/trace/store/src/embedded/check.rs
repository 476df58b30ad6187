//! A look at a directory that changes nothing in it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use periplus_wire::otlp::decode_protobuf;

use super::cache::Cache;
use super::disk::{Disk, is_out_of_files};
use super::files::Files;
use super::manifest::{Contents, Manifest, SegmentEntry};
use super::open::failed;
use super::partition;
use super::payload::Payload;
use super::quarantine;
use super::segment::{self, Segment};
use super::wal::{self, Kind, ReplayFrom};
use crate::StoreError;

/// What is in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The segments that the manifest names, by number.
    pub segments: Vec<SegmentEntry>,
    /// Files of the log.
    pub log_files: u64,
    /// Their bytes, what is reserved and not yet written included.
    pub log_bytes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that were read.
    pub segments: u64,
    /// Spans in them.
    pub segment_spans: u64,
    /// Batches in the log that are in no segment yet.
    pub log_batches: u64,
    /// Their spans.
    pub log_spans: u64,
    /// What would be taken care of at the next start, such as files that a crash left.
    pub notes: Vec<String>,
    /// Bytes of copies of what could not be read earlier.
    pub quarantine_bytes: u64,
    /// What is damaged or missing.
    pub damages: Vec<String>,
}

/// Lists what is in a directory, without reading segments.
pub fn inventory(disk: &dyn Disk, dir: &Path) -> Result<Inventory, StoreError> {
    let (contents, _) = contents(disk, dir)?;
    let mut inventory = Inventory {
        segments: contents.segments.into_values().collect(),
        ..Inventory::default()
    };
    let logs = dir.join("wal");
    for name in disk.list(&logs).map_err(failed("listing the log"))? {
        let size = disk.open(&logs.join(name)).and_then(|file| file.size());
        match size {
            Ok(size) => {
                inventory.log_files += 1;
                inventory.log_bytes += size;
            }
            // Another process has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(StoreError::Io {
                    action: "reading the log",
                    source,
                });
            }
        }
    }
    Ok(inventory)
}

/// Reads all that there is. The store should not be in use: what another process changes meanwhile
/// would be reported as damage.
pub fn check<D: Disk + Clone>(disk: &D, dir: &Path) -> Result<Report, StoreError> {
    let files = Arc::new(Files::new(Arc::new(disk.clone())));
    let (contents, torn) = contents(disk, dir)?;
    let mut report = Report::default();
    if torn {
        let note = "the manifest's last line was not completely written";
        report.notes.push(note.to_owned());
    }
    let cache = Arc::new(Cache::new(0));
    for entry in contents.segments.values() {
        let opened = Segment::open(&files, dir, entry.clone(), &cache);
        if let Err(error) = &opened
            && is_out_of_files(error)
        {
            return opened.map(|_| report).map_err(failed("opening a segment"));
        }
        let checked = opened
            .map_err(|error| error.to_string())
            .and_then(|segment| segment.verify());
        match checked {
            Ok(()) => {
                report.segments += 1;
                report.segment_spans += entry.spans;
            }
            Err(reason) => {
                let path = segment::path(dir, entry);
                let damage = format!("{}, {} spans: {reason}", path.display(), entry.spans);
                report.damages.push(damage);
            }
        }
    }
    check_files(disk, dir, &contents, &mut report).map_err(failed("listing the directory"))?;
    check_log(disk, dir, &contents, &mut report)?;
    match quarantine::used_bytes(disk, dir) {
        Ok(bytes) if bytes > 0 => report.quarantine_bytes = bytes,
        _ => {}
    }
    Ok(report)
}

fn contents(disk: &dyn Disk, dir: &Path) -> Result<(Contents, bool), StoreError> {
    let known = Manifest::peek(disk, dir).map_err(failed("reading the manifest"))?;
    known.ok_or_else(|| StoreError::Damaged {
        reason: format!("there is no store in {}", dir.display()),
    })
}

fn check_files(
    disk: &dyn Disk,
    dir: &Path,
    contents: &Contents,
    report: &mut Report,
) -> io::Result<()> {
    for name in disk.list(dir)? {
        if !partition::is_dir_name(&name) {
            continue;
        }
        for file in disk.list(&dir.join(&name))? {
            let path = dir.join(&name).join(file);
            let mut entries = contents.segments.values();
            if !entries.any(|entry| segment::path(dir, entry) == path) {
                let note = format!("{} is named by nothing", path.display());
                report.notes.push(note);
            }
        }
    }
    Ok(())
}

fn check_log(
    disk: &dyn Disk,
    dir: &Path,
    contents: &Contents,
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut spans = 0;
    let take = |kind: Kind, _received, body: &[u8], _upto| {
        Ok(Payload::from_record(kind, body).map(|payload| {
            spans += match payload {
                Payload::Batch(batch) => batch.span_count() as u64,
                Payload::Otlp(body) => {
                    decode_protobuf(&body).map_or(0, |decoded| decoded.batch.span_count() as u64)
                }
            };
        }))
    };
    let from = ReplayFrom {
        store_id: contents.store_id,
        position: contents.replay_from,
        last_file: contents.log_file,
        repair: false,
    };
    let found =
        wal::replay(disk, &dir.join("wal"), from, take).map_err(failed("reading the log"))?;
    report.log_batches = found.records;
    report.log_spans = spans;
    for gap in found.gaps {
        let (from, to) = (gap.bytes.start, gap.bytes.end);
        let line = format!(
            "log file {}, bytes {from} to {to}: {}",
            gap.file, gap.reason
        );
        if gap.torn {
            report.notes.push(line);
        } else {
            report.damages.push(line);
        }
    }
    Ok(())
}
