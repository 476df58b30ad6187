//! `accessLogFile`, `accessLogFormat` and `accessLogEncoding`.

use crate::view::Object;

/// What proxies log of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `accessLogFile`: the file, on the proxy's machine.
    pub file: String,
    /// How a line looks.
    pub format: AccessLogFormat,
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
        (!file.is_empty()).then_some(Self { file, format })
    }
}
