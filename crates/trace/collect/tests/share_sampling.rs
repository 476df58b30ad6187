//! Zipkin's `COLLECTOR_SAMPLE_RATE`: a share of all traces, by their ids.

mod support;

use std::sync::Arc;

use periplus_collect::sampling::ShareSampling;
use periplus_model::{Attribute, Batch};
use periplus_store::{MemoryStore, SpanSink as _, SpanStore as _, StoreError};
use support::{Refusing, batch};

#[tokio::test]
async fn traces_outside_of_the_share_are_dropped_and_counted() {
    let store = Arc::new(MemoryStore::default());
    let sampling = ShareSampling::new(0.5, store.clone());
    let large = u64::MAX / 2 - 1;
    let mut debugged = batch(large - 1, 1);
    debugged.groups[0].spans[0]
        .attributes
        .push(Attribute::new("zipkin.debug", true));
    let groups = [batch(1, 2), batch(large, 3), debugged].map(|batch| batch.groups);
    let whole = Batch {
        groups: groups.into_iter().flatten().collect(),
    };
    sampling.append(whole).await.unwrap();
    assert_eq!((store.stats().spans, sampling.dropped_spans()), (3, 3));
    sampling.append(batch(large, 1)).await.unwrap();
    assert_eq!((store.stats().spans, sampling.dropped_spans()), (3, 4));

    let busy = || StoreError::Busy {
        reason: "full".to_owned(),
    };
    let refused = ShareSampling::new(0.5, Arc::new(Refusing(busy)));
    let mixed = Batch {
        groups: [batch(1, 1), batch(large, 1)]
            .into_iter()
            .flat_map(|batch| batch.groups)
            .collect(),
    };
    assert!(refused.append(mixed).await.is_err());
    assert_eq!(refused.dropped_spans(), 0);
}
