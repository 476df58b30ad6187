//! The file of a Jaeger v2, which is that of an OpenTelemetry collector: as far as its keys mean
//! something here.

use anyhow::Context as _;
use periplus_collect::access::TenantsConfig;
use periplus_collect::forward::EndpointConfig;
use serde_json::{Map, Value};

use super::jaeger_tls;
use super::setting::Meaning::{Duration, Flag, Listen, Needless, Refused};
use super::setting::{Flag as OurFlag, Meaning, Settings};

const OWN_STORE: &str = "spans are kept in a store of our own";
const PIPELINE: &str = "there is one pipeline: from the receivers into the store";
const TLS: &str = "only the first of a kind can have TLS; name its files with --tls-cert, --tls-key and \
                   --tls-client-ca";

/// What the value at each path means. `*` is any one name; a path stands for all that lies below
/// it. The first that fits counts.
const KEYS: &[(&str, Meaning)] = &[
    (
        "receivers.otlp.protocols.grpc.endpoint",
        Listen("otlp-grpc-port"),
    ),
    (
        "receivers.otlp.protocols.http.endpoint",
        Listen("otlp-http-port"),
    ),
    (
        "receivers.otlp.protocols.http.cors.allowed_origins",
        Flag("cors-origin"),
    ),
    (
        "receivers.jaeger.protocols.grpc.endpoint",
        Listen("jaeger-grpc-port"),
    ),
    (
        "receivers.jaeger.protocols.thrift_http.endpoint",
        Listen("jaeger-http-port"),
    ),
    (
        "receivers.jaeger.protocols.thrift_compact.endpoint",
        Listen("jaeger-compact-port"),
    ),
    (
        "receivers.jaeger.protocols.thrift_binary.endpoint",
        Listen("jaeger-binary-port"),
    ),
    ("receivers.zipkin.endpoint", Listen("zipkin-port")),
    ("receivers.*.protocols.*.tls", Refused(TLS)),
    ("receivers.*.tls", Refused(TLS)),
    ("receivers.nop", Needless(PIPELINE)),
    ("extensions.jaeger_query.http.endpoint", Listen("ui-port")),
    (
        "extensions.jaeger_query.grpc.endpoint",
        Listen("query-grpc-port"),
    ),
    ("extensions.jaeger_query.base_path", Flag("base-path")),
    ("extensions.jaeger_query.ui.config_file", Flag("ui-config")),
    (
        "extensions.jaeger_query.max_clock_skew_adjust",
        Duration("max-clock-skew"),
    ),
    (
        "extensions.jaeger_query.max_trace_size",
        Flag("max-trace-spans"),
    ),
    ("extensions.jaeger_query.storage", Needless(OWN_STORE)),
    (
        "extensions.jaeger_query.ui.assets_path",
        Needless("the UI is inside of the program"),
    ),
    (
        "extensions.jaeger_query.bearer_token_propagation",
        Needless("there is no store behind us that a token could be for"),
    ),
    (
        "extensions.jaeger_query.header_forwarding",
        Needless("there is no store behind us that a header could be for"),
    ),
    (
        "extensions.jaeger_storage.metric_backends",
        Needless("metrics come from the spans themselves"),
    ),
    (
        "extensions.remote_sampling.file.default_sampling_probability",
        Flag("sampling-default-probability"),
    ),
    (
        "extensions.jaeger_query.enable_tracing",
        Needless("our own requests are not traced"),
    ),
    (
        "extensions.remote_sampling.file.path",
        Flag("sampling-strategies"),
    ),
    (
        "extensions.remote_sampling.file.reload_interval",
        Duration("sampling-reload"),
    ),
    (
        "extensions.remote_sampling.http.endpoint",
        Listen("sampling-port"),
    ),
    (
        "extensions.remote_sampling.grpc.endpoint",
        Listen("sampling-grpc-port"),
    ),
    ("extensions.jaeger_storage.backends", Needless(OWN_STORE)),
    (
        "extensions.healthcheckv2.http.endpoint",
        Listen("health-port"),
    ),
    (
        "extensions.healthcheckv2.use_v2",
        Needless("there is one health check"),
    ),
    (
        "extensions.healthcheckv2.http",
        Needless("there is one health check"),
    ),
    (
        "extensions.expvar",
        Needless("metrics are on --metrics-port"),
    ),
    (
        "extensions.zpages",
        Needless("metrics are on --metrics-port"),
    ),
    (
        "extensions.pprof",
        Needless("metrics are on --metrics-port"),
    ),
    ("processors.batch", Needless(PIPELINE)),
    (
        "processors.memory_limiter",
        Needless("memory is always limited"),
    ),
    (
        "processors.adaptive_sampling",
        Needless("--adaptive-sampling does it"),
    ),
    ("exporters.jaeger_storage_exporter", Needless(OWN_STORE)),
    ("exporters.debug", Needless(PIPELINE)),
    ("exporters.nop", Needless(PIPELINE)),
    ("connectors.forward", Needless(PIPELINE)),
    (
        "connectors.spanmetrics",
        Needless("metrics come from the spans themselves"),
    ),
    ("service.pipelines", Needless(PIPELINE)),
    ("service.extensions", Needless("all parts are always there")),
    (
        "service.telemetry",
        Needless("metrics are on --metrics-port"),
    ),
];

