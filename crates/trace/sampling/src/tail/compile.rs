//! From what a file says to policies that judge.

use std::collections::HashSet;

use periplus_model::StatusCode;
use regex::{Regex, RegexBuilder};

use super::condition::{Condition, Wanted};
use super::config::{Composite as CompositeConfig, PolicyConfig, StringAttribute, TailConfig};
use super::hash;
use super::limit::{Bucket, Composite, Part};
use super::policies::{Policies, Policy};
use crate::ConfigError;

/// How deep policies may stand in one another.
const MAX_DEPTH: usize = 8;

/// The most policies: each is a label in metrics and a verdict in every decision.
const MAX_POLICIES: usize = 250;

/// The most memory that one pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

impl Policies {
    /// The policies of a configuration; `file` is its name for the messages.
    ///
    /// # Errors
    ///
    /// At the first policy that says something wrong, with the line that it begins at.
    pub fn new(file: &str, config: &TailConfig) -> Result<Self, ConfigError> {
        let mut names = HashSet::new();
        let mut list = Vec::with_capacity(config.policies.len());
        for (nth, entry) in config.policies.iter().enumerate() {
            let name = &entry.value.name;
            let checked = if nth >= MAX_POLICIES {
                Err(format!("there are more than {MAX_POLICIES} policies"))
            } else if !names.insert(name) {
                Err("there is another policy of that name".to_owned())
            } else {
                compile(&entry.value, MAX_DEPTH)
            };
            list.push(checked.map_err(|message| ConfigError {
                file: file.to_owned(),
                line: entry.referenced.line(),
                column: entry.referenced.column(),
                message: format!("policy '{name}': {message}"),
            })?);
        }
        Ok(Self {
            list,
            stop_at_first_match: config.sample_on_first_match,
        })
    }
}

fn compile(config: &PolicyConfig, depth: usize) -> Result<Policy, String> {
    if depth == 0 {
        return Err(format!("policies are nested more than {MAX_DEPTH} deep"));
    }
    if config.name.is_empty() {
        return Err("a policy needs a 'name'".to_owned());
    }
    only_its_own_block(config)?;
    let (kind, condition) = condition(config, depth)?;
    Ok(Policy {
        name: config.name.clone(),
        kind,
        services: config.services.clone(),
        condition,
    })
}

/// A block beside the type's own would be ignored: somebody forgot to change one of the two.
fn only_its_own_block(config: &PolicyConfig) -> Result<(), String> {
    let blocks = [
        ("always_sample", config.always_sample.is_some()),
        ("latency", config.latency.is_some()),
        ("status_code", config.status_code.is_some()),
        ("probabilistic", config.probabilistic.is_some()),
        ("rate_limiting", config.rate_limiting.is_some()),
        ("bytes_limiting", config.bytes_limiting.is_some()),
        ("string_attribute", config.string_attribute.is_some()),
        ("numeric_attribute", config.numeric_attribute.is_some()),
        ("boolean_attribute", config.boolean_attribute.is_some()),
        ("trace_state", config.trace_state.is_some()),
        ("trace_flags", config.trace_flags.is_some()),
        ("span_count", config.span_count.is_some()),
        ("and", config.and.is_some()),
        ("not", config.not.is_some()),
        ("drop", config.drop.is_some()),
        ("composite", config.composite.is_some()),
        ("ottl_condition", config.ottl_condition.is_some()),
        ("query", config.query.is_some()),
    ];
    match blocks
        .iter()
        .find(|(name, set)| *set && *name != config.kind)
    {
        Some((name, _)) => Err(format!(
            "it has the type '{}' and a block '{name}': remove one of them",
            config.kind
        )),
        None => Ok(()),
    }
}

