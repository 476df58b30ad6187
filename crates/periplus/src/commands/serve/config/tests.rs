use super::*;

/// What counts, and what was found.
struct Found {
    args: Args,
    flags: Vec<String>,
    tenants: Option<TenantsConfig>,
    tokens: Vec<TokenConfig>,
    endpoints: Vec<EndpointConfig>,
    tail_sampling: Option<String>,
    notes: Vec<String>,
}

fn read_with(
    line: &[&str],
    variables: &[(&str, &str)],
    text: Option<&str>,
) -> anyhow::Result<Found> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("periplus.yaml");
    if let Some(text) = text {
        std::fs::write(&path, text).unwrap();
    }
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let names: Vec<String> = variables
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let command = command();
    let parse = |flags: &[OsString]| {
        let line = line.iter().map(OsString::from);
        let line = [OsString::from("periplus serve")]
            .into_iter()
            .chain(flags.iter().cloned())
            .chain(line);
        command.clone().try_get_matches_from(line).unwrap()
    };
    let path = text.map(|_| path.as_path());
    let layers = gather(&command, &parse(&[]), path, &variable, &names)?;
    let flags: Vec<OsString> = layers.flags.into_iter().map(|(_, flag)| flag).collect();
    Ok(Found {
        args: Args::from_arg_matches(&parse(&flags)).unwrap(),
        flags: flags
            .iter()
            .map(|flag| flag.to_str().unwrap().to_owned())
            .collect(),
        tenants: layers.tenants,
        tokens: layers.tokens.unwrap_or_default(),
        endpoints: layers.endpoints,
        tail_sampling: layers.tail_sampling,
        notes: layers.notes,
    })
}

fn failure(variables: &[(&str, &str)], text: Option<&str>) -> String {
    let error = read_with(&[], variables, text).err().unwrap();
    format!("{error:#}")
}

/// In an order that does not depend on that of keys.
fn sorted(mut flags: Vec<String>) -> Vec<String> {
    flags.sort_unstable();
    flags
}

#[test]
fn keys_are_flags() {
    let found = read_with(
        &[],
        &[("HOME_PORT", "7000"), ("PERIPLUS_BIND", "127.0.0.2")],
        Some(
            "bind: 0.0.0.0\nui-port: ${env:HOME_PORT}\nzipkin-port: ${env:NONE:-9412}\n\
             retention: 7d\nmemory: true\ncors-origin: [https://a.example, https://b.example]\n",
        ),
    )
    .unwrap();
    // The bind address of our own variable counts more.
    assert_eq!(
        sorted(found.flags),
        [
            "--cors-origin=https://a.example",
            "--cors-origin=https://b.example",
            "--memory",
            "--retention=7d",
            "--ui-port=7000",
            "--zipkin-port=9412",
        ]
    );
    assert!(found.notes.is_empty());
}

#[test]
fn the_command_line_counts_most_and_the_file_least() {
    let file = "ui-port: 1\nzipkin-port: 2\notlp-http-port: 3\nmemory: true\n\
                cors-origin: [https://a.example]\n";
    let variables = [
        ("QUERY_HTTP_SERVER_HOST_PORT", ":11"),
        ("COLLECTOR_ZIPKIN_HOST_PORT", ":12"),
    ];
    let line = [
        "--ui-port",
        "21",
        "--data",
        "/x",
        "--cors-origin",
        "https://b.example",
    ];
    let found = read_with(&line, &variables, Some(file)).unwrap();
    assert_eq!(
        sorted(found.flags),
        ["--otlp-http-port=3", "--zipkin-port=:12"]
    );
    let args = found.args;
    assert_eq!(args.ui_port.to_string(), "21");
    assert_eq!(args.zipkin_port.to_string(), "0.0.0.0:12");
    assert_eq!(args.otlp_http_port.to_string(), "3");
    // A list is not mixed from several places, and what does not go together with what counts more
    // does not count at all.
    assert_eq!(args.cors_origins, ["https://b.example"]);
    assert_eq!(args.storage.dir().unwrap(), Some("/x".into()));
}

#[test]
fn memory_counts_more_than_a_directory_in_a_variable() {
    let variables = [("PERIPLUS_DATA", "/x")];
    let dir = |line: &[&str], variables: &[(&str, &str)], file: &str| {
        let found = read_with(line, variables, Some(file)).unwrap();
        found.args.storage.dir().unwrap()
    };
    assert_eq!(dir(&["--memory"], &variables, "data: /y"), None);
    // The variable counts more than Jaeger's and than the file.
    let jaeger = [("PERIPLUS_DATA", "/x"), ("SPAN_STORAGE_TYPE", "memory")];
    assert_eq!(dir(&[], &jaeger, "memory: true"), Some("/x".into()));
    assert_eq!(dir(&["--data", "/z"], &variables, ""), Some("/z".into()));
    assert_eq!(dir(&[], &[("PERIPLUS_DATA", "")], "memory: true"), None);
    // Both on the command line make no sense.
    let line = ["periplus serve", "--memory", "--data", "/x"];
    let error = command().try_get_matches_from(line).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
}

