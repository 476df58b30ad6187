//! The variables of Jaeger v1, which most containers are still started with, and a few of Zipkin's.

use anyhow::Context as _;
use periplus_collect::access::TenantsConfig;
use serde_json::Value;

use super::setting::Meaning::{Duration, Flag, Listen, Needless, Refused};
use super::setting::{Meaning, Settings};

const OWN_STORE: &str = "spans are kept in a store of our own";
const NO_QUEUE: &str = "requests wait for the store itself, which refuses what is too much";
const OWN_METRICS: &str = "metrics come from the spans themselves";
const ONE_LOG: &str = "RUST_LOG says what is logged";

/// What each variable means; those that need more than a line are in [`read`].
const VARIABLES: &[(&str, Meaning)] = &[
    ("COLLECTOR_OTLP_GRPC_HOST_PORT", Listen("otlp-grpc-port")),
    ("COLLECTOR_OTLP_HTTP_HOST_PORT", Listen("otlp-http-port")),
    ("COLLECTOR_ZIPKIN_HOST_PORT", Listen("zipkin-port")),
    (
        "COLLECTOR_HTTP_SERVER_HOST_PORT",
        Listen("jaeger-http-port"),
    ),
    (
        "COLLECTOR_GRPC_SERVER_HOST_PORT",
        Listen("jaeger-grpc-port"),
    ),
    ("QUERY_HTTP_SERVER_HOST_PORT", Listen("ui-port")),
    ("QUERY_GRPC_SERVER_HOST_PORT", Listen("query-grpc-port")),
    ("ADMIN_HTTP_HOST_PORT", Listen("health-port")),
    ("COLLECTOR_ZIPKIN_ALLOWED_ORIGINS", Flag("cors-origin")),
    // Zipkin's.
    ("QUERY_PORT", Flag("zipkin-port")),
    ("ZIPKIN_QUERY_ALLOWED_ORIGINS", Flag("cors-origin")),
    ("COLLECTOR_QUEUE_SIZE", Needless(NO_QUEUE)),
    ("COLLECTOR_NUM_WORKERS", Needless(NO_QUEUE)),
    ("QUERY_BASE_PATH", Flag("base-path")),
    ("QUERY_UI_CONFIG", Flag("ui-config")),
    (
        "QUERY_MAX_CLOCK_SKEW_ADJUSTMENT",
        Duration("max-clock-skew"),
    ),
    (
        "QUERY_ENABLE_TRACING",
        Needless("our own requests are not traced"),
    ),
    (
        "QUERY_BEARER_TOKEN_PROPAGATION",
        Needless("there is no store behind us that a token could be for"),
    ),
    (
        "QUERY_STATIC_FILES",
        Needless("the UI is inside of the program"),
    ),
    ("SAMPLING_STRATEGIES_FILE", Flag("sampling-strategies")),
    (
        "SAMPLING_STRATEGIES_RELOAD_INTERVAL",
        Duration("sampling-reload"),
    ),
    (
        "SAMPLING_DEFAULT_SAMPLING_PROBABILITY",
        Flag("sampling-default-probability"),
    ),
    ("METRICS_BACKEND", Needless("metrics are on --metrics-port")),
    (
        "METRICS_HTTP_ROUTE",
        Needless("metrics are on --metrics-port"),
    ),
    ("LOG_LEVEL", Needless(ONE_LOG)),
    ("LOG_ENCODING", Needless(ONE_LOG)),
    ("METRICS_STORAGE_TYPE", Needless(OWN_METRICS)),
    ("PROMETHEUS_SERVER_URL", Needless(OWN_METRICS)),
    ("PROMETHEUS_QUERY_NAMESPACE", Needless(OWN_METRICS)),
    ("PROMETHEUS_QUERY_DURATION_UNIT", Needless(OWN_METRICS)),
    ("PROMETHEUS_QUERY_NORMALIZE_CALLS", Needless(OWN_METRICS)),
    ("PROMETHEUS_QUERY_NORMALIZE_DURATION", Needless(OWN_METRICS)),
    ("BADGER_CONSISTENCY", Needless(OWN_STORE)),
    ("BADGER_MAINTENANCE_INTERVAL", Needless(OWN_STORE)),
    ("BADGER_READ_ONLY", Refused("a store is always written to")),
    ("BADGER_DIRECTORY_VALUE", Needless(OWN_STORE)),
];

/// Beginnings of the names of variables about TLS, and the port that each is for.
const TLS_PORTS: [(&str, &str); 8] = [
    ("COLLECTOR_GRPC", "jaeger/grpc"),
    ("COLLECTOR_HTTP", "jaeger/http"),
    ("COLLECTOR_OTLP_GRPC", "otlp/grpc"),
    ("COLLECTOR_OTLP_HTTP", "otlp/http"),
    ("COLLECTOR_ZIPKIN", "zipkin"),
    ("QUERY_GRPC", "query/grpc"),
    ("QUERY_HTTP", "ui"),
    ("ADMIN_HTTP", "health"),
];