/// Where a port's TLS stands.
const TLS_PORTS: [(&[&str], &str); 9] = [
    (&["receivers", "otlp", "protocols", "grpc"], "otlp/grpc"),
    (&["receivers", "otlp", "protocols", "http"], "otlp/http"),
    (&["receivers", "jaeger", "protocols", "grpc"], "jaeger/grpc"),
    (
        &["receivers", "jaeger", "protocols", "thrift_http"],
        "jaeger/http",
    ),
    (&["receivers", "zipkin"], "zipkin"),
    (&["extensions", "jaeger_query", "http"], "ui"),
    (&["extensions", "jaeger_query", "grpc"], "query/grpc"),
    (&["extensions", "remote_sampling", "http"], "sampling"),
    (&["extensions", "remote_sampling", "grpc"], "sampling/grpc"),
];

/// Reads the document.
pub(super) fn read(mut document: Map<String, Value>) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    backends(&mut settings, &document)?;
    settings.tenants = tenancy(&mut document);
    for (path, port) in TLS_PORTS {
        if let Some(value) = take(&mut document, &[path, &["tls"]].concat()) {
            let path = format!("{}.tls", path.join("."));
            for key in jaeger_tls::of_server(&mut settings.tls, port, &path, value)? {
                settings.note(format!("{key} is not known here and has no effect"));
            }
        }
    }
    if let Some(policies) = take(&mut document, &["processors", "tail_sampling"]) {
        if is_used(&document, "processors", "tail_sampling") {
            // JSON is YAML.
            let policies = serde_json::json!({ "tail_sampling": policies });
            settings.tail_sampling = Some(policies.to_string());
        } else {
            settings.note("processors.tail_sampling is in no pipeline and has no effect");
        }
    }
    if at(&document, &["extensions", "remote_sampling", "adaptive"]).is_some() {
        settings.flag("adaptive-sampling", true);
        settings.note(
            "extensions.remote_sampling.adaptive: adaptive sampling is on, with our own settings",
        );
        take(
            &mut document,
            &["extensions", "remote_sampling", "adaptive"],
        );
    }
    exporters(&mut settings, &mut document)?;
    let mut leaves = Vec::new();
    collect(&Value::Object(document), String::new(), &mut leaves);
    for (path, value) in leaves {
        // What is written without a value is left as it is.
        if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            continue;
        }
        match KEYS.iter().find(|(pattern, _)| fits(pattern, &path)) {
            Some((_, meaning)) => settings
                .apply(&path, *meaning, &value)
                .with_context(|| path.clone())?,
            None => settings.note(format!("{path} is not known here and has no effect")),
        }
    }
    Ok(settings)
}

/// Whether the path is the pattern's, or lies below it.
fn fits(pattern: &str, path: &str) -> bool {
    let mut names = path.split('.');
    pattern.split('.').all(|wanted| {
        let Some(name) = names.next() else {
            return false;
        };
        // `otlp/2` is an `otlp` as well.
        let kind = name.split('/').next().unwrap_or(name);
        wanted == "*" || wanted == kind
    })
}

/// All values with their paths; lists are values.
fn collect(value: &Value, path: String, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = match path.as_str() {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                collect(value, path, out);
            }
        }
        other => out.push((path, other.clone())),
    }
}

fn at<'a>(document: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = document.get(*first)?;
    match rest {
        [] => Some(value),
        rest => at(value.as_object()?, rest),
    }
}

fn take(document: &mut Map<String, Value>, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    match rest {
        [] => document.remove(*first),
        rest => take(document.get_mut(*first)?.as_object_mut()?, rest),
    }
}

