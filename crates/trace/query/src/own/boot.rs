use periplus_store::StoreStats;
use serde::Serialize;

use crate::Options;

/// What the UI needs before it draws anything.
#[derive(Debug, Serialize)]
pub(super) struct Boot {
    version: &'static str,
    store: Store,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    engine: &'static str,
    traces: u64,
    spans: u64,
    bytes: u64,
    max_bytes: u64,
    accepted_spans: u64,
    evicted_traces: u64,
    evicted_spans: u64,
}

pub(super) fn boot(options: &Options, stats: StoreStats) -> Boot {
    Boot {
        version: options.version,
        store: Store {
            engine: options.engine,
            traces: stats.traces,
            spans: stats.spans,
            bytes: stats.bytes,
            max_bytes: stats.max_bytes,
            accepted_spans: stats.accepted_spans,
            evicted_traces: stats.evicted_traces,
            evicted_spans: stats.evicted_spans,
        },
    }
}
