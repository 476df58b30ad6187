//! `POST /api/archive`: what is archived outlives the store.

use std::sync::Arc;

use periplus_model::Batch;
use periplus_query::Options;
use periplus_store::{MemoryStore, SpanSink, SpanStore};
use serde_json::json;

use crate::support::{Server, group, span};

fn batch(name: &str, id: u64) -> Batch {
    Batch {
        groups: vec![group("shop", vec![span(7, id, 0, name, 0)])],
    }
}

fn options(archive: &Arc<dyn SpanStore>) -> Options {
    Options {
        archive: Some(Arc::clone(archive)),
        ..Options::default()
    }
}

#[tokio::test]
async fn an_archived_trace_outlives_the_store() {
    let archive: Arc<dyn SpanStore> = Arc::new(crate::support::embedded());
    let server = Server::with(Arc::new(MemoryStore::default()), options(&archive)).await;
    let missing = server.send("POST", "/api/archive/7", "", b"").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.message(), "trace not found");
    let malformed = server.send("POST", "/api/archive/xyz", "", b"").await;
    assert_eq!(malformed.status, 400);

    server.add(batch("first", 1)).await;
    for _ in 0..2 {
        let archived = server.send("POST", "/api/archive/7", "", b"").await;
        assert_eq!(archived.status, 200);
        assert_eq!(
            archived.text(),
            r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":[]}"#
        );
    }
    assert_eq!(archive.stats().spans, 1, "twice is not double");
    // What has arrived since is added.
    server.add(batch("late", 2)).await;
    server.send("POST", "/api/archive/7", "", b"").await;
    assert_eq!(archive.stats().spans, 2);

    // Another store has nothing but the archive.
    let server = Server::with(Arc::new(MemoryStore::default()), options(&archive)).await;
    let trace = server.get("/api/traces/7?raw=true").await;
    assert_eq!(trace.status, 200);
    assert_eq!(
        trace.json()["data"][0]["spans"].as_array().unwrap().len(),
        2
    );
    for path in ["/api/v3/traces/7", "/api/periplus/v1/traces/7"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let again = server.send("POST", "/api/archive/7", "", b"").await;
    assert_eq!(again.status, 200, "it is archived already");
    // Only by its id: the archive is not searched.
    assert_eq!(server.get("/api/services").await.json()["data"], json!([]));
}

#[tokio::test]
async fn options_cut_and_mend_what_is_shown() {
    let store = Arc::new(MemoryStore::default());
    let mut child = span(8, 2, 1, "child", 0);
    child.start_unix_nano -= 5_000_000;
    child.end_unix_nano -= 5_000_000;
    let groups = vec![
        group("a", vec![span(8, 1, 0, "parent", 0)]),
        group("b", vec![child]),
    ];
    store.append(Batch { groups }).await.unwrap();
    let show = |options| {
        let store = Arc::clone(&store);
        async move {
            let server = Server::with(store, options).await;
            let trace = server.get("/api/traces/8").await.json();
            let spans = trace["data"][0]["spans"].as_array().unwrap().clone();
            let warnings: Vec<_> = spans.iter().map(|s| s["warnings"].clone()).collect();
            (spans.len(), warnings)
        }
    };
    let (_, untouched) = show(Options::default()).await;
    assert_eq!(
        untouched[1],
        json!(["clock skew adjustment disabled; not applying calculated delta of 5ms"])
    );
    let mended = Options {
        max_clock_skew: std::time::Duration::from_millis(5),
        ..Options::default()
    };
    assert_eq!(
        show(mended).await.1[1],
        json!(["This span's timestamps were adjusted by 5ms"])
    );
    let cut = Options {
        max_trace_spans: 1,
        ..Options::default()
    };
    assert_eq!(
        show(cut).await,
        (
            1,
            vec![json!([
                "trace has more than 1 spans, showing first 1 spans only"
            ])]
        )
    );
}
