use std::collections::HashSet;

use serde::Deserialize;
use serde::de::Error as _;

use crate::ConfigError;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) default_strategy: Option<ServiceEntry>,
    #[serde(default, deserialize_with = "services")]
    pub(super) service_strategies: Vec<ServiceEntry>,
}

/// A strategy of a service, or the default one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawService")]
pub(super) struct ServiceEntry {
    pub(super) service: String,
    pub(super) kind: Kind,
    pub(super) param: f64,
    pub(super) operation_strategies: Vec<OperationEntry>,
}

/// A strategy of an operation.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawOperation")]
pub(super) struct OperationEntry {
    pub(super) operation: String,
    pub(super) kind: Kind,
    pub(super) param: f64,
}

/// `type`.
#[derive(Debug)]
pub(super) enum Kind {
    Absent,
    Probabilistic,
    RateLimiting,
    Unknown(String),
}

impl File {
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line() as u64, error.column() as u64);
            let message = error.to_string();
            let place = format!(" at line {line} column {column}");
            ConfigError {
                file: file.to_owned(),
                line,
                column,
                message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    #[serde(default)]
    service: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    param: f64,
    #[serde(default)]
    operation_strategies: Vec<OperationEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperation {
    operation: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    param: f64,
}

impl TryFrom<RawService> for ServiceEntry {
    type Error = String;

    fn try_from(raw: RawService) -> Result<Self, String> {
        let who = || match raw.service.as_str() {
            "" => "the default strategy".to_owned(),
            service => format!("service '{service}'"),
        };
        let kind = kind(&raw.kind, raw.param).map_err(|error| format!("{}: {error}", who()))?;
        Ok(Self {
            kind,
            service: raw.service,
            param: raw.param,
            operation_strategies: raw.operation_strategies,
        })
    }
}

impl TryFrom<RawOperation> for OperationEntry {
    type Error = String;

    fn try_from(raw: RawOperation) -> Result<Self, String> {
        let kind = kind(&raw.kind, raw.param)
            .map_err(|error| format!("operation '{}': {error}", raw.operation))?;
        Ok(Self {
            kind,
            operation: raw.operation,
            param: raw.param,
        })
    }
}

fn kind(kind: &str, param: f64) -> Result<Kind, String> {
    match kind {
        "" => Ok(Kind::Absent),
        "probabilistic" if (0.0..=1.0).contains(&param) => Ok(Kind::Probabilistic),
        "probabilistic" => Err(format!(
            "param {param} is no probability: use a number from 0 to 1"
        )),
        "ratelimiting" if param >= 0.0 => Ok(Kind::RateLimiting),
        "ratelimiting" => Err(format!(
            "param {param} is no number of traces per second: use 0 or more"
        )),
        other => Ok(Kind::Unknown(other.to_owned())),
    }
}

fn services<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ServiceEntry>, D::Error> {
    let entries = Vec::<ServiceEntry>::deserialize(deserializer)?;
    let mut seen = HashSet::new();
    for entry in &entries {
        if entry.service.is_empty() {
            return Err(D::Error::custom(
                "a strategy in service_strategies has no 'service'",
            ));
        }
        if !seen.insert(&entry.service) {
            return Err(D::Error::custom(format!(
                "service '{}' is there twice in service_strategies",
                entry.service
            )));
        }
    }
    Ok(entries)
}
