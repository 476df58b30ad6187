//! From a directory to a running engine.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::disk::{Disk, is_full, is_out_of_files};
use super::engine::{Engine, is_temporary};
use super::files::Files;
use super::manifest::{Contents, Manifest, SegmentEntry};
use super::options::Options;
use super::partition;
use super::payload::Payload;
use super::quarantine;
use super::reserve;
use super::segment::{self, Segment};
use super::wal::{self, Gap, Kind, Position, Recovered, ReplayFrom, Visitor};
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
    let open_manifest = || Manifest::open(Arc::clone(&disk), dir);
    let opened = open_manifest().or_else(|error| {
        // A start needs room for a manifest.
        if is_full(&error) && reserve::release(&*disk, dir) {
            return open_manifest();
        }
        Err(error)
    });
    let (manifest, _) = opened.map_err(failed("opening the manifest"))?;
    if torn {
        let finding = "the manifest's last line was not completely written, or is damaged: what it \
                       said is taken as not having happened; segments that nothing else names are \
                       put into the quarantine";
        recovery.findings.push(finding.to_owned());
    }
    let contents = manifest.contents().clone();
    let cache = Arc::new(Cache::new(options.cache_bytes));
    let files = Arc::new(Files::new(Arc::clone(&disk)));
    let segments = open_segments((&files, &cache), dir, &contents, &mut recovery)?;
    let sweep = Sweep {
        disk: &*disk,
        dir,
        contents: &contents,
        quarantine: torn,
    };
    (sweep.run(&mut recovery)).map_err(failed("sweeping the directory"))?;
    let readers = (files, cache);
    let engine = Engine::new((disk, dir.to_owned()), options, manifest, segments, readers);
    engine.fill_reserve();
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
    let logs = dir.join("wal");
    let names = disk.list(&logs).map_err(failed("listing the log"))?;
    // Where there is a log at all, it begins with the file that is to be read first.
    let began = from.offset > 0 || contents.log_file.is_some() || !names.is_empty();
    let no_log = began && missing(&wal::path(&logs, from.file));
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

/// Segments that are damaged are left out, with a finding. What cannot be had for another reason may
/// be had at the next start: to go on without it would be to answer as if it were not there.
fn open_segments(
    (files, cache): (&Arc<Files>, &Arc<Cache>),
    dir: &Path,
    contents: &Contents,
    recovery: &mut Recovery,
) -> Result<(Vec<Arc<Segment>>, Vec<SegmentEntry>), StoreError> {
    let mut segments = Vec::with_capacity(contents.segments.len());
    let mut lost = Vec::new();
    for entry in contents.segments.values() {
        match Segment::open(files, dir, entry.clone(), cache) {
            Ok(segment) => segments.push(Arc::new(segment)),
            Err(source) if is_out_of_files(&source) => {
                return Err(StoreError::Io {
                    action: "opening a segment; allow this process more open files (ulimit -n)",
                    source,
                });
            }
            Err(error) => {
                let path = segment::path(dir, entry);
                recovery.findings.push(format!(
                    "segment {} cannot be read, its {} spans are left out: {error}",
                    path.display(),
                    entry.spans
                ));
                lost.push(entry.clone());
            }
        }
    }
    recovery.segments = segments.len() as u64;
    Ok((segments, lost))
}

/// Looks after what a crash left: segments that no edit names.
struct Sweep<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    contents: &'a Contents,
    /// Whether an edit may have named them that cannot be read: then they are kept aside.
    quarantine: bool,
}

impl Sweep<'_> {
    fn run(&self, recovery: &mut Recovery) -> io::Result<()> {
        let Self { disk, dir, .. } = *self;
        let named: HashSet<PathBuf> = (self.contents.segments.values())
            .map(|entry| segment::path(dir, entry))
            .collect();
        for name in disk.list(dir)? {
            if !partition::is_dir_name(&name) {
                continue;
            }
            let partition = dir.join(&name);
            for file in disk.list(&partition)? {
                let path = partition.join(&file);
                if named.contains(&path) {
                    continue;
                }
                if self.quarantine {
                    let kept = quarantine::move_file(disk, dir, &path)?;
                    recovery.findings.push(format!(
                        "{} is kept as {}",
                        path.display(),
                        kept.display()
                    ));
                } else {
                    disk.remove(&path)?;
                    recovery.swept_files += 1;
                }
            }
            // Fails while there is anything in it, as it should.
            let _ = disk.remove_dir(&partition);
        }
        Ok(())
    }
}

fn replay(
    engine: &Engine,
    contents: &Contents,
    recovery: &mut Recovery,
) -> Result<LogStart, StoreError> {
    let dir = engine.wal_dir();
    let from = ReplayFrom {
        store_id: contents.store_id,
        position: contents.replay_from,
        last_file: contents.log_file,
        repair: true,
    };
    let mut replayer = Replayer {
        engine,
        spans: 0,
        findings: Vec::new(),
    };
    let found = wal::replay(&*engine.disk, &dir, from, &mut replayer);
    let Recovered {
        records,
        next_file,
        next_sequence,
        end,
        ..
    } = found.map_err(failed("replaying the log"))?;
    recovery.replayed_batches = records;
    recovery.replayed_spans = replayer.spans;
    recovery.findings.append(&mut replayer.findings);
    let upto = engine.manifest().contents().replay_from;
    engine.trim_log(upto);
    Ok(LogStart {
        at: end,
        next_file,
        next_sequence,
    })
}

/// Puts what is in the log into tables, and keeps copies of what cannot be read.
struct Replayer<'a> {
    engine: &'a Engine,
    spans: u64,
    findings: Vec<String>,
}

impl Visitor for &mut Replayer<'_> {
    fn record(
        &mut self,
        kind: Kind,
        _received_unix_nano: u64,
        body: &[u8],
        end: Position,
    ) -> io::Result<Result<(), String>> {
        let payload = match Payload::from_record(kind, body) {
            Ok(payload) => payload,
            Err(reason) => return Ok(Err(reason)),
        };
        let engine = self.engine;
        let applied = engine.state.apply(&payload, end);
        // What does not fit did not fit when it came, and its sender was told.
        self.spans += applied.outcome.map_or(0, |taken| taken.spans);
        if applied.frozen || applied.table_bytes >= engine.options.table_bytes {
            match engine.flush_during_replay() {
                // All of it was in memory before the restart, too: it waits for room there.
                Err(error) if is_temporary(&error) => {
                    tracing::warn!(%error, "what is in the log cannot become segments yet");
                }
                outcome => outcome.map_err(io::Error::other)?,
            }
        }
        Ok(Ok(()))
    }

    fn gap(&mut self, gap: &Gap) -> io::Result<()> {
        let kept = match &gap.content {
            Some(bytes) => {
                let name = format!("wal-{:012}-{:012}", gap.file, gap.bytes.start);
                let kept = quarantine::keep(&*self.engine.disk, &self.engine.dir, &name, bytes);
                kept.map(|path| path.display().to_string())
                    .map_err(|error| error.to_string())
            }
            None => Err("no bytes are left".to_owned()),
        };
        self.findings.push(finding(gap, &kept));
        Ok(())
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