#[test]
fn what_one_place_says_twice_counts_once() {
    let variables = [
        ("COLLECTOR_OTLP_GRPC_HOST_PORT", ":4317"),
        ("COLLECTOR_OTLP_ENABLED", "false"),
    ];
    let found = read_with(&[], &variables, None).unwrap();
    assert_eq!(
        found.flags,
        ["--otlp-grpc-port=off", "--otlp-http-port=off"]
    );
    let backends = |chosen: &str| {
        format!(
            "extensions:\n  jaeger_query: {{storage: {{traces: {chosen}, traces_archive: old}}}}\n\
             \x20 jaeger_storage:\n    backends:\n      some: {{memory: {{}}}}\n\
             \x20     old: {{badger: {{ephemeral: false, directories: {{keys: /x}}}}}}\n"
        )
    };
    for (chosen, flags) in [("some", ["--memory"]), ("old", ["--data=/x"])] {
        let found = read_with(&[], &[], Some(&backends(chosen))).unwrap();
        assert_eq!(found.flags, flags);
    }
}

#[test]
fn a_port_can_be_off_in_a_file() {
    for text in [
        "zipkin-port: off",
        "zipkin-port: 'off'",
        "zipkin-port: \"off\"",
    ] {
        let found = read_with(&[], &[], Some(text)).unwrap();
        assert_eq!(found.flags, ["--zipkin-port=off"], "{text}");
    }
}

