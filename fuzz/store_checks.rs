//! What must hold of a start on a damaged directory, shared by the fuzz targets and by the test that
//! replays their corpora (`crates/trace/store/tests/fuzz_corpus.rs`). Each function panics if it does not.
//!
//! The log and the manifest are written here once more, after `docs/store.md` alone.

use std::path::Path;
use std::sync::Arc;

use periplus_model::TraceId;
use periplus_model::{Batch, Resource, Span, SpanGroup, SpanId};
use periplus_store::embedded::disk::{Crash, Disk, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, Options, check, inventory};
use periplus_store::{SpanStore as _, StoreError, TimeRange};
use periplus_wire::otlp::encode_protobuf;

/// The secret of the directory in which the logs lie.
pub(crate) const STORE_ID: u64 = 0xfeed;

/// Records of the sound log.
const RECORDS: u64 = 6;

/// The record of a later file.
const LATER: u64 = 99;

/// Reading any bytes as the log never panics and never invents a record: what is found is what was
/// written, each record as a whole; what stands before the first changed byte and in later files is
/// always found. Then the same with checksums that fit: whatever the records say, it is no panic.
pub(crate) fn wal(input: &[u8]) {
    let (sound, ends) = log(0, &(0..RECORDS).collect::<Vec<_>>());
    let same = input
        .iter()
        .zip(&sound)
        .take_while(|(found, sound)| found == sound)
        .count();
    let untouched = ends.iter().filter(|end| **end <= same).count() as u64;
    let disk = directory(&manifest_line());
    put(&disk, "/wal/000000000000.wal", input);
    put(&disk, "/wal/000000000001.wal", &log(1, &[LATER]).0);
    let report = check(&disk, Path::new("/")).expect("a sound manifest");
    let found = start(&disk).expect("a sound manifest");
    let known: Vec<u64> = (0..RECORDS)
        .chain([LATER])
        .filter(|number| is_there(&found, *number))
        .collect();
    for number in (0..untouched).chain([LATER]) {
        assert!(known.contains(&number), "{number} is lost: {known:?}");
    }
    // Nothing but these.
    assert_eq!(found.stats().spans, known.len() as u64 * 3, "{known:?}");
    // Behind the last untouched record there is something, and not all was found.
    let written = input
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let sound_end = untouched
        .checked_sub(1)
        .map_or(0, |last| ends[last as usize]);
    if known.len() as u64 <= RECORDS && written > sound_end {
        let findings = &found.recovery().findings;
        assert!(
            !findings.is_empty() && !report.damages.is_empty(),
            "{findings:?} {report:?}"
        );
    }
    // The next start finds the same, whatever became of the bytes.
    drop(found);
    let again = start(&disk).expect("a sound manifest");
    let still: Vec<u64> = (0..RECORDS)
        .chain([LATER])
        .filter(|number| is_there(&again, *number))
        .collect();
    assert_eq!(still, known);
    drop(again);

    let disk = directory(&manifest_line());
    put(&disk, "/wal/000000000000.wal", &with_checksums(input));
    let _report = check(&disk, Path::new("/"));
    survives(&disk);
}

/// Reading any bytes as the manifest never panics: it is a store, or an error that says so. Then the
/// same with checksums that fit.
pub(crate) fn manifest(input: &[u8]) {
    for bytes in [input.to_vec(), with_line_checksums(input)] {
        let disk = directory(&bytes);
        put(&disk, "/wal/000000000000.wal", &log(0, &[0, 1]).0);
        disk.create_dir(Path::new("/p=2026-11-22T08"))
            .expect("a directory");
        put(&disk, "/p=2026-11-22T08/000000000001.seg", b"no segment");
        let looks = (
            check(&disk, Path::new("/")),
            inventory(&disk, Path::new("/")),
        );
        assert_eq!(looks.0.is_ok(), looks.1.is_ok(), "{looks:?}");
        survives(&disk);
    }
}

