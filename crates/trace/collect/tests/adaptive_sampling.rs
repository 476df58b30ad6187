//! Adaptive sampling: roots are counted at intake, probabilities are told, and survive a restart.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use periplus_collect::sampling::{AdaptiveSampling, RemoteSampling};
use periplus_model::{Attribute, Batch};
use periplus_sampling::AdaptiveOptions;
use periplus_store::{MemoryStore, SpanStore as _, StoreError};
use periplus_wire::otlp::encode_protobuf;
use periplus_wire::sampling::Strategy;
use support::{Refusing, batch};
use tokio::sync::oneshot;

fn adaptive(path: Option<PathBuf>) -> AdaptiveSampling {
    let options = AdaptiveOptions {
        calculation_delay: Duration::ZERO,
        initial_sampling_probability: 0.5,
        ..AdaptiveOptions::default()
    };
    AdaptiveSampling::new(options, path)
}

fn probability(strategy: &Strategy, operation: &str) -> Option<f64> {
    let operations = &strategy.operations.as_ref()?.per_operation;
    let found = operations
        .iter()
        .find(|entry| entry.operation == operation)?;
    Some(found.probability)
}

/// Six hundred traces of three spans each.
fn minute() -> Batch {
    let groups = (0..600).flat_map(|trace| batch(trace, 3).groups);
    Batch {
        groups: groups.collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_opentelemetry_sends_is_counted_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sampling/adaptive.json");
    let sampling = adaptive(Some(path.clone()));
    let remote = RemoteSampling::adaptive(sampling.clone());
    let store = Arc::new(MemoryStore::default());
    let sink = sampling.counting(store.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(sampling.clone().run(async {
        stopped.await.ok();
    }));

    // The client asks, then sends what it has sampled: without a word on how.
    assert_eq!(probability(&remote.strategy("shop"), "op 1"), None);
    sink.append_otlp(encode_protobuf(&minute()).into())
        .await
        .unwrap();
    assert_eq!(sampling.stats().roots, 600);
    assert_eq!(store.stats().spans, 1_800);
    tokio::time::sleep(Duration::from_secs(61)).await;
    // Ten a second where one is wanted.
    let told = probability(&remote.strategy("shop"), "op 1");
    assert_eq!(told, Some(0.05));
    stop.send(()).unwrap();
    running.await.unwrap();

    let resumed = adaptive(Some(path.clone()));
    assert_eq!(probability(&resumed.strategy("shop"), "op 1"), Some(0.05));
    std::fs::write(&path, "{").unwrap();
    assert_eq!(
        probability(&adaptive(Some(path)).strategy("shop"), "op 1"),
        None
    );
}

#[tokio::test]
async fn what_is_refused_or_sampled_by_others_is_not_counted() {
    let sampling = adaptive(None);
    sampling.strategy("shop");
    let busy = || StoreError::Busy {
        reason: "full".to_owned(),
    };
    let refusing = sampling.counting(Arc::new(Refusing(busy)));
    assert!(refusing.append(batch(1, 1)).await.is_err());
    assert_eq!(sampling.stats().roots, 0);

    let sink = sampling.counting(Arc::new(MemoryStore::default()));
    let tagged = |kind: &str, param: f64| {
        let mut batch = batch(1, 1);
        let span = &mut batch.groups[0].spans[0];
        span.attributes.push(Attribute::new("sampler.type", kind));
        span.attributes.push(Attribute::new("sampler.param", param));
        batch
    };
    sink.append(tagged("const", 1.0)).await.unwrap();
    sink.append(tagged("ratelimiting", 5.0)).await.unwrap();
    let stats = sampling.stats();
    assert_eq!((stats.roots, stats.foreign_roots), (0, 2));
    sink.append(tagged("probabilistic", 0.5)).await.unwrap();
    sink.append(tagged("lowerbound", 0.5)).await.unwrap();
    assert_eq!(sampling.stats().roots, 2);
}
