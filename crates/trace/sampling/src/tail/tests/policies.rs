use std::sync::Arc;

use periplus_model::{Span, SpanGroup, StatusCode};

use super::{T0, config, group, span, with};
use crate::tail::{Policies, TraceView, Verdict};

fn judge(policies: &mut Policies, groups: Vec<SpanGroup>) -> (bool, Vec<&'static str>) {
    let groups: Vec<Arc<SpanGroup>> = groups.into_iter().map(Arc::new).collect();
    let view = TraceView {
        id: groups[0].spans[0].trace_id,
        groups: &groups,
        spans: groups.iter().map(|group| group.spans.len() as u64).sum(),
        bytes: 1_000,
    };
    let judgement = policies.judge(&view, T0);
    let verdicts = judgement.verdicts.iter().map(|verdict| verdict.as_str());
    (judgement.kept, verdicts.collect())
}

fn single(policy: &str) -> Policies {
    let indented: Vec<String> = policy.lines().map(|line| format!("    {line}")).collect();
    config(&format!("policies:\n  - name: p\n{}", indented.join("\n"))).1
}

fn failed(mut span: Span) -> Span {
    span.status.code = StatusCode::Error;
    span
}

#[test]
fn each_type_samples_what_it_says() {
    let plain = || vec![span(1, 1, 0, 100)];
    let wide = || vec![span(1, 1, 0, 100), span(1, 2, 450, 50)];
    let ok = || {
        let mut one = span(1, 1, 0, 1);
        one.status.code = StatusCode::Ok;
        vec![one]
    };
    let text = || vec![with(span(1, 1, 0, 1), "route", "/health/live")];
    let number = |n: i64| vec![with(span(1, 1, 0, 1), "code", n)];
    let state = || {
        let mut one = span(1, 1, 0, 1);
        one.trace_state = "a=1, vendor=gold".to_owned();
        one.flags = 1;
        vec![one]
    };
    let cases: Vec<(&str, Vec<Span>, bool)> = vec![
        ("type: always_sample", plain(), true),
        ("type: latency\nlatency: {threshold_ms: 100}", plain(), true),
        (
            "type: latency\nlatency: {threshold_ms: 101}",
            plain(),
            false,
        ),
        ("type: latency\nlatency: {threshold_ms: 500}", wide(), true),
        (
            "type: latency\nlatency: {threshold_ms: 99, upper_threshold_ms: 100}",
            plain(),
            true,
        ),
        (
            "type: latency\nlatency: {threshold_ms: 100, upper_threshold_ms: 200}",
            plain(),
            false,
        ),
        (
            "type: latency\nlatency: {threshold_ms: 100, upper_threshold_ms: 499}",
            wide(),
            false,
        ),
        (
            "type: status_code\nstatus_code: {status_codes: [ERROR]}",
            plain(),
            false,
        ),
        (
            "type: status_code\nstatus_code: {status_codes: [ERROR]}",
            vec![span(1, 1, 0, 1), failed(span(1, 2, 0, 1))],
            true,
        ),
        (
            "type: status_code\nstatus_code: {status_codes: [UNSET]}",
            plain(),
            true,
        ),
        (
            "type: status_code\nstatus_code: {status_codes: [OK, ERROR]}",
            ok(),
            true,
        ),
        (
            "type: probabilistic\nprobabilistic: {sampling_percentage: 100}",
            plain(),
            true,
        ),
        (
            "type: probabilistic\nprobabilistic: {sampling_percentage: 0}",
            plain(),
            false,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: [/x, /health/live]}",
            text(),
            true,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: [/health]}",
            text(),
            false,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: [/health], enabled_regex_matching: true, cache_max_size: 10}",
            text(),
            true,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: ['^/h$'], enabled_regex_matching: true}",
            text(),
            false,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: service.name, values: [shop]}",
            plain(),
            true,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: code, values: ['5']}",
            number(5),
            false,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: [/x], invert_match: true}",
            text(),
            true,
        ),
        (
            "type: string_attribute\nstring_attribute: {key: route, values: [/health/live], invert_match: true}",
            text(),
            false,
        ),
        (
            "type: numeric_attribute\nnumeric_attribute: {key: code, min_value: 400, max_value: 599}",
            number(400),
            true,
        ),
        (
            "type: numeric_attribute\nnumeric_attribute: {key: code, min_value: 400, max_value: 599}",
            number(600),
            false,
        ),
        (
            "type: numeric_attribute\nnumeric_attribute: {key: code, min_value: 400}",
            number(600),
            true,
        ),
        (
            "type: numeric_attribute\nnumeric_attribute: {key: route, min_value: 0}",
            text(),
            false,
        ),
        (
            "type: boolean_attribute\nboolean_attribute: {key: b, value: true}",
            vec![with(span(1, 1, 0, 1), "b", true)],
            true,
        ),
        (
            "type: boolean_attribute\nboolean_attribute: {key: b, value: true}",
            vec![with(span(1, 1, 0, 1), "b", false)],
            false,
        ),
        (
            "type: trace_state\ntrace_state: {key: vendor, values: [silver, gold]}",
            state(),
            true,
        ),
        (
            "type: trace_state\ntrace_state: {key: vendor, values: [silver]}",
            state(),
            false,
        ),
        ("type: trace_flags", state(), true),
        ("type: trace_flags", plain(), false),
        ("type: span_count\nspan_count: {min_spans: 2}", wide(), true),
        (
            "type: span_count\nspan_count: {min_spans: 2}",
            plain(),
            false,
        ),
        (
            "type: span_count\nspan_count: {min_spans: 1, max_spans: 1}",
            wide(),
            false,
        ),
        (
            "type: query\nquery: 'service=shop code>=500'",
            number(503),
            true,
        ),
        (
            "type: query\nquery: 'service=shop code>=500'",
            number(200),
            false,
        ),
        ("type: query\nquery: 'trace:duration>=500ms'", wide(), true),
        (
            "type: always_sample\nservices: [shop, other]",
            plain(),
            true,
        ),
        ("type: always_sample\nservices: [other]", plain(), false),
    ];
    for (policy, spans, expected) in cases {
        let (kept, verdicts) = judge(&mut single(policy), vec![group("shop", spans)]);
        assert_eq!(kept, expected, "{policy} {verdicts:?}");
    }
}

