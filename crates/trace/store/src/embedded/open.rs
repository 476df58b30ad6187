//! From a directory to a running engine.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cache::GroupCache;
use super::disk::Disk;
use super::engine::Engine;
use super::manifest::{Contents, Manifest, SegmentEntry};
use super::options::Options;
use super::partition;
use super::payload::Payload;
use super::segment::{self, Segment};
use super::wal::{self, Gap, Kind, Position, Recovered, ReplayFrom};
use crate::StoreError;

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Batches that were read from the log, because no segment had them yet.
    pub replayed_batches: u64,
    /// Their spans.
    pub replayed_spans: u64,
    /// Segments that were opened.
    pub segments: u64,
    /// Files that nothing named, such as a segment that was being written; they were removed.
    pub swept_files: u64,
    /// What is wrong, and what became of it; one line each.
    pub findings: Vec<String>,
}

/// What recovery leaves for the log to go on with.
pub(super) struct LogStart {
    pub(super) at: Position,
    pub(super) next_file: u64,
    pub(super) next_sequence: u64,
}

/// Reads the manifest, opens the segments, replays the log.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
) -> Result<(Engine, LogStart, Recovery), StoreError> {
    let mut recovery = Recovery::default();
    for dir in [dir.join("wal"), dir.join("quarantine")] {
        disk.create_dir(&dir)
            .map_err(failed("making a directory"))?;
    }
    refuse_without_manifest(&*disk, dir)?;
    let known = Manifest::peek(&*disk, dir).map_err(failed("reading the manifest"))?;
    let torn = known.as_ref().is_some_and(|(_, torn)| *torn);
    if let Some((contents, true)) = &known {
        refuse_half_a_truth(&*disk, dir, contents)?;
    }
    let (manifest, _) = Manifest::open(&*disk, dir).map_err(failed("opening the manifest"))?;
    if torn {
        let finding = "the manifest's last line was not completely written: what it said had not \
                       happened yet, and nothing is lost";
        recovery.findings.push(finding.to_owned());
    }
    let contents = manifest.contents().clone();
    let cache = Arc::new(GroupCache::new(options.cache_bytes));
    let segments = open_segments(&*disk, dir, (&contents, &cache), &mut recovery);
    sweep(&*disk, dir, &contents, &mut recovery).map_err(failed("sweeping the directory"))?;
    let engine = Engine::new((disk, dir.to_owned()), options, manifest, (segments, cache));
    let start = replay(&engine, &contents, &mut recovery)?;
    for finding in &recovery.findings {
        tracing::warn!("{finding}");
    }
    Ok((engine, start, recovery))
}

/// Without a manifest nothing may be there: it would be taken for rubbish.
fn refuse_without_manifest(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let list = |dir: &Path| disk.list(dir).map_err(failed("listing the directory"));
    let names = list(dir)?;
    if names.iter().any(|name| name == "CURRENT") {
        return Ok(());
    }
    let logs = !list(&dir.join("wal"))?.is_empty();
    if logs || names.iter().any(|name| partition::is_dir_name(name)) {
        return Err(StoreError::Damaged {
            reason: "it has segments or a log, but no CURRENT file that names its manifest: \
                     restore that file, or move the directory away"
                .to_owned(),
        });
    }
    Ok(())
}