/// A start on this directory says that it is damaged, or makes a store that takes questions, and that
/// the next start finds the same.
fn survives(disk: &SimulatedDisk) {
    let before = disk.after(Crash::KeepAll);
    let store = match start(disk) {
        Ok(store) => store,
        Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => {
            // A refusal changes nothing, so that somebody can look at what is there.
            for path in before.files() {
                let bytes = |disk: &SimulatedDisk| content(disk, &path);
                assert_eq!(bytes(disk), bytes(&before), "{}", path.display());
            }
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let runtime = runtime();
    let segments = store.segments();
    let spans = store.stats().spans;
    let _services = runtime.block_on(store.services());
    let _edges = runtime.block_on(store.dependencies(TimeRange::ALL));
    let _trace = runtime.block_on(store.trace(TraceId::from_halves(0, 1)));
    drop(store);
    // After the first start the spans of the log lie in segments.
    let again = start(disk).expect("what a start has left");
    assert!(again.segments().len() >= segments.len());
    assert_eq!(again.stats().spans, spans);
}

fn start(disk: &SimulatedDisk) -> Result<EmbeddedStore, StoreError> {
    let options = Options {
        background: false,
        retention: None,
        ..Options::default()
    };
    EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options)
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime")
}

/// Whether the record's trace is there, as a whole.
fn is_there(store: &EmbeddedStore, number: u64) -> bool {
    let found = runtime().block_on(store.trace(TraceId::from_halves(7, number + 1)));
    match found.expect("an answer") {
        None => false,
        Some(trace) => {
            assert_eq!(
                trace.span_count(),
                3,
                "record {number} is there in part or twice"
            );
            true
        }
    }
}

/// A directory with an empty log and this manifest.
fn directory(manifest: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir(Path::new("/wal")).expect("a directory");
    put(&disk, "/CURRENT", b"MANIFEST-000001\n");
    put(&disk, "/MANIFEST-000001", manifest);
    disk
}

fn put(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let file = disk.create(Path::new(path)).expect("a new file");
    file.write_at(bytes, 0).expect("a sound disk");
}

fn content(disk: &SimulatedDisk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open(path).ok()?;
    let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
    file.read_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// The first line of a manifest.
pub(crate) fn manifest_line() -> Vec<u8> {
    let json = format!(
        r#"{{"format":1,"store":{STORE_ID},"replay_from":{{"file":0,"offset":0}},"next_segment":1}}"#
    );
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()
}

fn with_line_checksums(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match (line.get(..9), line.strip_suffix(b"\n")) {
            (Some(head), Some(text)) if head[8] == b' ' => {
                let crc = crc32c::crc32c(text.get(9..).unwrap_or_default());
                out.extend_from_slice(format!("{crc:08x} ").as_bytes());
                out.extend_from_slice(&line[9..]);
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

/// A file of the log with a request of three spans for each number, and where its records end.
pub(crate) fn log(file: u64, numbers: &[u64]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for number in numbers {
        let span = |id| Span {
            trace_id: TraceId::from_halves(7, number + 1),
            span_id: SpanId::from_u64(id),
            name: "n".to_owned(),
            start_unix_nano: 1_795_332_552_157_501_000,
            end_unix_nano: 1_795_332_552_157_502_000,
            ..Span::default()
        };
        let group = SpanGroup {
            resource: Arc::new(Resource::of_service("a")),
            spans: (1..=3).map(span).collect(),
            ..SpanGroup::default()
        };
        let body = encode_protobuf(&Batch {
            groups: vec![group],
        });
        let at = bytes.len();
        bytes.extend_from_slice(b"pwal");
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[2, 0, 0, 0]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&(at as u64).to_le_bytes());
        bytes.extend_from_slice(&1_795_332_552_157_501_000_u64.to_le_bytes());
        bytes.extend_from_slice(&body);
        let crc = record_checksum(file, &bytes[at..]);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn record_checksum(file: u64, record: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&STORE_ID.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &file.to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &record[4..8]);
    crc32c::crc32c_append(crc, &record[12..])
}

/// With the offset and the checksum that each record should have, as far as there are records.
fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 40) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(end) = (at + 40)
            .checked_add(length)
            .filter(|end| *end <= bytes.len())
        else {
            break;
        };
        if head[..4] == *b"pwal" {
            bytes[at + 24..at + 32].copy_from_slice(&(at as u64).to_le_bytes());
            let crc = record_checksum(0, &bytes[at..end]);
            bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
            at = end.next_multiple_of(8);
        } else {
            at += 8;
        }
    }
    bytes
}
