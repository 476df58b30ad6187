use std::time::Duration;

use crate::diagnostic::At;
use crate::meta::Labels;
use crate::target::read_match_labels;
use crate::view::{Shape, View};

/// What each proxy counts by itself: `envoyLocalRateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitProvider {
    /// Its name.
    pub name: String,
    /// What is counted.
    pub limits: Vec<LocalLimit>,
}

/// A bucket of tokens, of which each request to some workloads takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalLimit {
    /// Those of this namespace; of all without it.
    pub namespace: Option<String>,
    /// Those with these labels.
    pub selector: Labels,
    /// The workload's port, or that of a Gateway's server; a bucket for each of them without it.
    pub port: Option<u16>,
    /// Of a gateway's requests those that rules of these names match, a bucket for each; all without them.
    pub routes: Vec<String>,
    /// The bucket.
    pub bucket: Bucket,
    /// `enableXRatelimitHeaders`: clients are told how much is left.
    pub tells: bool,
    /// Where it is written.
    pub at: At,
}

/// `tokenBucket`, under Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `maxTokens`: the most that there are, and those that there are at first.
    pub most: u32,
    /// `tokensPerFill`: those that come in each interval.
    pub per_fill: u32,
    /// `fillInterval`.
    pub interval: Duration,
}

const LOCAL: Shape = Shape {
    known: &["limits"],
    refused: &[],
};
const LIMIT: Shape = Shape {
    known: &[
        "namespace",
        "selector",
        "port",
        "routes",
        "tokenBucket",
        "enableXRatelimitHeaders",
    ],
    refused: &[(
        "actions",
        "all requests share a bucket: `envoyRateLimitGrpc` tells them apart",
    )],
};
const BUCKET: Shape = Shape {
    known: &["maxTokens", "tokensPerFill", "fillInterval"],
    refused: &[],
};

/// As Envoy has it.
const SHORTEST: Duration = Duration::from_millis(50);

impl LimitProvider {
    pub(super) fn read(name: String, view: &View<'_>) -> Option<Self> {
        let object = view.object(&LOCAL)?;
        let items = object.items("limits");
        if items.is_empty() {
            object.fail("without `limits` nothing is limited");
        }
        Some(Self {
            name,
            limits: items.iter().filter_map(LocalLimit::read).collect(),
        })
    }
}

impl LocalLimit {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&LIMIT)?;
        let routes = object.items("routes");
        let tells = object.optional("enableXRatelimitHeaders", View::bool)?;
        Some(Self {
            namespace: object.optional("namespace", View::some_text)?,
            selector: read_match_labels(&object)?,
            port: object.optional("port", View::port)?,
            routes: routes.iter().filter_map(View::some_text).collect(),
            bucket: Bucket::read(object.require("tokenBucket")?)?,
            tells: tells.unwrap_or(false),
            at: At(object.view().at()),
        })
    }
}

impl Bucket {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&BUCKET)?;
        let number = |view: &View<'_>| {
            let number = view.u32()?;
            if number == 0 {
                view.fail(
                    "must be at least 1: what is never let through is for an AuthorizationPolicy",
                );
            }
            Some(number)
        };
        let interval = object.require("fillInterval")?;
        let bucket = Self {
            most: number(object.require("maxTokens")?)?,
            per_fill: object.optional("tokensPerFill", number)?.unwrap_or(1),
            interval: interval.duration()?,
        };
        if bucket.interval < SHORTEST {
            interval.fail(format!("must be at least {SHORTEST:?}"));
        }
        Some(bucket)
    }
}
