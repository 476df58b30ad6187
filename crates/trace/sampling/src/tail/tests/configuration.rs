use std::time::Duration;

use super::{config, whole};
use crate::tail::{Policies, TailConfig};

fn error(text: &str) -> String {
    let parsed = TailConfig::parse("t.yaml", text);
    let outcome = parsed.and_then(|config| Policies::new("t.yaml", &config));
    outcome.expect_err(text).to_string()
}

#[test]
fn a_file_of_the_collector_is_read() {
    let (config, policies) = config(
        "decision_wait: 10s\nnum_traces: 100\nexpected_new_traces_per_sec: 10\ndecision_cache:\n  sampled_cache_size: 100000\n  non_sampled_cache_size: 100000\nnum_shards: 2\npolicies:\n  [\n    {name: test-policy-1, type: always_sample},\n    {name: test-policy-2, type: latency, latency: {threshold_ms: 5000, upper_threshold_ms: 10000}},\n    {name: test-policy-4, type: probabilistic, probabilistic: {sampling_percentage: 10}},\n    {name: test-policy-7, type: rate_limiting, rate_limiting: {spans_per_second: 35}},\n  ]",
    );
    assert_eq!(config.decision_wait, Duration::from_secs(10));
    assert_eq!(config.num_traces, 100);
    assert!(!config.block_on_overflow);
    let ignored: Vec<&str> = config.without_effect().collect();
    assert_eq!(ignored, ["expected_new_traces_per_sec", "num_shards"]);
    let names: Vec<_> = policies.names().collect();
    assert_eq!(names[1], ("test-policy-2", "latency"));
    assert_eq!(names.len(), 4);
}

#[test]
fn errors_name_the_place_and_what_to_do() {
    let policy = |text: &str| whole(&format!("policies:\n- {text}"));
    for (text, expected) in [
        (
            "tail_sampling: {}\n".to_owned(),
            "t.yaml:1:16: there are no policies: everything would be dropped",
        ),
        (
            policy("{name: a, type: latency}"),
            "t.yaml:3:5: policy 'a': it has the type latency, but no block 'latency'",
        ),
        (
            policy("{type: always_sample}"),
            "t.yaml:3:5: policy '': a policy needs a 'name'",
        ),
        (
            policy("{name: a}"),
            "t.yaml:3:5: policy 'a': a policy needs a 'type', such as latency",
        ),
        (
            policy("{name: a, type: always_sample, latency: {}}"),
            "t.yaml:3:5: policy 'a': it has the type 'always_sample' and a block 'latency': remove one of them",
        ),
        (
            policy("{name: a, type: always_sample}\n- {name: a, type: always_sample}"),
            "t.yaml:4:5: policy 'a': there is another policy of that name",
        ),
        (
            policy("{name: a, type: status_code, status_code: {status_codes: [FAILED]}}"),
            "t.yaml:3:5: policy 'a': there is no status 'FAILED': use OK, ERROR or UNSET",
        ),
        (
            policy("{name: a, type: numeric_attribute, numeric_attribute: {key: k}}"),
            "t.yaml:3:5: policy 'a': it needs a min_value or a max_value",
        ),
        (
            policy("{name: a, type: and, and: {and_sub_policy: [{name: b, type: x}]}}"),
            "t.yaml:3:5: policy 'a': policy 'b' inside: there is no type 'x': use always_sample, latency, status_code, probabilistic, rate_limiting, bytes_limiting, string_attribute, numeric_attribute, boolean_attribute, trace_state, trace_flags, span_count, query, and, not, drop or composite",
        ),
        (
            policy(
                "{name: a, type: composite, composite: {max_total_spans_per_second: 1, policy_order: [x], composite_sub_policy: [{name: b, type: always_sample}]}}",
            ),
            "t.yaml:3:5: policy 'a': policy_order names 'x', which is not in composite_sub_policy, or is named twice",
        ),
    ] {
        assert_eq!(error(&text), expected);
    }
    for (text, part) in [
        (
            policy("{name: a, type: ottl_condition, ottl_condition: {span: ['true']}}"),
            "t.yaml:3:5: policy 'a': the type ottl_condition is not supported: say it as a query line",
        ),
        (
            policy("{name: a, type: query, query: 'a=('}"),
            "t.yaml:3:5: policy 'a': query: ",
        ),
        (
            policy(
                "{name: a, type: string_attribute, string_attribute: {key: k, values: ['('], enabled_regex_matching: true}}",
            ),
            "'(' is no regular expression",
        ),
        (
            whole("decision_wait: 30\npolicies: []"),
            "'30' is no duration",
        ),
        (whole("policies: []\nnum_trace: 1"), "t.yaml:3:3: "),
        ("a: 1".to_owned(), "t.yaml:1:1: "),
        (
            whole("decision_wait: 0s\npolicies: []"),
            "decision_wait must be longer than 0",
        ),
    ] {
        let error = error(&text);
        assert!(error.contains(part), "{error}\n{text}");
    }
}