/// Beginnings of names that hardly anybody but Jaeger uses.
const PREFIXES: [&str; 7] = [
    "COLLECTOR_",
    "QUERY_",
    "SAMPLING_",
    "SPAN_STORAGE_",
    "BADGER_",
    "CASSANDRA_",
    "ES_",
];

/// Those that [`read`] itself looks at.
const OTHERS: [&str; 12] = [
    "SPAN_STORAGE_TYPE",
    "MEMORY_MAX_TRACES",
    "BADGER_EPHEMERAL",
    "BADGER_DIRECTORY_KEY",
    "BADGER_SPAN_STORE_TTL",
    "COLLECTOR_OTLP_ENABLED",
    "SAMPLING_CONFIG_TYPE",
    "QUERY_ADDITIONAL_HEADERS",
    "MULTI_TENANCY_ENABLED",
    "MULTI_TENANCY_HEADER",
    "MULTI_TENANCY_TENANTS",
    "COLLECTOR_TAGS",
];

/// Reads the variables of these names.
pub(super) fn read(
    variable: &dyn Fn(&str) -> Option<String>,
    names: &[String],
    ours: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    for (name, meaning) in VARIABLES {
        if let Some(value) = variable(name) {
            settings
                .apply(name, *meaning, &Value::String(value))
                .with_context(|| format!("the variable {name}"))?;
        }
    }
    storage(&mut settings, variable);
    if is(variable, "COLLECTOR_OTLP_ENABLED", "false") {
        settings.flag("otlp-grpc-port", "off");
        settings.flag("otlp-http-port", "off");
    }
    if is(variable, "SAMPLING_CONFIG_TYPE", "adaptive") {
        settings.flag("adaptive-sampling", true);
    }
    if is(variable, "MULTI_TENANCY_ENABLED", "true") {
        settings.tenants = Some(tenancy(variable));
    }
    for (prefix, port) in TLS_PORTS {
        let of = |what: &str| variable(&format!("{prefix}_TLS_{what}"));
        if is(variable, &format!("{prefix}_TLS_ENABLED"), "true") {
            let origin = format!("the variable {prefix}_TLS_ENABLED");
            (settings.tls).add(port, &origin, of("CERT"), of("KEY"), of("CLIENT_CA"))?;
        }
    }
    for name in names {
        let known = VARIABLES.iter().any(|(known, _)| known == name)
            || OTHERS.contains(&name.as_str())
            || is_of_tls(name)
            || ours(name);
        if !known && PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            settings.note(format!(
                "the variable {name} looks like one of Jaeger's or Zipkin's and has no effect here"
            ));
        }
    }
    Ok(settings)
}

/// Whether it is about TLS, and is looked at.
fn is_of_tls(name: &str) -> bool {
    TLS_PORTS.iter().any(|(prefix, _)| {
        let rest = name.strip_prefix(prefix);
        matches!(
            rest.and_then(|rest| rest.strip_prefix("_TLS_")),
            Some("ENABLED" | "CERT" | "KEY" | "CLIENT_CA")
        )
    })
}

fn is(variable: &dyn Fn(&str) -> Option<String>, name: &str, expected: &str) -> bool {
    variable(name).is_some_and(|value| value.eq_ignore_ascii_case(expected))
}

fn storage(settings: &mut Settings, variable: &dyn Fn(&str) -> Option<String>) {
    match variable("SPAN_STORAGE_TYPE").as_deref() {
        None => {}
        Some("memory") => settings.flag("memory", true),
        // Its default loses everything at the end.
        Some("badger") if !is(variable, "BADGER_EPHEMERAL", "false") => {
            settings.flag("memory", true);
        }
        Some("badger") => {
            if let Some(directory) = variable("BADGER_DIRECTORY_KEY") {
                settings.flag("data", directory);
            }
            let ttl = variable("BADGER_SPAN_STORE_TTL").map(Value::String);
            if let Some(ttl) = ttl
                && let Err(error) =
                    settings.apply("BADGER_SPAN_STORE_TTL", Duration("retention"), &ttl)
            {
                settings.note(format!("the variable BADGER_SPAN_STORE_TTL: {error:#}"));
            }
        }
        Some(other) => settings.note(format!(
            "SPAN_STORAGE_TYPE={other} has no effect: {OWN_STORE}, in --data"
        )),
    }
    if variable("MEMORY_MAX_TRACES").is_some() {
        settings
            .note("MEMORY_MAX_TRACES has no effect: memory is limited in bytes, with --max-memory");
    }
    if variable("COLLECTOR_TAGS").is_some() {
        settings.note("COLLECTOR_TAGS has no effect: spans are kept as they come");
    }
    if variable("QUERY_ADDITIONAL_HEADERS").is_some() {
        settings.note(
            "QUERY_ADDITIONAL_HEADERS has no effect: let a proxy in front add headers to answers",
        );
    }
}

fn tenancy(variable: &dyn Fn(&str) -> Option<String>) -> TenantsConfig {
    let tenants = variable("MULTI_TENANCY_TENANTS").unwrap_or_default();
    let names = tenants
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    TenantsConfig::new(variable("MULTI_TENANCY_HEADER"), names.map(str::to_owned))
}
