//! What Telemetry resources make of the listeners of proxies.

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogType;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use prost::Message;

use crate::generate::{index_of, made, mesh_config, problems};
use crate::support::{gateway, sidecar};

const MESH: &str = "
extensionProviders:
- name: periplus
  zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
- name: other
  opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411, http: {path: /v1/traces}}
- name: lost
  zipkin: {service: nowhere.istio-system.svc.cluster.local, port: 9411}
- name: errors
  envoyFileAccessLog: {path: /var/log/errors, logFormat: {labels: {code: '%RESPONSE_CODE%'}}, omitEmptyValues: true}
- name: prometheus
  prometheus: {}
defaultProviders: {tracing: [periplus], metrics: [prometheus]}
defaultConfig: {tracing: {sampling: 10}}
";

/// A resource: namespace, name, selector, and the rest of its `spec` in YAML's flow style.
fn telemetry(namespace: &str, name: &str, selector: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{matchLabels: {selector}}}, {spec}}}
---
"
    )
}

fn manager(listener: &Listener) -> HttpConnectionManager {
    let filter = &listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("{filter:?}");
    };
    HttpConnectionManager::decode(any.value.as_slice()).expect("a connection manager")
}

/// `PROVIDER@PERCENT tags=…` of the tracing, then `PATH if …` of each log.
fn told(listener: &Listener) -> String {
    let manager = manager(listener);
    let mut parts = Vec::new();
    match manager.tracing {
        None => parts.push("untraced".to_owned()),
        Some(tracing) => {
            let provider = tracing.provider.expect("a provider").name;
            let provider = provider.rsplit('.').next().unwrap_or_default().to_owned();
            let sampling = tracing.random_sampling.expect("a share").value;
            let own = tracing.custom_tags.iter().map(|tag| tag.tag.as_str());
            let own: Vec<_> = own.filter(|tag| !tag.starts_with("istio.")).collect();
            let of_istio = tracing.custom_tags.len() - own.len();
            parts.push(format!(
                "{provider}@{sampling} {}+{of_istio}",
                own.join(",")
            ));
        }
    }
    for log in manager.access_log {
        let Some(LogType::TypedConfig(any)) = log.config_type else {
            panic!("no file");
        };
        let file = FileAccessLog::decode(any.value.as_slice())
            .expect("a file")
            .path;
        let filter = match log.filter.and_then(|filter| filter.filter_specifier) {
            None => String::new(),
            Some(FilterSpecifier::StatusCodeFilter(filter)) => {
                let comparison = filter.comparison.expect("a comparison");
                let value = comparison.value.clone().expect("a value").default_value;
                format!(" if {:?} {value}", comparison.op())
            }
            Some(other) => panic!("{other:?}"),
        };
        parts.push(format!("{file}{filter}"));
    }
    parts.join("; ")
}

/// What is told at the two sides of a sidecar, and at the gateway.
fn all_told(mesh: &str, resources: &str) -> [String; 3] {
    let index = index_of(&["bookinfo-gateway.yaml"], resources, mesh_config(mesh));
    let of = |made: periplus_control::Generated, direction: TrafficDirection| {
        let mut listeners = made.listeners.iter();
        let listener = listeners.find(|one| one.traffic_direction() == direction);
        told(listener.expect("a listener"))
    };
    let own = || made(&index, &sidecar("reviews", "v1"));
    [
        of(own(), TrafficDirection::Outbound),
        of(own(), TrafficDirection::Inbound),
        of(made(&index, &gateway()), TrafficDirection::Outbound),
    ]
}

#[test]
fn the_workload_goes_before_the_namespace_and_that_before_the_mesh() {
    const DEFAULT: &str = "zipkin@10 +5";
    let mesh = |spec: &str| telemetry("istio-system", "mesh", "{}", spec);
    let namespace = |spec: &str| telemetry("default", "all", "{}", spec);
    let workload = |spec: &str| telemetry("default", "reviews", "{app: reviews}", spec);
    let other = |spec: &str| telemetry("default", "ratings", "{app: ratings}", spec);
    let cases = [
        ("nothing", String::new(), [DEFAULT; 3]),
        (
            "all of the mesh",
            mesh("tracing: [{randomSamplingPercentage: 0.01}]"),
            ["zipkin@0.01 +5"; 3],
        ),
        (
            "each over the one before",
            mesh(
                "tracing: [{randomSamplingPercentage: 1, customTags: {a: {literal: {value: x}}}}]",
            ) + &namespace("tracing: [{randomSamplingPercentage: 2}]")
                + &workload("tracing: [{providers: [{name: other}]}]")
                + &other("tracing: [{randomSamplingPercentage: 99}]"),
            ["opentelemetry@2 a+5", "opentelemetry@2 a+5", "zipkin@1 a+5"],
        ),
        (
            "by side",
            workload(
                "tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}, \
                 {match: {mode: SERVER}, enableIstioTags: false}]",
            ),
            ["untraced", "zipkin@10 +0", DEFAULT],
        ),
        (
            "off and on again",
            mesh("tracing: [{disableSpanReporting: true}]")
                + &workload("tracing: [{disableSpanReporting: false}]"),
            [DEFAULT, DEFAULT, "untraced"],
        ),
        (
            "a provider that is none, and one without a service",
            mesh("tracing: [{providers: [{name: unknown}]}]")
                + &workload("tracing: [{providers: [{name: lost}]}]"),
            ["untraced"; 3],
        ),
        (
            "logs of the mesh, and none at a workload's clients",
            mesh("accessLogging: [{providers: [{name: envoy}]}]")
                + &workload("accessLogging: [{match: {mode: CLIENT}, disabled: true}]"),
            [
                DEFAULT,
                "zipkin@10 +5; /dev/stdout",
                "zipkin@10 +5; /dev/stdout",
            ],
        ),
        (
            "a filter, and another provider in place of the mesh's",
            mesh(
                "accessLogging: [{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}]",
            ) + &workload(
                "accessLogging: [{providers: [{name: errors}], filter: {expression: 'response.code == 503'}}]",
            ),
            [
                "zipkin@10 +5; /var/log/errors if Eq 503",
                "zipkin@10 +5; /var/log/errors if Eq 503",
                "zipkin@10 +5; /dev/stdout if Ge 400",
            ],
        ),
    ];
    for (what, resources, expected) in cases {
        assert_eq!(all_told(MESH, &resources), expected, "{what}");
    }
}

