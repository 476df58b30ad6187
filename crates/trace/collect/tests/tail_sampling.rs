//! Tail sampling between receivers and a store.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use periplus_collect::sampling::{TailSampling, api, dry_run};
use periplus_collect::{Limits, Reason, Receiver};
use periplus_model::{Batch, StatusCode};
use periplus_sampling::tail::{Policies, TailConfig, TailSampler};
use periplus_store::{
    BoxFuture, MemoryStore, SpanSink, SpanStore as _, StoreError, TimeRange, TraceFilter,
    TraceQuery, parse,
};
use support::{Receivers, batch, id_of, post, send, spawn};
use tokio::sync::oneshot;

const ERRORS: &str = "  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}";

fn config(text: &str) -> (TailConfig, Policies) {
    let text = format!("tail_sampling:\n{text}");
    let config = TailConfig::parse("t.yaml", &text).unwrap();
    let policies = Policies::new("t.yaml", &config).unwrap();
    (config, policies)
}

fn sampler(text: &str) -> TailSampler {
    let (config, policies) = config(text);
    TailSampler::new(config, policies)
}

fn failing(trace: u64, spans: u64) -> Batch {
    let mut batch = batch(trace, spans);
    batch.groups[0].spans[0].status.code = StatusCode::Error;
    batch
}

