//! `store export` and `store import`: what one store holds, another one gets.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::path::Path;
use std::process::{Command, Output};

use periplus_model::{Batch, Resource, Span, SpanGroup, SpanId, TraceId};
use periplus_store::SpanSink as _;
use periplus_store::SpanStore as _;
use periplus_store::embedded::{EmbeddedStore, Options};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-22T07:29:18Z
const BEGIN: u64 = 1_795_332_558 * SECOND;

fn options() -> Options {
    Options {
        retention: None,
        ..Options::default()
    }
}

fn trace(n: u64) -> Batch {
    let span = Span {
        trace_id: TraceId::from_halves(0, n + 1),
        span_id: SpanId::from_u64(n + 1),
        start_unix_nano: BEGIN + n * SECOND,
        end_unix_nano: BEGIN + n * SECOND + 1,
        ..Span::default()
    };
    let service = if n.is_multiple_of(2) { "even" } else { "odd" };
    Batch {
        groups: vec![SpanGroup {
            resource: Resource::of_service(service).into(),
            spans: vec![span],
            ..SpanGroup::default()
        }],
    }
}

fn store(args: &[&str], data: &Path, file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .arg("store")
        .args(args)
        .arg("--data")
        .args([data, file]);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    let [all, some] = ["all.parquet", "some.parquet"].map(|name| dir.path().join(name));
    let filled = EmbeddedStore::open(&one, options()).unwrap();
    for n in 0..10 {
        filled.append(trace(n)).await.unwrap();
    }
    // A trace that begins in the range below goes on behind it.
    let mut later = trace(6);
    let span = &mut later.groups[0].spans[0];
    span.span_id = SpanId::from_u64(100);
    span.start_unix_nano += 100 * SECOND;
    filled.append(later).await.unwrap();
    filled.close().unwrap();
    drop(filled);

    let exported = store(&["export"], &one, &all);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    assert!(text(&exported.stdout).starts_with("10 traces with 11 spans, "));
    let range = [
        "export",
        "--from",
        "2026-11-22T07:29:20Z",
        "--to",
        "2026-11-22T07:29:26Z",
    ];
    let exported = store(&[&range[..], &["--service", "odd"]].concat(), &one, &some);
    assert!(text(&exported.stdout).starts_with("3 traces with 3 spans, "));
    let again = store(&["export"], &one, &all);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("exists: name another file"));

    let imported = store(&["import"], &other, &all);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert_eq!(text(&imported.stdout), "10 traces with 11 spans\n");
    // Of what an import reads, a range leaves the traces that an export of the range has.
    let part = dir.path().join("part");
    let imported = store(&[&["import"], &range[1..]].concat(), &part, &all);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert_eq!(text(&imported.stdout), "6 traces with 7 spans\n");
    let part = EmbeddedStore::open(&part, options()).unwrap();
    let [one, other] = [one, other].map(|dir| EmbeddedStore::open(&dir, options()).unwrap());
    for n in 0..10 {
        let id = TraceId::from_halves(0, n + 1);
        let trace = one.trace(id).await.unwrap();
        assert!(trace.is_some());
        assert_eq!(other.trace(id).await.unwrap(), trace);
        let inside = (2..8).contains(&n).then_some(trace).flatten();
        assert_eq!(part.trace(id).await.unwrap(), inside, "{n}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let [data, file] = ["data", "file"].map(|name| dir.path().join(name));
    let exported = store(&["export"], &data, &file);
    assert!(!exported.status.success());
    assert!(!data.exists() && !file.exists());
    std::fs::write(&file, "nothing of ours").unwrap();
    let imported = store(&["import"], &data, &file);
    assert!(!imported.status.success());
    let error = text(&imported.stderr);
    assert!(error.contains("this is no whole Parquet file"), "{error}");
}