#[test]
fn logs_of_the_mesh_configuration_are_those_that_resources_say_nothing_about() {
    let file = format!("{MESH}accessLogFile: /dev/stderr\n");
    let named = MESH.replace("metrics: [prometheus]", "accessLogging: [errors]");
    let (stderr, errors, stdout) = ("; /dev/stderr", "; /var/log/errors", "; /dev/stdout");
    let cases = [
        (&file, "", [stderr; 3]),
        (&named, "", [errors; 3]),
        (&named, "[{disabled: true}]", [""; 3]),
        (&file, "[{disabled: true}]", [""; 3]),
        (
            &file,
            "[{match: {mode: SERVER}, disabled: true}]",
            [stderr, "", stderr],
        ),
        (
            &file,
            "[{filter: {expression: 'response.code < 500'}}]",
            ["; /dev/stderr if Le 499"; 3],
        ),
        (
            &named,
            "[{filter: {expression: 'response.code > 499'}}]",
            ["; /var/log/errors if Ge 500"; 3],
        ),
        (&file, "[{providers: [{name: envoy}]}]", [stdout; 3]),
        (
            &file,
            "[{providers: [{name: envoy}], disabled: true}]",
            [""; 3],
        ),
        (
            &file,
            "[{match: {mode: CLIENT}, providers: [{name: envoy}]}]",
            [stdout, stderr, stdout],
        ),
    ];
    for (mesh, rules, expected) in cases {
        let resource = match rules {
            "" => String::new(),
            rules => telemetry(
                "istio-system",
                "mesh",
                "{}",
                &format!("accessLogging: {rules}"),
            ),
        };
        let expected = expected.map(|logs| format!("zipkin@10 +5{logs}"));
        assert_eq!(all_told(mesh, &resource), expected, "{rules}");
    }
}

#[test]
fn a_rule_without_providers_keeps_the_filter_of_the_rule_before() {
    let errors = "{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}";
    for (rule, expected) in [
        ("{disabled: false}", "zipkin@10 +5; /dev/stdout if Ge 400"),
        (
            "{filter: {expression: 'response.code != 200'}}",
            "zipkin@10 +5; /dev/stdout if Ne 200",
        ),
        ("{disabled: true}", "zipkin@10 +5"),
    ] {
        let resources = telemetry(
            "istio-system",
            "mesh",
            "{}",
            &format!("accessLogging: [{errors}]"),
        ) + &telemetry("default", "all", "{}", &format!("accessLogging: [{rule}]"));
        let [outbound, inbound, _] = all_told(MESH, &resources);
        assert_eq!([outbound.as_str(), &inbound], [expected; 2], "{rule}");
    }
}

#[test]
fn what_istio_passes_over_in_silence_is_told() {
    let resources = telemetry(
        "default",
        "a",
        "{}",
        "tracing: [{providers: [{name: perilus}]}], accessLogging: [{providers: [{name: error}]}]",
    ) + &telemetry(
        "default",
        "b",
        "{}",
        "tracing: [{providers: [{name: lost}]}]",
    );
    let index = index_of(&[], &resources, mesh_config(MESH));
    let problems = problems(&index);
    for expected in [
        "Telemetry default/a: there is no provider of tracing `perilus` among `extensionProviders`, did you mean",
        "Telemetry default/a: there is no provider of access logs `error` among `extensionProviders`, did you mean",
        "Telemetry default/a is for all of namespace default too: Telemetry default/b has no effect",
        "there is no service `nowhere.istio-system.svc.cluster.local`: provider `lost` cannot be reached",
    ] {
        assert!(
            problems.contains(expected),
            "{expected}\nis not in\n{problems}"
        );
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (spec, expected) in [
        (
            "metrics: [{overrides: []}]",
            "`overrides` is not supported: proxies count all requests",
        ),
        (
            "metrics: [{providers: [{name: stackdriver}]}]",
            "metrics are scraped by `prometheus` only, not sent to `stackdriver`",
        ),
        (
            "accessLogging: [{filter: {expression: 'request.path == \"/\"'}}]",
            "is not supported: an expression compares `response.code` with a number",
        ),
        (
            "tracing: [{providers: [{name: a}, {name: b}]}]",
            "spans go to one provider only",
        ),
        (
            "tracing: [{randomSamplingPercentage: 101}]",
            "expected a percentage from 0 to 100",
        ),
        (
            "tracing: [{useRequestIdForTraceSampling: false}]",
            "the request id always carries the decision",
        ),
        ("targetRefs: []", "select the workloads with `selector`"),
    ] {
        let text = telemetry("default", "a", "{}", spec);
        let errors = periplus_resources::parse_resources("a.yaml", &text).errors;
        assert!(
            errors
                .iter()
                .any(|error| error.to_string().contains(expected)),
            "{spec}: {errors:#?}"
        );
    }
}