async fn stored(store: &MemoryStore, trace: u64) -> Option<usize> {
    let id = id_of(trace).parse().unwrap();
    let found = store.trace(id).await.unwrap();
    found.map(|trace| trace.span_count())
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_wants_is_stored_when_it_is_due() {
    let store = Arc::new(MemoryStore::default());
    let sampler = sampler(&format!("  decision_wait: 10s\n  policies:\n{ERRORS}"));
    let tail = TailSampling::new(sampler, store.clone());
    let (end, ended) = oneshot::channel::<()>();
    let running = tokio::spawn(tail.clone().run(async {
        ended.await.ok();
    }));
    tail.append(failing(1, 3)).await.unwrap();
    tail.append(batch(2, 2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(stored(&store, 1).await, None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stored(&store, 1).await, Some(3));
    assert_eq!(stored(&store, 2).await, None);

    // Late spans need not wait.
    tail.append(batch(1, 2)).await.unwrap();
    tail.append(failing(2, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(stored(&store, 1).await, Some(5));
    assert_eq!(stored(&store, 2).await, None);

    // The end decides what is there.
    tail.append(failing(3, 1)).await.unwrap();
    end.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(stored(&store, 3).await, Some(1));
    let stats = tail.stats();
    assert_eq!(
        (stats.kept_spans, stats.dropped_spans, stats.bytes),
        (6, 3, 0)
    );
    assert_eq!((tail.lost_spans(), tail.retries()), (0, 0));
}

/// Refuses so many times, in one way, then stores.
struct Moody {
    store: MemoryStore,
    refusals: AtomicU32,
    error: fn() -> StoreError,
}

impl SpanSink for Moody {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let refuse = self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match refuse {
            Ok(_) => {
                let error = (self.error)();
                Box::pin(async move { Err(error) })
            }
            Err(_) => self.store.append(batch),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_asked_again() {
    let busy = || StoreError::Busy {
        reason: "full".to_owned(),
    };
    let broken = || StoreError::Io {
        action: "writing",
        source: std::io::Error::other("no disk"),
    };
    let too_large = || StoreError::TooLarge {
        what: "in all",
        found_bytes: 2,
        max_bytes: 1,
    };
    for (error, refusals, lost, retries) in [
        (busy as fn() -> StoreError, 5, 0, 5),
        (broken, 5, 0, 5),
        // All at once, the first half, the first of them: that one alone does not fit.
        (too_large, 3, 1, 0),
    ] {
        let sink = Arc::new(Moody {
            store: MemoryStore::default(),
            refusals: AtomicU32::new(refusals),
            error,
        });
        let sampler = sampler(&format!("  decision_wait: 1s\n  policies:\n{ERRORS}"));
        let tail = TailSampling::new(sampler, sink.clone());
        for trace in 1..=4 {
            tail.append(failing(trace, 1)).await.unwrap();
        }
        let running = tokio::spawn(tail.clone().run(std::future::pending()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((tail.lost_spans(), tail.retries()), (lost, retries));
        assert_eq!(sink.store.stats().spans, 4 - lost);
        assert_eq!(tail.stats().bytes, 0);
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_a_dead_store() {
    let busy = || StoreError::Busy {
        reason: "full".to_owned(),
    };
    let sampler = sampler(&format!("  policies:\n{ERRORS}"));
    let tail = TailSampling::new(sampler, Arc::new(support::Refusing(busy)));
    tail.append(failing(1, 2)).await.unwrap();
    let run = tail.clone().run(std::future::ready(()));
    tokio::time::timeout(Duration::from_secs(30), run)
        .await
        .unwrap();
    assert_eq!(tail.lost_spans(), 2);
}

#[tokio::test]
async fn a_full_buffer_asks_the_sender_to_come_again() {
    let sampler = sampler(&format!(
        "  num_traces: 1\n  block_on_overflow: true\n  policies:\n{ERRORS}"
    ));
    let tail = TailSampling::new(sampler, Arc::new(MemoryStore::default()));
    let receivers = Receivers::with(Limits::default(), Arc::new(tail)).await;
    let span = |trace: u64| {
        format!(
            r#"[{{"traceId":"{trace:016x}","id":"1","name":"get","timestamp":1795332552157501,"duration":10}}]"#
        )
    };
    let json = "content-type: application/json\r\n";
    let send = async |trace| {
        post(
            receivers.zipkin,
            "/api/v2/spans",
            json,
            span(trace).as_bytes(),
        )
        .await
    };
    assert_eq!(send(1).await.status, 202);
    assert_eq!(send(1).await.status, 202);
    let answer = send(2).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(
        answer.text().contains("as many undecided traces as it may"),
        "{}",
        answer.text()
    );
    let stats = receivers.collector.stats();
    assert_eq!(stats.refused_spans(Receiver::Zipkin, Reason::Busy), 1);
}

#[tokio::test]
async fn the_api_says_why() {
    let store = Arc::new(MemoryStore::default());
    let sampler = sampler(&format!(
        "  num_traces: 2\n  policies:\n{ERRORS}\n  - {{name: slow, type: latency, latency: {{threshold_ms: 5000}}}}"
    ));
    let tail = TailSampling::new(sampler, store.clone());
    let address = spawn(api::router(Some(tail.clone()), store.clone())).await;
    tail.append(failing(1, 2)).await.unwrap();
    tail.append(batch(2, 1)).await.unwrap();
    tail.append(batch(3, 1)).await.unwrap();
    tail.append(batch(4, 1)).await.unwrap();
    let get = async |query: &str| {
        let path = format!("/api/periplus/v1/sampling/decisions{query}");
        send(address, "GET", &path, "", b"").await
    };
    let answer = get(&format!("?trace={}", id_of(1))).await.json();
    let decision = &answer["decisions"][0];
    assert_eq!(decision["kept"], true);
    assert_eq!(decision["reason"], "kept: policy 'errors' wants it");
    assert_eq!(decision["cause"], "overflow");
    assert_eq!(
        (&decision["service"], &decision["spans"]),
        (&"shop".into(), &2.into())
    );
    assert_eq!(
        decision["policies"],
        serde_json::json!([
            {"name": "errors", "type": "status_code", "verdict": "sampled"},
            {"name": "slow", "type": "latency", "verdict": "not_sampled"},
        ])
    );
    let answer = get(&format!("?trace={}", id_of(2))).await.json();
    assert_eq!(
        answer["decisions"][0]["reason"],
        "dropped: no policy wants it"
    );
    let answer = get(&format!("?trace={}", id_of(3))).await.json();
    assert_eq!(answer["decisions"], serde_json::json!([]));
    assert_eq!(answer["pending"]["spans"], 1);
    let answer = get("?kept=false&limit=10").await.json();
    assert_eq!(answer["decisions"].as_array().unwrap().len(), 1);
    let answer = get("?trace=xyz").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("'xyz' is not a trace id"),
        "{}",
        answer.text()
    );

    let off = spawn(api::router(None, store)).await;
    let answer = send(off, "GET", "/api/periplus/v1/sampling/decisions", "", b"").await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("--tail-sampling FILE"),
        "{}",
        answer.text()
    );
}

const POLICIES: &str = "  policies:
  - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
  - {name: some, type: rate_limiting, rate_limiting: {spans_per_second: 2}}
";

#[tokio::test]
async fn a_dry_run_says_what_would_be_kept() {
    let store = Arc::new(MemoryStore::default());
    for trace in 1..=5 {
        store
            .append(if trace == 3 {
                failing(trace, 2)
            } else {
                batch(trace, 2)
            })
            .await
            .unwrap();
    }
    let all = || TraceQuery::new(TimeRange::ALL, parse("").unwrap(), 100);
    let report = dry_run(&*store, config(POLICIES).1, all()).await.unwrap();
    // A burst of four spans, all traces at the same time.
    assert_eq!((report.all.traces, report.all.spans), (5, 10));
    assert_eq!(
        (
            report.policies[0].sampled.traces,
            report.policies[1].sampled.traces
        ),
        (1, 2)
    );
    assert_eq!(report.kept.traces + report.dropped.traces, 5);
    assert_eq!(report.policies[0].examples[0].trace_id, id_of(3));
    assert!(report.kept.bytes > 0);
    assert_eq!(report.partial, None);
    let none = TraceFilter::Not(Box::new(parse("").unwrap()));
    let query = TraceQuery::new(TimeRange::ALL, none, 100);
    let report = dry_run(&*store, config(POLICIES).1, query).await.unwrap();
    assert_eq!(report.all.traces, 0);

    let address = spawn(api::router(None, store)).await;
    let body = format!("tail_sampling:\n{POLICIES}");
    let path = "/api/periplus/v1/sampling/dry-run?start=0&q=service%3Dshop&limit=2";
    let answer = post(address, path, "", body.as_bytes()).await;
    let report = answer.json();
    assert_eq!(report["all"]["traces"], 2);
    assert_eq!(report["partial"], "only the newest 2 traces were looked at");
    let answer = post(
        address,
        "/api/periplus/v1/sampling/dry-run",
        "",
        b"tail_sampling: {}",
    )
    .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("config:1:16: there are no policies"),
        "{}",
        answer.text()
    );
}