/// Which of Jaeger's stores was asked for.
fn backends(settings: &mut Settings, document: &Map<String, Value>) -> anyhow::Result<()> {
    let found = at(document, &["extensions", "jaeger_storage", "backends"]);
    let found = found.and_then(Value::as_object);
    let exporter = at(
        document,
        &["exporters", "jaeger_storage_exporter", "trace_storage"],
    );
    let query = at(
        document,
        &["extensions", "jaeger_query", "storage", "traces"],
    );
    // Others are for archived traces and for metrics, which have their places here.
    let chosen = exporter.or(query).and_then(Value::as_str);
    for (name, backend) in found.into_iter().flatten() {
        if chosen.is_some_and(|chosen| chosen != name) {
            continue;
        }
        let Some((kind, options)) = backend.as_object().and_then(|map| map.iter().next()) else {
            continue;
        };
        let place = format!("extensions.jaeger_storage.backends.{name}.{kind}");
        match kind.as_str() {
            "memory" => {
                settings.flag("memory", true);
                if options.get("max_traces").is_some() {
                    settings.note(format!(
                        "{place}.max_traces has no effect: memory is limited in bytes, with \
                         --max-memory"
                    ));
                }
            }
            // Its default loses everything at the end.
            "badger" if options.get("ephemeral") != Some(&Value::Bool(false)) => {
                settings.flag("memory", true);
            }
            "badger" => {
                if let Some(directory) = options.pointer("/directories/keys") {
                    settings.flag("data", directory.clone());
                }
                if let Some(ttl) = options.pointer("/ttl/spans") {
                    settings.apply(&place, Duration("retention"), ttl)?;
                }
            }
            _ => settings.note(format!("{place} has no effect: {OWN_STORE}, in --data")),
        }
    }
    Ok(())
}

fn tenancy(document: &mut Map<String, Value>) -> Option<TenantsConfig> {
    let path = ["extensions", "jaeger_query", "multi_tenancy"];
    let found = take(document, &path)?;
    if found.get("enabled") != Some(&Value::Bool(true)) {
        return None;
    }
    let header = found.get("header").and_then(Value::as_str);
    let tenants = found.get("tenants").and_then(Value::as_array);
    let names = tenants.into_iter().flatten().filter_map(Value::as_str);
    Some(TenantsConfig::new(
        header.map(str::to_owned),
        names.map(str::to_owned),
    ))
}

/// Whether a pipeline of traces names this part: one that none names does nothing in a collector.
fn is_used(document: &Map<String, Value>, kind: &str, name: &str) -> bool {
    let pipelines = at(document, &["service", "pipelines"]).and_then(Value::as_object);
    let traces = pipelines
        .into_iter()
        .flatten()
        .filter(|(pipeline, _)| pipeline.as_str() == "traces" || pipeline.starts_with("traces/"));
    let mut parts = traces
        .filter_map(|(_, pipeline)| pipeline.get(kind)?.as_array())
        .flatten();
    parts.any(|part| part == name)
}

/// Exporters to other endpoints: spans are forwarded there.
fn exporters(settings: &mut Settings, document: &mut Map<String, Value>) -> anyhow::Result<()> {
    let Some(Value::Object(mut exporters)) = document.remove("exporters") else {
        return Ok(());
    };
    exporters.retain(|name, options| {
        let endpoint = options.get("endpoint").and_then(Value::as_str);
        let insecure = options.pointer("/tls/insecure") == Some(&Value::Bool(true));
        let forward = match (name.split('/').next(), endpoint) {
            (Some("otlphttp"), Some(url)) => format!("otlp+{url}"),
            (Some("zipkin"), Some(url)) => format!("zipkin+{url}"),
            (Some("otlp"), Some(endpoint)) if endpoint.contains("://") => {
                format!("otlp-grpc+{endpoint}")
            }
            (Some("otlp"), Some(endpoint)) => {
                let scheme = if insecure { "http" } else { "https" };
                format!("otlp-grpc+{scheme}://{endpoint}")
            }
            _ => return true,
        };
        if !is_used(document, "exporters", name) {
            settings.note(format!(
                "exporters.{name} is in no pipeline and has no effect"
            ));
            return false;
        }
        let file = |key: &str| Some(options.pointer(key)?.as_str()?.into());
        let headers = options.get("headers").and_then(Value::as_object);
        let headers = headers.into_iter().flatten();
        settings.endpoints.push(EndpointConfig {
            to: forward.clone(),
            headers: headers
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            ca: file("/tls/ca_file"),
            cert: file("/tls/cert_file"),
            key: file("/tls/key_file"),
            ..EndpointConfig::default()
        });
        settings.flags.push(OurFlag {
            origin: Some(format!("exporters.{name}.endpoint")),
            ..OurFlag::new("forward", forward)
        });
        let mut leaves = Vec::new();
        collect(options, format!("exporters.{name}"), &mut leaves);
        for (path, value) in leaves {
            let known = [
                "endpoint",
                "tls.insecure",
                "tls.ca_file",
                "tls.cert_file",
                "tls.key_file",
            ];
            let own = path.strip_prefix(&format!("exporters.{name}."));
            let is_known = |own: &str| known.contains(&own) || own.starts_with("headers.");
            if !value.is_null() && own.is_some_and(|own| !is_known(own)) {
                settings.note(format!("{path} is not known here and has no effect"));
            }
        }
        false
    });
    document.insert("exporters".to_owned(), Value::Object(exporters));
    Ok(())
}
