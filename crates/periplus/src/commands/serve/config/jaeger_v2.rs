//! The file of a Jaeger v2, which is that of an OpenTelemetry collector: as far as its keys mean
//! something here.

use anyhow::Context as _;
use periplus_collect::access::{AccessConfig, TenantsConfig};
use serde_json::{Map, Value};

use super::setting::Meaning::{Duration, Flag, Listen, Needless, Refused};
use super::setting::{Meaning, Settings};

const OWN_STORE: &str = "spans are kept in a store of our own";
const PIPELINE: &str = "there is one pipeline: from the receivers into the store";
const TLS: &str = "name the files with --tls-cert, --tls-key and --tls-client-ca";

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
    (
        "extensions.jaeger_query.http.endpoint",
        Listen("ui-port"),
    ),
    (
        "extensions.jaeger_query.grpc.endpoint",
        Listen("query-grpc-port"),
    ),
    ("extensions.jaeger_query.http.tls", Refused(TLS)),
    ("extensions.jaeger_query.grpc.tls", Refused(TLS)),
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
    (
        "extensions.jaeger_storage.backends",
        Needless(OWN_STORE),
    ),
    ("extensions.healthcheckv2.http.endpoint", Listen("health-port")),
    ("extensions.healthcheckv2.use_v2", Needless("there is one health check")),
    ("extensions.healthcheckv2.http", Needless("there is one health check")),
    ("extensions.expvar", Needless("metrics are on --metrics-port")),
    ("extensions.zpages", Needless("metrics are on --metrics-port")),
    ("extensions.pprof", Needless("metrics are on --metrics-port")),
    ("processors.batch", Needless(PIPELINE)),
    ("processors.memory_limiter", Needless("memory is always limited")),
    ("processors.adaptive_sampling", Needless("--adaptive-sampling does it")),
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
    ("service.telemetry", Needless("metrics are on --metrics-port")),
];

/// Reads the document.
pub(super) fn read(mut document: Map<String, Value>) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    backends(&mut settings, &document)?;
    settings.access = tenancy(&mut document);
    if at(&document, &["extensions", "remote_sampling", "adaptive"]).is_some() {
        settings.flag("adaptive-sampling", true);
        settings.note(
            "extensions.remote_sampling.adaptive: adaptive sampling is on, with our own settings",
        );
        take(&mut document, &["extensions", "remote_sampling", "adaptive"]);
    }
    exporters(&mut settings, &mut document);
    let mut leaves = Vec::new();
    collect(&Value::Object(document), String::new(), &mut leaves);
    for (path, value) in leaves {
        match KEYS.iter().find(|(pattern, _)| fits(pattern, &path)) {
            // What is written without a value is left as it is.
            Some(_) if value.is_null() => {}
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
    for (name, backend) in found.and_then(Value::as_object).into_iter().flatten() {
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

fn tenancy(document: &mut Map<String, Value>) -> Option<AccessConfig> {
    let path = ["extensions", "jaeger_query", "multi_tenancy"];
    let found = take(document, &path)?;
    if found.get("enabled") != Some(&Value::Bool(true)) {
        return None;
    }
    let header = found.get("header").and_then(Value::as_str);
    let tenants = found.get("tenants").and_then(Value::as_array);
    let names = tenants.into_iter().flatten().filter_map(Value::as_str);
    Some(AccessConfig {
        tenants: Some(TenantsConfig::new(
            header.map(str::to_owned),
            names.map(str::to_owned),
        )),
        tokens: Vec::new(),
    })
}

/// Exporters to other endpoints: spans are forwarded there.
fn exporters(settings: &mut Settings, document: &mut Map<String, Value>) {
    let Some(Value::Object(exporters)) = document.get_mut("exporters") else {
        return;
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
        settings.flag("forward", Value::Array(vec![Value::String(forward)]));
        for option in options.as_object().into_iter().flat_map(Map::keys) {
            if option != "endpoint" && !(option == "tls" && insecure) {
                settings.note(format!(
                    "exporters.{name}.{option} is not known here and has no effect"
                ));
            }
        }
        false
    });
}