#[test]
fn secrets_in_a_file_are_in_no_message() {
    let secret = "7c1f0e5ab1d24c6f";
    for text in [
        format!("access: {{tokens: [{secret}]}}"),
        format!("access: {{tokens: [{{name: a, scopes: [read], token: [{secret}]}}]}}"),
        format!("access:\n  tokens:\n    - name: a\n      token: {secret}\n     scopes: [read]\n"),
        format!("access:\n  tokens: [{{token: {secret}, name: a\n"),
        "access: {tokens: [{name: a, token: 1234567890123456, scopes: [read]}]}".to_owned(),
    ] {
        let error = failure(&[], Some(&text));
        assert!(error.contains("periplus.yaml is not usable"), "{error}");
        assert!(
            !error.contains(secret) && !error.contains("1234567890123456"),
            "{error}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    for (text, expected) in [
        ("ui-prot: 1", "unknown key 'ui-prot': is 'ui-port' meant?"),
        (
            "nonsense: 1",
            "unknown key 'nonsense': the keys are the flags",
        ),
        ("config: x", "unknown key 'config'"),
        ("memory: 5", "'memory' is true or false"),
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
    assert!(read_with(&[], &[], Some("")).unwrap().flags.is_empty());
}

#[test]
fn variables_of_jaeger_v1_are_read() {
    let found = read_with(
        &[],
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
        found.flags,
        [
            "--zipkin-port=:9411",
            "--data=/badger/key",
            "--retention=259200s",
            "--otlp-grpc-port=off",
            "--otlp-http-port=off",
        ]
    );
    assert_eq!(
        found.notes,
        [
            "the variable COLLECTOR_FANCY looks like one of Jaeger's or Zipkin's and has no effect here",
            "the variable ES_SERVER_URLS looks like one of Jaeger's or Zipkin's and has no effect here",
        ]
    );
    let tenants = found.tenants.unwrap();
    assert_eq!(tenants.known.keys().collect::<Vec<_>>(), ["bank", "shop"]);

    let variables = [("SPAN_STORAGE_TYPE", "memory"), ("MEMORY_MAX_TRACES", "5")];
    let memory = read_with(&[], &variables, None).unwrap();
    assert_eq!(memory.flags, ["--memory"]);
    assert!(
        memory.notes[0].contains("--max-memory"),
        "{:?}",
        memory.notes
    );
    // Zipkin's that are ours as well.
    let zipkin = [("QUERY_LOOKBACK", "1000"), ("COLLECTOR_SAMPLE_RATE", "0.5")];
    assert_eq!(read_with(&[], &zipkin, None).unwrap().notes, [""; 0]);
    let zipkin = [
        ("QUERY_PORT", "9412"),
        ("ZIPKIN_QUERY_ALLOWED_ORIGINS", "https://shop.example"),
    ];
    let found = read_with(&[], &zipkin, None).unwrap();
    let flags = ["--zipkin-port=9412", "--cors-origin=https://shop.example"];
    assert_eq!(
        (found.flags, found.notes),
        (flags.map(str::to_owned).to_vec(), vec![])
    );
    let loose = [("STRICT_TRACE_ID", "false")];
    let notes = read_with(&[], &loose, None).unwrap().notes;
    assert!(
        notes[0].contains("STRICT_TRACE_ID=false has no effect"),
        "{notes:?}"
    );
    let wrong = failure(&[("COLLECTOR_ZIPKIN_HOST_PORT", "zipkin")], None);
    assert!(
        wrong.starts_with("COLLECTOR_ZIPKIN_HOST_PORT: invalid value"),
        "{wrong}"
    );
}

#[test]
fn jaeger_s_tls_is_ours_except_where_it_was_not_asked_for() {
    let of = |prefix: &str, what: &str| format!("{prefix}_TLS_{what}");
    let (grpc, http) = ("COLLECTOR_OTLP_GRPC", "COLLECTOR_OTLP_HTTP");
    let mut variables = Vec::new();
    for prefix in [grpc, http] {
        variables.push((of(prefix, "ENABLED"), "true"));
        variables.push((of(prefix, "CERT"), "/tls.crt"));
        variables.push((of(prefix, "KEY"), "/tls.key"));
        variables.push((of(prefix, "CLIENT_CA"), "/ca.crt"));
    }
    let borrowed = |variables: &[(String, &'static str)]| -> Vec<(&'static str, &'static str)> {
        let leaked = variables
            .iter()
            .map(|(name, value)| (name.clone().leak() as &str, *value));
        leaked.collect()
    };
    let expected = [
        "--tls-cert=/tls.crt",
        "--tls-client-ca=/ca.crt",
        "--tls-except=health",
        "--tls-except=jaeger/grpc",
        "--tls-except=jaeger/http",
        "--tls-except=metrics",
        "--tls-except=query/grpc",
        "--tls-except=sampling",
        "--tls-except=sampling/grpc",
        "--tls-except=ui",
        "--tls-except=zipkin",
    ];
    let with_key = |flags: &[&str]| {
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push("--tls-key=/tls.key".to_owned());
        sorted(flags)
    };
    let found = read_with(&[], &borrowed(&variables), None).unwrap();
    assert_eq!(sorted(found.flags), with_key(&expected));
    assert_eq!(found.notes, [""; 0]);

    // With certificates of our own, all ports speak TLS.
    let line = ["--tls-cert", "/own.crt", "--tls-key", "/own.key"];
    let found = read_with(&line, &borrowed(&variables), None).unwrap();
    assert_eq!(found.flags, [""; 0]);

    let tls = "tls: {cert_file: /tls.crt, key_file: /tls.key, client_ca_file: /ca.crt, min_version: '1.3'}";
    let file = format!("receivers: {{otlp: {{protocols: {{grpc: {{{tls}}}, http: {{{tls}}}}}}}}}");
    let found = read_with(&[], &[], Some(&file)).unwrap();
    assert_eq!(sorted(found.flags), with_key(&expected));
    assert_eq!(
        found.notes,
        [
            "receivers.otlp.protocols.grpc.tls.min_version is not known here and has no effect",
            "receivers.otlp.protocols.http.tls.min_version is not known here and has no effect",
        ]
    );

    // Plain text where TLS was asked for would be worse than no start.
    variables[1].1 = "/other.crt";
    let refused = failure(&borrowed(&variables), None);
    assert!(
        refused.contains("otlp/grpc and otlp/http have different"),
        "{refused}"
    );
    let refused = failure(&[("QUERY_HTTP_TLS_ENABLED", "true")], None);
    assert!(
        refused.contains("does not name both a certificate and a key"),
        "{refused}"
    );
}

/// The shape of the file that Istio's add-on mounts.
const ISTIO: &str = r"
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces:
      receivers: [otlp, jaeger, zipkin]
      processors: [batch]
      exporters: [jaeger_storage_exporter, otlp/far]
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
  zipkin:
    endpoint: http://unused.example:9411/api/v2/spans
";

#[test]
fn the_file_of_a_jaeger_v2_is_read() {
    let found = read_with(&[], &[], Some(ISTIO)).unwrap();
    assert_eq!(
        sorted(found.flags),
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
    assert_eq!(
        found.notes,
        ["exporters.zipkin is in no pipeline and has no effect"]
    );
}

#[test]
fn an_endpoint_may_have_credentials() {
    let text = "forward:\n- otlp+http://near:4318\n- to: otlp-grpc+https://far:4317\n\
                \x20 token-file: /run/token\n  headers: {x-team: s3cret}\n\
                \x20 ca: /ca.crt\n  cert: /own.crt\n  key: /own.key\n";
    let found = read_with(&[], &[], Some(text)).unwrap();
    let flags = [
        "--forward=otlp+http://near:4318",
        "--forward=otlp-grpc+https://far:4317",
    ];
    assert_eq!(found.flags, flags);
    let [config] = &found.endpoints[..] else {
        panic!("{:?}", found.endpoints);
    };
    let endpoint = config.endpoint().unwrap();
    assert_eq!(endpoint.token_file, Some("/run/token".into()));
    assert_eq!(endpoint.headers[0].1, "s3cret");
    assert_eq!(endpoint.authorities, Some("/ca.crt".into()));
    let identity = Some(("/own.crt".into(), "/own.key".into()));
    assert_eq!(endpoint.identity, identity);

    for (text, error) in [
        (
            "forward: [{to: otlp+http://far, headers: {x-team: [s3cret]}}]",
            "a value is of the wrong kind: expected a string",
        ),
        (
            "forward: [{to: otlp+http://far, tokn: s3cret}]",
            "unknown field `tokn`",
        ),
        ("forward: [{token-file: s3cret}]", "missing field `to`"),
        ("forward: [{to: far}]", "'far' names no endpoint"),
    ] {
        let said = failure(&[], Some(text));
        assert!(said.contains(error) && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn exporters_of_a_jaeger_v2_keep_their_credentials() {
    let exporter = "{endpoint: 'https://far:4318', headers: {x-key: s3cret}, \
                    tls: {ca_file: /ca.crt, cert_file: /own.crt, key_file: /own.key, \
                    server_name_override: far}}";
    let text = format!(
        "service: {{pipelines: {{traces: {{exporters: [otlphttp]}}}}}}\n\
         exporters: {{otlphttp: {exporter}}}\n"
    );
    let found = read_with(&[], &[], Some(&text)).unwrap();
    assert_eq!(found.flags, ["--forward=otlp+https://far:4318"]);
    let endpoint = found.endpoints[0].endpoint().unwrap();
    assert_eq!(endpoint.headers[0].0, "x-key");
    assert_eq!(endpoint.authorities, Some("/ca.crt".into()));
    assert!(endpoint.identity.is_some());
    assert_eq!(
        found.notes,
        ["exporters.otlphttp.tls.server_name_override is not known here and has no effect"]
    );
}

#[test]
fn unknown_keys_of_a_jaeger_v2_are_named() {
    let text = "service: {pipelines: {}}\nextensions:\n  jaeger_query:\n    fancy: {deep: 1}\n\
                \x20   multi_tenancy: {enabled: true, header: x-org, tenants: [a]}\n\
                periplus:\n  retention: 14d\n\
                \x20 access: {tokens: [{name: a, token: 0123456789abcdef, scopes: [read]}]}\n";
    let found = read_with(&[], &[], Some(text)).unwrap();
    assert_eq!(found.flags, ["--retention=14d"]);
    assert_eq!(
        found.notes,
        ["extensions.jaeger_query.fancy.deep is not known here and has no effect"]
    );
    // Neither replaces the other: a token that is lost would let everybody in.
    assert_eq!(found.tenants.unwrap().header, "x-org");
    assert_eq!(found.tokens.len(), 1);
}

#[test]
fn tail_sampling_in_the_file_of_a_jaeger_v2_is_on_where_a_pipeline_has_it() {
    let text = |processors: &str| {
        format!(
            "service: {{pipelines: {{traces: {{processors: [{processors}]}}}}}}\n\
             processors: {{tail_sampling: {{policies: [{{name: all, type: always_sample}}]}}}}\n"
        )
    };
    let found = read_with(&[], &[], Some(&text("tail_sampling"))).unwrap();
    let policies = found.tail_sampling.unwrap();
    let config = periplus_sampling::tail::TailConfig::parse("processors", &policies).unwrap();
    assert_eq!(config.policies.len(), 1);
    assert_eq!(found.notes, [""; 0]);
    let own = ["--tail-sampling", "own.yaml"];
    let found = read_with(&own, &[], Some(&text("tail_sampling"))).unwrap();
    assert_eq!(found.tail_sampling, None);

    let found = read_with(&[], &[], Some(&text("batch"))).unwrap();
    assert_eq!(found.tail_sampling, None);
    assert_eq!(
        found.notes,
        ["processors.tail_sampling is in no pipeline and has no effect"]
    );
}
