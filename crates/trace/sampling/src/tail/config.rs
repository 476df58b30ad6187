use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter as _, Spanned};

use super::duration;
use crate::ConfigError;

/// The block `tail_sampling`. Names, shape and defaults are those of the collector's processor
/// (v0.15x), except where a field says otherwise; an unknown key is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailConfig {
    /// How long after its first span a trace is decided.
    #[serde(deserialize_with = "duration::deserialize")]
    pub decision_wait: Duration,
    /// How long after its root span, if that is earlier; 0 is off.
    #[serde(deserialize_with = "duration::deserialize")]
    pub decision_wait_after_root_received: Duration,
    /// Undecided traces in memory at most.
    pub num_traces: usize,
    /// Ours: bytes of undecided traces, and of kept ones that the store has not taken yet.
    pub max_bytes: u64,
    /// When there is no room: refuse, so that the sender comes again. Otherwise the trace that has
    /// waited longest is decided with what is there.
    pub block_on_overflow: bool,
    /// What is remembered for late spans.
    pub decision_cache: DecisionCache,
    /// Stop at the first policy that samples or drops.
    pub sample_on_first_match: bool,
    /// At the end, drop what is undecided; otherwise it is decided with what is there.
    pub drop_pending_traces_on_shutdown: bool,
    /// A trace that takes more is dropped at once; 0 is no limit. In bytes of memory.
    pub maximum_trace_size_bytes: u64,
    /// Ours: how many decisions can be asked about.
    pub recent_decisions: usize,
    /// Accepted, and without effect: nothing is preallocated.
    pub expected_new_traces_per_sec: u64,
    /// Accepted, and without effect: there is one loop.
    pub num_shards: u64,
    /// What decides.
    pub policies: Vec<Spanned<PolicyConfig>>,
}

impl Default for TailConfig {
    fn default() -> Self {
        Self {
            decision_wait: Duration::from_secs(30),
            decision_wait_after_root_received: Duration::ZERO,
            num_traces: 50_000,
            max_bytes: 256 << 20,
            block_on_overflow: false,
            decision_cache: DecisionCache::default(),
            sample_on_first_match: false,
            drop_pending_traces_on_shutdown: false,
            maximum_trace_size_bytes: 0,
            recent_decisions: 10_000,
            expected_new_traces_per_sec: 0,
            num_shards: 1,
            policies: Vec::new(),
        }
    }
}

/// How many decisions are remembered for spans that come late. 0, the default, is as many as
/// `num_traces` (the collector remembers none then, apart from those in its ring).
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionCache {
    /// Traces that were kept.
    pub sampled_cache_size: usize,
    /// Traces that were dropped.
    pub non_sampled_cache_size: usize,
}

/// A policy: a name, a type, and a block named like the type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its name, in metrics and decisions.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ours: only traces with a span of one of these services are judged by it.
    pub services: Vec<String>,
    pub(super) always_sample: Option<Nothing>,
    pub(super) latency: Option<Latency>,
    pub(super) status_code: Option<StatusCodes>,
    pub(super) probabilistic: Option<Probabilistic>,
    pub(super) rate_limiting: Option<RateLimiting>,
    pub(super) bytes_limiting: Option<BytesLimiting>,
    pub(super) string_attribute: Option<StringAttribute>,
    pub(super) numeric_attribute: Option<NumericAttribute>,
    pub(super) boolean_attribute: Option<BooleanAttribute>,
    pub(super) trace_state: Option<TraceState>,
    pub(super) trace_flags: Option<Nothing>,
    pub(super) span_count: Option<SpanCount>,
    pub(super) and: Option<And>,
    pub(super) not: Option<Box<Not>>,
    pub(super) drop: Option<Drop>,
    pub(super) composite: Option<Composite>,
    pub(super) ottl_condition: Option<serde::de::IgnoredAny>,
    /// Ours: a query line.
    pub(super) query: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Latency {
    #[serde(default)]
    pub(super) threshold_ms: u64,
    #[serde(default)]
    pub(super) upper_threshold_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusCodes {
    pub(super) status_codes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Probabilistic {
    pub(super) sampling_percentage: f64,
    #[serde(default)]
    pub(super) hash_salt: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimiting {
    pub(super) spans_per_second: u64,
    #[serde(default)]
    pub(super) burst_capacity: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BytesLimiting {
    pub(super) bytes_per_second: u64,
    #[serde(default)]
    pub(super) burst_capacity: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StringAttribute {
    pub(super) key: String,
    pub(super) values: Vec<String>,
    #[serde(default)]
    pub(super) enabled_regex_matching: bool,
    /// Accepted, and without effect: matching takes linear time.
    #[serde(default, rename = "cache_max_size")]
    pub(super) _cache_max_size: u64,
    #[serde(default)]
    pub(super) invert_match: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumericAttribute {
    pub(super) key: String,
    pub(super) min_value: Option<i64>,
    pub(super) max_value: Option<i64>,
    #[serde(default)]
    pub(super) invert_match: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BooleanAttribute {
    pub(super) key: String,
    pub(super) value: bool,
    #[serde(default)]
    pub(super) invert_match: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceState {
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanCount {
    #[serde(default)]
    pub(super) min_spans: u64,
    #[serde(default)]
    pub(super) max_spans: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct And {
    pub(super) and_sub_policy: Vec<PolicyConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Not {
    pub(super) not_sub_policy: PolicyConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drop {
    pub(super) drop_sub_policy: Vec<PolicyConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Composite {
    pub(super) max_total_spans_per_second: u64,
    pub(super) policy_order: Vec<String>,
    pub(super) composite_sub_policy: Vec<PolicyConfig>,
    #[serde(default)]
    pub(super) rate_allocation: Vec<Allocation>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allocation {
    pub(super) policy: String,
    pub(super) percent: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tail_sampling: Spanned<TailConfig>,
}

impl TailConfig {
    /// Reads a YAML file with the one block `tail_sampling:`; `file` is its name for the messages.
    ///
    /// # Errors
    ///
    /// If it is no such file: with the line and the column. What the policies say is checked by
    /// [`super::Policies::new`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            with_snippet: false,
        };
        let parsed: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let at = error.location();
            let message = serde_saphyr::UserMessageFormatter
                .format_message(error.without_snippet())
                .into_owned();
            ConfigError {
                file: file.to_owned(),
                line: at.map_or(1, |at| at.line()),
                column: at.map_or(1, |at| at.column()),
                message,
            }
        })?;
        let at = parsed.tail_sampling.referenced;
        let config = parsed.tail_sampling.value;
        config.check().map_err(|message| ConfigError {
            file: file.to_owned(),
            line: at.line(),
            column: at.column(),
            message,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.decision_wait.is_zero() {
            return Err("decision_wait must be longer than 0: use 30s".to_owned());
        }
        if self.num_traces == 0 {
            return Err("num_traces must be 1 or more".to_owned());
        }
        if self.max_bytes < 1 << 20 {
            return Err(format!(
                "max_bytes is {}: at least {} are needed",
                self.max_bytes,
                1 << 20
            ));
        }
        if self.policies.is_empty() {
            return Err("there are no policies: everything would be dropped".to_owned());
        }
        Ok(())
    }

    /// What the file says that has no effect here.
    pub fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let keys = [
            (
                self.expected_new_traces_per_sec != 0,
                "expected_new_traces_per_sec",
            ),
            (self.num_shards != 1, "num_shards"),
        ];
        keys.into_iter().filter_map(|(set, key)| set.then_some(key))
    }
}