#[test]
fn conditions_combine() {
    let slow_and_failed = "type: and\nand:\n  and_sub_policy:\n    - {name: a, type: latency, latency: {threshold_ms: 100}}\n    - {name: b, type: status_code, status_code: {status_codes: [ERROR]}}";
    let not = "type: not\nnot:\n  not_sub_policy: {name: a, type: status_code, status_code: {status_codes: [ERROR]}}";
    for (policy, spans, expected) in [
        (slow_and_failed, vec![failed(span(1, 1, 0, 100))], true),
        (slow_and_failed, vec![failed(span(1, 1, 0, 99))], false),
        (slow_and_failed, vec![span(1, 1, 0, 100)], false),
        (not, vec![span(1, 1, 0, 1)], true),
        (not, vec![failed(span(1, 1, 0, 1))], false),
    ] {
        let (kept, _) = judge(&mut single(policy), vec![group("shop", spans)]);
        assert_eq!(kept, expected, "{policy}");
    }
}

const PRECEDENCE: &str = "policies:
  - {name: all, type: always_sample}
  - {name: not internal, type: string_attribute, string_attribute: {key: internal, values: ['yes'], invert_match: true}}
  - name: no health
    type: drop
    drop:
      drop_sub_policy:
        - {name: h, type: string_attribute, string_attribute: {key: route, values: [/health]}}";

#[test]
fn the_strongest_verdict_counts() {
    let (_, mut policies) = config(PRECEDENCE);
    let plain = span(1, 1, 0, 1);
    assert_eq!(
        judge(&mut policies, vec![group("shop", vec![plain.clone()])]),
        (true, vec!["sampled", "inverted_sampled", "not_sampled"])
    );
    let internal = with(plain.clone(), "internal", "yes");
    assert_eq!(
        judge(&mut policies, vec![group("shop", vec![internal])]),
        (
            false,
            vec!["sampled", "inverted_not_sampled", "not_sampled"]
        )
    );
    let health = with(plain, "route", "/health");
    assert_eq!(
        judge(&mut policies, vec![group("shop", vec![health.clone()])]),
        (false, vec!["sampled", "inverted_sampled", "dropped"])
    );
    let (_, mut first) = config(&format!("sample_on_first_match: true\n{PRECEDENCE}"));
    assert_eq!(
        judge(&mut first, vec![group("shop", vec![health])]),
        (true, vec!["sampled", "skipped", "skipped"])
    );
    assert!(Verdict::Sampled.samples() && !Verdict::InvertNotSampled.samples());
}

#[test]
fn rates_count_spans_and_bytes() {
    let three = || {
        vec![group(
            "shop",
            vec![span(1, 1, 0, 1), span(1, 2, 0, 1), span(1, 3, 0, 1)],
        )]
    };
    let mut spans = single("type: rate_limiting\nrate_limiting: {spans_per_second: 4}");
    let kept: Vec<bool> = (0..4).map(|_| judge(&mut spans, three()).0).collect();
    assert_eq!(kept, [true, true, false, false]);
    let mut bytes = single("type: bytes_limiting\nbytes_limiting: {bytes_per_second: 500}");
    let kept: Vec<bool> = (0..2).map(|_| judge(&mut bytes, three()).0).collect();
    assert_eq!(kept, [true, false]);
    let mut small =
        single("type: rate_limiting\nrate_limiting: {spans_per_second: 10, burst_capacity: 2}");
    assert!(!judge(&mut small, three()).0);
}

#[test]
fn a_composite_spends_budgets_and_does_not_fall_through() {
    let mut policies = single(
        "type: composite\ncomposite:\n  max_total_spans_per_second: 10\n  policy_order: [failed, rest]\n  composite_sub_policy:\n    - {name: rest, type: always_sample}\n    - {name: failed, type: status_code, status_code: {status_codes: [ERROR]}}\n  rate_allocation:\n    - {policy: failed, percent: 20}\n    - {policy: rest, percent: 30}",
    );
    let one = |failing: bool| {
        let one = span(1, 1, 0, 1);
        vec![group("shop", vec![if failing { failed(one) } else { one }])]
    };
    let kept = |policies: &mut Policies, failing| judge(policies, one(failing)).0;
    let failing: Vec<bool> = (0..3).map(|_| kept(&mut policies, true)).collect();
    assert_eq!(failing, [true, true, false]);
    let rest: Vec<bool> = (0..4).map(|_| kept(&mut policies, false)).collect();
    assert_eq!(rest, [true, true, true, false]);
}