fn condition(config: &PolicyConfig, depth: usize) -> Result<(&'static str, Condition), String> {
    Ok(match config.kind.as_str() {
        "always_sample" => ("always_sample", Condition::Always),
        "latency" => {
            let block = block(config.latency, "latency")?;
            let max = (block.upper_threshold_ms != 0).then_some(block.upper_threshold_ms);
            if max.is_some_and(|max| max <= block.threshold_ms) {
                return Err("upper_threshold_ms must be larger than threshold_ms".to_owned());
            }
            ("latency", Condition::Latency(block.threshold_ms, max))
        }
        "status_code" => {
            let codes = &block(config.status_code.as_ref(), "status_code")?.status_codes;
            ("status_code", Condition::Status(statuses(codes)?))
        }
        "probabilistic" => {
            let block = block(config.probabilistic.as_ref(), "probabilistic")?;
            if !block.sampling_percentage.is_finite() || block.sampling_percentage < 0.0 {
                return Err(format!(
                    "sampling_percentage is {}: use a number from 0 to 100",
                    block.sampling_percentage
                ));
            }
            let salt = match block.hash_salt.as_str() {
                "" => hash::DEFAULT_SALT,
                salt => salt,
            };
            let condition = Condition::Probabilistic {
                salt: salt.as_bytes().to_vec(),
                threshold: hash::threshold(block.sampling_percentage),
            };
            ("probabilistic", condition)
        }
        "rate_limiting" => {
            let block = block(config.rate_limiting, "rate_limiting")?;
            let bucket = Bucket::new(block.spans_per_second, block.burst_capacity);
            ("rate_limiting", Condition::Spans(bucket))
        }
        "bytes_limiting" => {
            let block = block(config.bytes_limiting, "bytes_limiting")?;
            let bucket = Bucket::new(block.bytes_per_second, block.burst_capacity);
            ("bytes_limiting", Condition::Bytes(bucket))
        }
        "string_attribute" => {
            let block = block(config.string_attribute.as_ref(), "string_attribute")?;
            let condition = Condition::Attribute {
                key: block.key.clone(),
                wanted: texts(block)?,
                invert: block.invert_match,
            };
            ("string_attribute", condition)
        }
        "numeric_attribute" => {
            let block = block(config.numeric_attribute.as_ref(), "numeric_attribute")?;
            let (min, max) = match (block.min_value, block.max_value) {
                (None, None) => return Err("it needs a min_value or a max_value".to_owned()),
                (min, max) => (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX)),
            };
            if min > max {
                return Err(format!("min_value {min} is larger than max_value {max}"));
            }
            let condition = Condition::Attribute {
                key: block.key.clone(),
                wanted: Wanted::Int(min, max),
                invert: block.invert_match,
            };
            ("numeric_attribute", condition)
        }
        "boolean_attribute" => {
            let block = block(config.boolean_attribute.as_ref(), "boolean_attribute")?;
            let condition = Condition::Attribute {
                key: block.key.clone(),
                wanted: Wanted::Bool(block.value),
                invert: block.invert_match,
            };
            ("boolean_attribute", condition)
        }
        "trace_state" => {
            let block = block(config.trace_state.as_ref(), "trace_state")?;
            let condition = Condition::TraceState {
                key: block.key.clone(),
                values: block.values.clone(),
            };
            ("trace_state", condition)
        }
        "trace_flags" => ("trace_flags", Condition::TraceFlags),
        "span_count" => {
            let block = block(config.span_count, "span_count")?;
            let max = (block.max_spans != 0).then_some(block.max_spans);
            ("span_count", Condition::SpanCount(block.min_spans, max))
        }
        "query" => {
            let line = block(config.query.as_ref(), "query")?;
            let filter = periplus_filter::parse(line).map_err(|error| format!("query: {error}"))?;
            filter.check().map_err(|error| format!("query: {error}"))?;
            ("query", Condition::Query(filter))
        }
        "and" => {
            let parts = &block(config.and.as_ref(), "and")?.and_sub_policy;
            ("and", Condition::And(nested(parts, depth)?))
        }
        "not" => {
            let part = &block(config.not.as_ref(), "not")?.not_sub_policy;
            ("not", Condition::Not(Box::new(compile_part(part, depth)?)))
        }
        "drop" => {
            let parts = &block(config.drop.as_ref(), "drop")?.drop_sub_policy;
            ("drop", Condition::Drop(nested(parts, depth)?))
        }
        "composite" => {
            let block = block(config.composite.as_ref(), "composite")?;
            ("composite", Condition::Composite(composite(block, depth)?))
        }
        "ottl_condition" => {
            return Err(
                "the type ottl_condition is not supported: say it as a query line, such as \
                 `type: query` with `query: 'http.response.status_code>=500'`"
                    .to_owned(),
            );
        }
        "" => return Err("a policy needs a 'type', such as latency".to_owned()),
        other => {
            return Err(format!(
                "there is no type '{other}': use always_sample, latency, status_code, \
                 probabilistic, rate_limiting, bytes_limiting, string_attribute, \
                 numeric_attribute, boolean_attribute, trace_state, trace_flags, span_count, \
                 query, and, not, drop or composite"
            ));
        }
    })
}