/// A torn last line of the manifest is fine if it was never finished. If it was, and is damaged,
/// what it removed is gone: then the line before must not be taken for the truth.
fn refuse_half_a_truth(disk: &dyn Disk, dir: &Path, contents: &Contents) -> Result<(), StoreError> {
    let missing = |path: &Path| {
        let opened = disk.open(path);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let from = contents.replay_from;
    let no_log = from.offset > 0 && missing(&wal::path(&dir.join("wal"), from.file));
    let no_segment = |entry: &SegmentEntry| missing(&segment::path(dir, entry));
    if no_log || contents.segments.values().any(no_segment) {
        return Err(StoreError::Damaged {
            reason: "the last line of its manifest is damaged, and what the line before names is \
                     gone: restore the manifest, or move the directory away"
                .to_owned(),
        });
    }
    Ok(())
}

fn open_segments(
    disk: &dyn Disk,
    dir: &Path,
    (contents, cache): (&Contents, &Arc<GroupCache>),
    recovery: &mut Recovery,
) -> Vec<Arc<Segment>> {
    let mut segments = Vec::with_capacity(contents.segments.len());
    for entry in contents.segments.values() {
        match Segment::open(disk, dir, entry.clone(), cache) {
            Ok(segment) => segments.push(Arc::new(segment)),
            Err(error) => {
                let path = segment::path(dir, entry);
                recovery.findings.push(format!(
                    "segment {} cannot be read, its {} spans are left out: {error}",
                    path.display(),
                    entry.spans
                ));
            }
        }
    }
    recovery.segments = segments.len() as u64;
    segments
}

/// Removes what a crash left: segments that no edit names.
fn sweep(
    disk: &dyn Disk,
    dir: &Path,
    contents: &Contents,
    recovery: &mut Recovery,
) -> io::Result<()> {
    let named: Vec<_> = contents.segments.values().collect();
    for name in disk.list(dir)? {
        if !partition::is_dir_name(&name) {
            continue;
        }
        let partition = dir.join(&name);
        for file in disk.list(&partition)? {
            let path = partition.join(&file);
            if !named.iter().any(|entry| segment::path(dir, entry) == path) {
                disk.remove(&path)?;
                recovery.swept_files += 1;
            }
        }
        // Fails while there is anything in it, as it should.
        let _ = disk.remove_dir(&partition);
    }
    Ok(())
}

fn replay(
    engine: &Engine,
    contents: &Contents,
    recovery: &mut Recovery,
) -> Result<LogStart, StoreError> {
    let dir = engine.wal_dir();
    let disk = &*engine.disk;
    let from = ReplayFrom {
        store_id: contents.store_id,
        position: contents.replay_from,
        repair: true,
    };
    let mut spans = 0;
    let take = |kind: Kind, _received, body: &[u8], upto| {
        let payload = match Payload::from_record(kind, body) {
            Ok(payload) => payload,
            Err(reason) => return Ok(Err(reason)),
        };
        let applied = engine.state.apply(&payload, upto);
        // What does not fit did not fit when it came, and its sender was told.
        spans += applied.outcome.map_or(0, |taken| taken.spans);
        if applied.frozen || applied.table_bytes >= engine.options.table_bytes {
            engine.flush().map_err(io::Error::other)?;
        }
        Ok(Ok(()))
    };
    let Recovered {
        records,
        gaps,
        next_file,
        next_sequence,
        old_files,
        end,
    } = wal::replay(disk, &dir, from, take).map_err(failed("replaying the log"))?;
    recovery.replayed_batches = records;
    recovery.replayed_spans = spans;
    for gap in &gaps {
        let kept = keep_gap(engine, gap);
        recovery.findings.push(finding(gap, &kept));
    }
    for number in old_files {
        let path = wal::path(&dir, number);
        match disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.map_err(failed("removing an old file of the log"))?,
        }
    }
    Ok(LogStart {
        at: end,
        next_file,
        next_sequence,
    })
}

/// Keeps a copy of bytes that could not be read, for whoever can make something of them.
fn keep_gap(engine: &Engine, gap: &Gap) -> Result<String, String> {
    let Some(bytes) = &gap.content else {
        return Err("no bytes are left".to_owned());
    };
    let name = format!("wal-{:012}-{:012}.bin", gap.file, gap.bytes.start);
    let path = engine.dir.join("quarantine").join(&name);
    let copied = engine.disk.create(&path).and_then(|file| {
        file.write_at(bytes, 0)?;
        file.sync()
    });
    match copied {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.to_string()),
        _ => Ok(path.display().to_string()),
    }
}

fn finding(gap: &Gap, kept: &Result<String, String>) -> String {
    let kept = match kept {
        Ok(path) => format!("a copy is in {path}"),
        Err(reason) => format!("no copy was kept: {reason}"),
    };
    let Gap {
        file,
        bytes,
        reason,
        torn,
        ..
    } = gap;
    let what = if *torn {
        "dropped; no sender was told that it is stored"
    } else {
        "left out"
    };
    format!(
        "bytes {} to {} of file {file} of the log are {what} ({reason}); {kept}",
        bytes.start, bytes.end
    )
}

pub(super) fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| match source.kind() {
        io::ErrorKind::InvalidData => StoreError::Damaged {
            reason: source.to_string(),
        },
        _ => StoreError::Io { action, source },
    }
}
