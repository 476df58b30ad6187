use periplus_wire::sampling::{Base, Strategy, TypeForm};

use super::Strategies;

fn parse(text: &str) -> (Strategies, Vec<String>) {
    let (strategies, warnings) = Strategies::parse("s.json", text, 0.001).unwrap();
    let warnings = warnings.iter().map(ToString::to_string).collect();
    (strategies, warnings)
}

/// `base | default [operation=probability …]`.
fn show(strategy: &Strategy) -> String {
    let base = match strategy.base {
        Base::Probabilistic(probability) => format!("p{probability}"),
        Base::RateLimiting(rate) => format!("r{rate}"),
    };
    let Some(operations) = &strategy.operations else {
        return base;
    };
    let list: Vec<String> = (operations.per_operation.iter())
        .map(|entry| format!("{}={}", entry.operation, entry.probability))
        .collect();
    format!(
        "{base} | {} [{}]",
        operations.default_probability,
        list.join(" ")
    )
}

#[test]
fn services_inherit_what_they_do_not_say() {
    let (strategies, warnings) = parse(
        r#"{
          "default_strategy": {"type": "probabilistic", "param": 0.5, "operation_strategies": [
            {"operation": "/health", "type": "probabilistic", "param": 0},
            {"operation": "/pay", "type": "probabilistic", "param": 0.9}]},
          "service_strategies": [
            {"service": "plain", "type": "probabilistic", "param": 0.8},
            {"service": "limited", "type": "ratelimiting", "param": 5.9},
            {"service": "own", "type": "probabilistic", "param": 0.2, "operation_strategies": [
              {"operation": "/pay", "type": "probabilistic", "param": 1},
              {"operation": "/get", "type": "probabilistic", "param": 0.1}]},
            {"service": "only operations", "operation_strategies": [
              {"operation": "/get", "type": "probabilistic", "param": 0.3}]},
            {"service": "limited with operations", "type": "ratelimiting", "param": 7,
              "operation_strategies": [
              {"operation": "/get", "type": "probabilistic", "param": 0.3}]}]}"#,
    );
    for (service, expected) in [
        ("unknown", "p0.5 | 0.5 [/health=0 /pay=0.9]"),
        ("plain", "p0.8 | 0.8 [/health=0 /pay=0.9]"),
        ("limited", "r5 | 0.5 [/health=0 /pay=0.9]"),
        ("own", "p0.2 | 0.2 [/pay=1 /get=0.1 /health=0]"),
        (
            "only operations",
            "p0.5 | 0.5 [/get=0.3 /health=0 /pay=0.9]",
        ),
        (
            "limited with operations",
            "r7 | 0.001 [/get=0.3 /health=0 /pay=0.9]",
        ),
    ] {
        assert_eq!(show(strategies.of(service)), expected, "{service}");
    }
    assert_eq!(warnings, [""; 0]);
    assert_eq!(strategies.services(), 5);
}

#[test]
fn without_a_default_the_given_probability_holds() {
    let (strategies, _) = parse(
        r#"{"service_strategies": [{"service": "a", "type": "ratelimiting", "param": 3},
            {"service": "b", "operation_strategies":
              [{"operation": "/", "type": "probabilistic", "param": 0.4}]}]}"#,
    );
    assert_eq!(show(strategies.of("c")), "p0.001");
    assert_eq!(show(strategies.of("a")), "r3");
    assert_eq!(show(strategies.of("b")), "p0.001 | 0.001 [/=0.4]");
    assert_eq!(show(parse("{}").0.of("x")), "p0.001");
    assert_eq!(
        Strategies::probabilistic(1.0)
            .of("x")
            .to_json(TypeForm::Name),
        r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":1}}"#
    );
}

#[test]
fn what_clients_cannot_do_is_left_out_with_a_warning() {
    let (strategies, warnings) = parse(
        r#"{"service_strategies": [
            {"service": "a", "type": "adaptive", "param": 3},
            {"service": "b", "type": "probabilistic", "param": 0.5, "operation_strategies": [
              {"operation": "/x", "type": "ratelimiting", "param": 2},
              {"operation": "/y", "type": "const", "param": 1}]}]}"#,
    );
    assert_eq!(show(strategies.of("a")), "p0.001");
    assert_eq!(show(strategies.of("b")), "p0.5 | 0.5 [/y=0.001]");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with("service 'a': 'adaptive' is no type of strategy"));
    assert!(warnings[1].starts_with("service 'b': operation '/x' cannot be ratelimiting"));
    assert!(warnings[2].starts_with("service 'b': operation '/y': 'const' is no type"));
}

#[test]
fn errors_name_the_place() {
    let (mut found, mut wanted) = (Vec::new(), Vec::new());
    for (text, expected) in [
        ("", "s.json:1:0: EOF while parsing a value"),
        (
            "{\n  \"default\": 1}",
            "s.json:2:11: unknown field `default`, expected `default_strategy` or `service_strategies`",
        ),
        (
            "{\"default_strategy\":\n {\"type\": \"probabilistic\", \"param\": 1.5}}",
            "s.json:2:41: the default strategy: param 1.5 is no probability: use a number from 0 to 1",
        ),
        (
            "{\"service_strategies\": [\n{\"service\": \"a\",\n \"operation_strategies\": [{\"operation\": \"/\", \"type\": \"probabilistic\", \"param\": -1}]}]}",
            "s.json:3:83: operation '/': param -1 is no probability: use a number from 0 to 1",
        ),
        (
            "{\"service_strategies\": [{\"service\": \"a\"}, {\"service\": \"a\"}]}",
            "s.json:1:60: service 'a' is there twice in service_strategies",
        ),
        (
            "{\"service_strategies\": [{\"type\": \"ratelimiting\", \"param\": 1}]}",
            "s.json:1:62: a strategy in service_strategies has no 'service'",
        ),
        (
            "{\"service_strategies\": [{\"service\": \"a\", \"type\": \"ratelimiting\", \"param\": -1}]}",
            "s.json:1:78: service 'a': param -1 is no number of traces per second: use 0 or more",
        ),
    ] {
        let error = Strategies::parse("s.json", text, 1.0).unwrap_err();
        found.push(error.to_string());
        wanted.push(expected);
    }
    assert_eq!(found, wanted);
}
