//! `accessLogFile`, `accessLogFormat` and `accessLogEncoding`, and providers of access logs.

use std::collections::BTreeMap;

use super::provider::read_service;
use crate::diagnostic::At;
use crate::host::Host;
use crate::view::{Object, Shape, View};

/// What proxies log of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `accessLogFile`: the file, on the proxy's machine.
    pub file: String,
    /// How a line looks.
    pub format: AccessLogFormat,
    /// `omitEmptyValues`: what has no value is left out.
    pub omits_empty: bool,
}

/// `accessLogFormat` under an `accessLogEncoding`; `None` is Istio's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// A format string of Envoy's.
    Text(Option<String>),
    /// The text of a JSON object whose values are format strings.
    Json(Option<String>),
}

impl AccessLog {
    /// None without a file.
    pub(super) fn read(object: &Object<'_>) -> Option<Self> {
        let encoding = object.get("accessLogEncoding");
        let is_json = encoding
            .and_then(|encoding| encoding.choice(&[("TEXT", false), ("JSON", true)]))
            .unwrap_or(false);
        let format = object.get("accessLogFormat");
        let text = format.and_then(|format| Some((format, format.text()?)));
        let text = text.filter(|(_, text)| !text.is_empty());
        if let Some((view, text)) = text.as_ref().filter(|_| is_json) {
            let parsed: Result<serde_json::Map<String, serde_json::Value>, _> =
                serde_json::from_str(text);
            if let Err(error) = parsed {
                view.fail(format!(
                    "with `accessLogEncoding: JSON` it must be a JSON object: {error}"
                ));
                return None;
            }
        }
        let text = text.map(|(_, text)| text);
        let file = object.get("accessLogFile")?.text()?;
        let format = match is_json {
            false => AccessLogFormat::Text(text),
            true => AccessLogFormat::Json(text),
        };
        (!file.is_empty()).then_some(Self {
            file,
            format,
            omits_empty: false,
        })
    }
}

/// A log that a Telemetry resource may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProvider {
    /// Its name.
    pub name: String,
    /// What is logged, and where to.
    pub log: ProvidedLog,
}

/// What a provider logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvidedLog {
    /// `envoyFileAccessLog`: lines.
    File(AccessLog),
    /// `envoyOtelAls`: records of OpenTelemetry's.
    OpenTelemetry(OpenTelemetryLog),
}

/// `envoyOtelAls`: what is told a collector over gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTelemetryLog {
    /// The service that the collector is reached by.
    pub service: Host,
    /// The service's port.
    pub port: u16,
    /// `logName`
    pub log_name: Option<String>,
    /// `logFormat.text`: the body of each record, a format string of Envoy's; `None` is Istio's default.
    pub text: Option<String>,
    /// `logFormat.labels`: the attributes of each record, whose values are format strings too.
    pub labels: BTreeMap<String, String>,
    /// Where it is written.
    pub at: At,
}

const FILE_LOG: Shape = Shape {
    known: &["path", "logFormat", "omitEmptyValues"],
    refused: &[],
};
const OPEN_TELEMETRY_LOG: Shape = Shape {
    known: &["service", "port", "logName", "logFormat"],
    refused: &[],
};
const LOG_FORMAT: Shape = Shape {
    known: &["text", "labels"],
    refused: &[],
};

impl LogProvider {
    /// What Istio defines where nobody does.
    pub(super) fn built_in() -> Self {
        Self {
            name: "envoy".to_owned(),
            log: ProvidedLog::File(AccessLog {
                file: "/dev/stdout".to_owned(),
                format: AccessLogFormat::Text(None),
                omits_empty: false,
            }),
        }
    }

    pub(super) fn read_file(name: String, view: &View<'_>) -> Option<Self> {
        let object = view.object(&FILE_LOG)?;
        let path = object.optional("path", View::some_text)?;
        let format = object.optional("logFormat", |view| {
            let format = view.object(&LOG_FORMAT)?;
            match format.present(LOG_FORMAT.known).as_slice() {
                [] => Some(AccessLogFormat::Text(None)),
                ["text"] => Some(AccessLogFormat::Text(Some(format.require("text")?.text()?))),
                ["labels"] => {
                    let labels = format.require("labels")?.text_map();
                    let labels: serde_json::Map<_, _> = labels
                        .into_iter()
                        .map(|(key, value)| (key, value.into()))
                        .collect();
                    let is_empty = labels.is_empty();
                    let text = serde_json::Value::Object(labels).to_string();
                    Some(AccessLogFormat::Json((!is_empty).then_some(text)))
                }
                _ => {
                    format.fail("`text` and `labels` exclude each other");
                    None
                }
            }
        })?;
        let omits_empty = object.optional("omitEmptyValues", View::bool)?;
        let log = AccessLog {
            file: path.unwrap_or_else(|| "/dev/stdout".to_owned()),
            format: format.unwrap_or(AccessLogFormat::Text(None)),
            omits_empty: omits_empty.unwrap_or(false),
        };
        Some(Self {
            name,
            log: ProvidedLog::File(log),
        })
    }

    pub(super) fn read_open_telemetry(name: String, view: &View<'_>) -> Option<Self> {
        let object = view.object(&OPEN_TELEMETRY_LOG)?;
        let (service, port) = read_service(&object)?;
        let format = object.optional("logFormat", |view| {
            let format = view.object(&LOG_FORMAT)?;
            let text = format.optional("text", View::text)?;
            let labels = format.get("labels").map(View::text_map);
            Some((text, labels.unwrap_or_default()))
        })?;
        let (text, labels) = format.unwrap_or_default();
        let log_name = object.optional("logName", View::text)?;
        let log = OpenTelemetryLog {
            service,
            port,
            log_name: log_name.filter(|name| !name.is_empty()),
            text: text.filter(|text| !text.is_empty()),
            labels,
            at: At(object.view().at()),
        };
        Some(Self {
            name,
            log: ProvidedLog::OpenTelemetry(log),
        })
    }
}
