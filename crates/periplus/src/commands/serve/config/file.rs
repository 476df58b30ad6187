//! The configuration file: YAML whose keys are our flags, and `access`, and `forward` with more than an
//! address; or the file of a Jaeger v2,
//! whose keys are read as far as they mean something here, with ours below `periplus`.

use anyhow::{Context as _, bail};
use periplus_collect::access::AccessConfig;
use periplus_collect::forward::EndpointConfig;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter as _, UserMessageFormatter};

use super::jaeger_v2;
use super::setting::Settings;

/// The keys at the top of a Jaeger v2, or any OpenTelemetry collector.
const COLLECTOR_KEYS: [&str; 6] = [
    "service",
    "extensions",
    "receivers",
    "processors",
    "exporters",
    "connectors",
];

pub(super) fn read(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Settings> {
    let text = substitute(text, variable)?;
    // Without the lines around an error: they may have a secret.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
        // `off` is a word: it turns a port off.
        strict_booleans: true,
    };
    let document: Value = serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let message = UserMessageFormatter.format_message(error.without_snippet());
        match error.location() {
            Some(at) => anyhow::anyhow!("line {}: {message}", at.line()),
            None => anyhow::anyhow!("{message}"),
        }
    })?;
    let Value::Object(mut document) = document else {
        if document.is_null() {
            return Ok(Settings::default());
        }
        bail!("expected keys and values");
    };
    if !COLLECTOR_KEYS.iter().any(|key| document.contains_key(*key)) {
        let mut settings = Settings::default();
        ours(&mut settings, document)?;
        return Ok(settings);
    }
    let own = document.remove("periplus");
    let mut settings = jaeger_v2::read(document)?;
    match own {
        None => {}
        Some(Value::Object(own)) => ours(&mut settings, own).context("in 'periplus'")?,
        Some(_) => bail!("'periplus' is no group of keys and values"),
    }
    Ok(settings)
}

fn ours(settings: &mut Settings, document: Map<String, Value>) -> anyhow::Result<()> {
    for (key, value) in document {
        if key == "access" {
            access(settings, value).context("in 'access'")?;
        } else if key == "forward" {
            forward(settings, value).context("in 'forward'")?;
        } else {
            settings.flag(&key, value);
        }
    }
    Ok(())
}

/// Reads what may hold secrets: no error quotes it.
fn typed<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let (found, expected) = text.split_once(", expected ").unwrap_or((&text, ""));
        match found.starts_with("invalid ") {
            true => anyhow::anyhow!("a value is of the wrong kind: expected {expected}"),
            false => anyhow::anyhow!("{text}"),
        }
    })
}

/// Endpoints, each an address or a group of keys.
fn forward(settings: &mut Settings, value: Value) -> anyhow::Result<()> {
    let endpoints = match value {
        Value::Array(endpoints) => endpoints,
        one => vec![one],
    };
    for endpoint in endpoints {
        if !endpoint.is_object() {
            settings.flag("forward", endpoint);
            continue;
        }
        let config: EndpointConfig = typed(endpoint)?;
        settings.flag("forward", config.to.as_str());
        settings.endpoints.push(config);
    }
    Ok(())
}

fn access(settings: &mut Settings, value: Value) -> anyhow::Result<()> {
    let access: AccessConfig = typed(value)?;
    if access.tenants.is_some() {
        settings.tenants = access.tenants;
    }
    if !access.tokens.is_empty() {
        settings.tokens = Some(access.tokens);
    }
    Ok(())
}

/// Replaces `${env:NAME}` and `${env:NAME:-default}`, as a collector does.
fn substitute(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${env:") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let inner = &after["${env:".len()..];
        let end = inner.find('}').context("'${env:' without '}'")?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        match (variable(name), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => bail!("the variable {name} is not set, and has no default"),
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
