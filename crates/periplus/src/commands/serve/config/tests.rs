use clap::Args as _;

use super::*;
use crate::commands::serve;

fn read_with(variables: &[(&str, &str)], text: Option<&str>) -> anyhow::Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("periplus.yaml");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let command = serve::Args::augment_args(clap::Command::new("serve"));
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let names: Vec<String> = variables.iter().map(|(name, _)| (*name).to_owned()).collect();
    read(text.map(|_| path.as_path()), &command, &variable, &names)
}

fn flags(config: &Config) -> Vec<&str> {
    config.flags.iter().map(|flag| flag.to_str().unwrap()).collect()
}

fn failure(variables: &[(&str, &str)], text: Option<&str>) -> String {
    let error = read_with(variables, text).unwrap_err();
    format!("{error:#}")
}

#[test]
fn keys_are_flags() {
    let config = read_with(
        &[("HOME_PORT", "7000"), ("PERIPLUS_BIND", "127.0.0.2")],
        Some(
            "bind: 0.0.0.0\nui-port: ${env:HOME_PORT}\nzipkin-port: ${env:NONE:-9412}\n\
             retention: 7d\nmemory: true\ncors-origin: [https://a.example, https://b.example]\n",
        ),
    )
    .unwrap();
    let mut found = flags(&config);
    found.sort_unstable();
    // The bind address of our own variable counts more.
    assert_eq!(
        found,
        [
            "--cors-origin=https://a.example",
            "--cors-origin=https://b.example",
            "--memory",
            "--retention=7d",
            "--ui-port=7000",
            "--zipkin-port=9412",
        ]
    );
    assert!(config.notes.is_empty());
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    for (text, expected) in [
        ("ui-prot: 1", "unknown key 'ui-prot': is 'ui-port' meant?"),
        ("nonsense: 1", "unknown key 'nonsense': the keys are the flags"),
        ("config: x", "unknown key 'config'"),
        ("memory: 5", "'memory' is true or false, not 5"),
        ("ui-port: {a: 1}", "'ui-port' takes one value"),
        ("ui-port: [1, 2]", "'ui-port' takes one value"),
        ("- 1", "expected keys and values"),
        ("a: ${env:MISSING}", "the variable MISSING is not set"),
        ("a: ${env:MISSING", "'${env:' without '}'"),
        ("access: {tokens: 1}", "in 'access'"),
        ("a: [", "is not usable: "),
    ] {
        let found = failure(&[], Some(text));
        assert!(found.contains(expected), "{text}: {found}");
        assert!(found.contains("periplus.yaml is not usable"), "{found}");
    }
    assert!(read_with(&[], Some("")).unwrap().flags.is_empty());
}

#[test]
fn variables_of_jaeger_v1_are_read() {
    let config = read_with(
        &[
            ("SPAN_STORAGE_TYPE", "badger"),
            ("BADGER_EPHEMERAL", "false"),
            ("BADGER_DIRECTORY_KEY", "/badger/key"),
            ("BADGER_DIRECTORY_VALUE", "/badger/value"),
            ("BADGER_SPAN_STORE_TTL", "72h0m0s"),
            ("COLLECTOR_ZIPKIN_HOST_PORT", ":9411"),
            ("COLLECTOR_OTLP_ENABLED", "false"),
            ("COLLECTOR_FANCY", "1"),
            ("ES_SERVER_URLS", "http://es"),
            ("MULTI_TENANCY_ENABLED", "true"),
            ("MULTI_TENANCY_TENANTS", "shop, bank"),
        ],
        None,
    )
    .unwrap();
    assert_eq!(
        flags(&config),
        [
            "--zipkin-port=:9411",
            "--data=/badger/key",
            "--retention=259200s",
            "--otlp-grpc-port=off",
            "--otlp-http-port=off",
        ]
    );
    assert_eq!(
        config.notes,
        [
            "the variable COLLECTOR_FANCY looks like one of Jaeger's and has no effect here",
            "the variable ES_SERVER_URLS looks like one of Jaeger's and has no effect here",
        ]
    );
    let tenants = config.access.unwrap().tenants.unwrap();
    assert_eq!(tenants.known.keys().collect::<Vec<_>>(), ["bank", "shop"]);

    // Plain text where TLS was asked for would be worse than no start.
    let refused = failure(&[("QUERY_HTTP_TLS_ENABLED", "true")], None);
    assert!(refused.contains("--tls-cert"), "{refused}");
    let memory = read_with(&[("SPAN_STORAGE_TYPE", "memory"), ("MEMORY_MAX_TRACES", "5")], None);
    let memory = memory.unwrap();
    assert_eq!(flags(&memory), ["--memory"]);
    assert!(memory.notes[0].contains("--max-memory"), "{:?}", memory.notes);
}

/// The shape of the file that Istio's add-on mounts.
const ISTIO: &str = r"
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces:
      receivers: [otlp, jaeger, zipkin]
      processors: [batch]
      exporters: [jaeger_storage_exporter]
extensions:
  healthcheckv2:
    use_v2: true
    http:
      endpoint: 0.0.0.0:13133
  jaeger_query:
    base_path: /jaeger
    storage:
      traces: some_store
    max_clock_skew_adjust: 0s
  jaeger_storage:
    backends:
      some_store:
        badger:
          directories:
            keys: /badger/key
            values: /badger/data
          ephemeral: false
          ttl:
            spans: 48h0m0s
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: '${env:JAEGER_LISTEN_HOST:-localhost}:4317'
      http:
        endpoint: 0.0.0.0:4318
  jaeger:
    protocols:
      grpc:
      thrift_http:
        endpoint: 0.0.0.0:14268
  zipkin:
    endpoint: 0.0.0.0:9411
processors:
  batch:
exporters:
  jaeger_storage_exporter:
    trace_storage: some_store
  otlp/far:
    endpoint: far.example:4317
    tls:
      insecure: true
";

#[test]
fn the_file_of_a_jaeger_v2_is_read() {
    let config = read_with(&[], Some(ISTIO)).unwrap();
    let mut found = flags(&config);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "--base-path=/jaeger",
            "--data=/badger/key",
            "--forward=otlp-grpc+http://far.example:4317",
            "--health-port=0.0.0.0:13133",
            "--jaeger-http-port=0.0.0.0:14268",
            "--max-clock-skew=0s",
            "--otlp-grpc-port=127.0.0.1:4317",
            "--otlp-http-port=0.0.0.0:4318",
            "--retention=172800s",
            "--zipkin-port=0.0.0.0:9411",
        ]
    );
    assert_eq!(config.notes, [""; 0]);
}

#[test]
fn unknown_keys_of_a_jaeger_v2_are_named() {
    let text = "service: {pipelines: {}}\nextensions:\n  jaeger_query:\n    fancy: {deep: 1}\n\
                \x20   multi_tenancy: {enabled: true, header: x-org, tenants: [a]}\n\
                periplus:\n  retention: 14d\n";
    let config = read_with(&[], Some(text)).unwrap();
    assert_eq!(flags(&config), ["--retention=14d"]);
    assert_eq!(
        config.notes,
        ["extensions.jaeger_query.fancy.deep is not known here and has no effect"]
    );
    assert_eq!(config.access.unwrap().tenants.unwrap().header, "x-org");

    let tls = "receivers: {otlp: {protocols: {grpc: {tls: {cert_file: a}}}}}";
    let refused = failure(&[], Some(tls));
    assert!(refused.contains("--tls-cert"), "{refused}");
}