fn block<T>(block: Option<T>, name: &str) -> Result<T, String> {
    block.ok_or_else(|| format!("it has the type {name}, but no block '{name}'"))
}

fn nested(parts: &[PolicyConfig], depth: usize) -> Result<Vec<Policy>, String> {
    if parts.is_empty() {
        return Err("it has no policies inside".to_owned());
    }
    parts.iter().map(|part| compile_part(part, depth)).collect()
}

fn compile_part(part: &PolicyConfig, depth: usize) -> Result<Policy, String> {
    compile(part, depth - 1).map_err(|error| format!("policy '{}' inside: {error}", part.name))
}

fn composite(config: &CompositeConfig, depth: usize) -> Result<Composite, String> {
    let max = config.max_total_spans_per_second;
    let mut policies = nested(&config.composite_sub_policy, depth)?;
    let even = max / policies.len() as u64;
    let mut parts = Vec::with_capacity(policies.len());
    for name in &config.policy_order {
        let found = policies.iter().position(|policy| policy.name == *name);
        let Some(at) = found else {
            return Err(format!(
                "policy_order names '{name}', which is not in composite_sub_policy, or is named twice"
            ));
        };
        let allocation = config
            .rate_allocation
            .iter()
            .find(|entry| entry.policy == *name);
        parts.push(Part {
            policy: policies.remove(at),
            spans_per_second: allocation.map_or(even, |entry| max * entry.percent.min(100) / 100),
            spans: 0,
        });
    }
    if let Some(policy) = policies.first() {
        return Err(format!("policy_order does not name '{}'", policy.name));
    }
    for entry in &config.rate_allocation {
        if !config.policy_order.contains(&entry.policy) {
            return Err(format!(
                "rate_allocation names '{}', which is not in policy_order",
                entry.policy
            ));
        }
    }
    Ok(Composite {
        max_spans_per_second: max,
        parts,
        second: 0,
    })
}

fn statuses(codes: &[String]) -> Result<Vec<StatusCode>, String> {
    if codes.is_empty() {
        return Err("status_codes is empty: use OK, ERROR or UNSET".to_owned());
    }
    (codes.iter())
        .map(|code| match code.as_str() {
            "OK" => Ok(StatusCode::Ok),
            "ERROR" => Ok(StatusCode::Error),
            "UNSET" => Ok(StatusCode::Unset),
            other => Err(format!(
                "there is no status '{other}': use OK, ERROR or UNSET"
            )),
        })
        .collect()
}

fn texts(block: &StringAttribute) -> Result<Wanted, String> {
    if block.values.is_empty() {
        return Err("'values' is empty".to_owned());
    }
    if !block.enabled_regex_matching {
        return Ok(Wanted::Text(block.values.iter().cloned().collect()));
    }
    let pattern = |text: &String| -> Result<Regex, String> {
        let mut builder = RegexBuilder::new(text);
        builder
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES);
        builder
            .build()
            .map_err(|error| format!("'{text}' is no regular expression: {error}"))
    };
    let patterns = block.values.iter().map(pattern).collect::<Result<_, _>>()?;
    Ok(Wanted::Match(patterns))
}
