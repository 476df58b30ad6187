//! Directories that were written once can be opened for ever.
//!
//! `tests/golden/store-v1` is what a crash left when version 1 of the directory was made: a manifest with
//! several lines, a segment that was written from memory, one that was merged, and a log. It is never
//! written anew: another format is another version, with a directory of its own (`UPDATE_GOLDEN=1` writes
//! one that is missing).

use std::fs;
use std::path::{Path, PathBuf};

use periplus_model::{SpanKind, StatusCode};
use periplus_store::SpanSink as _;
use periplus_store::SpanStore as _;
use periplus_store::embedded::disk::{Crash, Disk as _, RealDisk, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, Options, check};
use periplus_wire::otlp::encode_protobuf;

use crate::script::{open, options, runtime};
use crate::suite::build::{Draft, SECOND, batch, contents, span, trace_id};

const START: u64 = 1_760_000_000_000_000_000;

/// What is in it: six traces, the last two in the log only.
fn drafts(trace: u64) -> Vec<Draft> {
    let at = START + trace * SECOND;
    let root = span(trace, "front", 1)
        .named("GET /")
        .starting(at)
        .lasting(5_000);
    let child = span(trace, "back", 2)
        .named("query")
        .below(1)
        .starting(at + 1_000);
    let failed = |draft: &mut Draft| {
        draft.span.status.code = StatusCode::Error;
        draft.span.status.message = "no".to_owned();
    };
    vec![
        root.kind(SpanKind::Server)
            .with("n", trace as i64)
            .with_event("e", 0.5),
        child
            .kind(SpanKind::Client)
            .with("flag", true)
            .with_link("l", "x")
            .change(failed),
    ]
}

fn options_of_then() -> Options {
    Options {
        retention: None,
        max_disk_bytes: None,
        reserve_bytes: 0,
        ..options()
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1")
}

fn make() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options_of_then()).unwrap();
    let append = |trace: u64| {
        // By either way in.
        let written = match trace % 2 {
            0 => runtime()
                .block_on(store.append(batch(drafts(trace))))
                .is_ok(),
            _ => {
                let request = encode_protobuf(&batch(drafts(trace)));
                runtime()
                    .block_on(store.append_otlp(request.into()))
                    .is_ok()
            }
        };
        assert!(written);
    };
    for trace in 1..3 {
        append(trace);
        store.flush().unwrap();
    }
    store.compact().unwrap();
    append(3);
    append(4);
    store.flush().unwrap();
    append(5);
    append(6);
    disk.after(Crash::DropUnsynced)
}

fn copy(disk: &SimulatedDisk, to: &Path) {
    for path in disk.files() {
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let to = to.join(path.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to),
            false => fs::write(to, fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

#[test]
fn a_directory_of_version_1_is_read() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !golden().exists() {
        copy(&make(), &golden());
    }
    // To look at it needs no right to change it.
    let report = check(&RealDisk, &golden()).unwrap();
    assert_eq!((report.damages, report.notes), (Vec::new(), Vec::new()));
    assert_eq!((report.segments, report.segment_spans), (2, 8));
    assert_eq!((report.log_batches, report.log_spans), (2, 4));

    let dir = tempfile::tempdir().unwrap();
    copy_dir(&golden(), dir.path());
    let store = EmbeddedStore::open(dir.path(), options_of_then()).unwrap();
    let recovery = store.recovery();
    assert_eq!(recovery.findings, [""; 0]);
    assert_eq!((recovery.replayed_batches, recovery.segments), (2, 2));
    for trace in 1..7 {
        let found = runtime()
            .block_on(store.trace(trace_id(trace)))
            .unwrap()
            .unwrap();
        let expected: Vec<_> = drafts(trace)
            .into_iter()
            .map(|draft| draft.group().into())
            .collect();
        assert_eq!(contents(&found.groups), contents(&expected), "{trace}");
    }
}

#[test]
fn what_is_written_now_is_of_that_version() {
    let dir = tempfile::tempdir().unwrap();
    copy(&make(), dir.path());
    let report = check(&RealDisk, dir.path()).unwrap();
    assert_eq!(
        (report.damages, report.segments, report.log_batches),
        (Vec::new(), 2, 2)
    );
}
