//! The tags that mean more than their value, and which of them the meaning replaces.

use periplus_model::{SpanKind, Status, StatusCode};

use super::raw::{RawTag, RawValue};

/// What the tags of a span say besides themselves. Of a tag that is set twice the last counts.
#[derive(Debug, Default)]
pub(super) struct Meaning<'a> {
    pub(super) kind: Option<SpanKind>,
    pub(super) scope_name: Option<&'a str>,
    scope_version: Option<&'a str>,
    pub(super) trace_state: &'a str,
    error: bool,
    code: Option<StatusCode>,
    description: Option<&'a str>,
    http_code: Option<i64>,
    http_message: Option<&'a str>,
}

impl<'a> Meaning<'a> {
    pub(super) fn of(tags: &[RawTag<'a>]) -> Self {
        let mut meaning = Self::default();
        for tag in tags {
            match tag.key {
                b"error" => {
                    if let RawValue::Bool(error) = tag.value {
                        meaning.error = error;
                    }
                }
                b"http.status_code" => meaning.http_code = number(tag),
                key => {
                    if let Some(text) = tag.text() {
                        meaning.take(key, text);
                    }
                }
            }
        }
        meaning
    }

    fn take(&mut self, key: &[u8], text: &'a str) {
        match key {
            b"span.kind" => self.kind = kind(text),
            b"otel.scope.name" => self.scope_name = Some(text),
            b"otel.scope.version" => self.scope_version = Some(text),
            b"w3c.tracestate" => self.trace_state = text,
            b"otel.status_code" => self.code = code(text).or(self.code),
            b"otel.status_description" => self.description = Some(text),
            b"http.status_message" => self.http_message = Some(text),
            _ => {}
        }
    }

    /// The scope's version; without a name it is a tag like others.
    pub(super) fn scope_version(&self) -> Option<&'a str> {
        self.scope_name.and(self.scope_version)
    }

    /// Whether the tag is said by the span otherwise, so that it is no attribute.
    pub(super) fn replaces(&self, tag: &RawTag<'_>) -> bool {
        match tag.key {
            b"span.kind" => self.kind.is_some() && tag.text().is_some_and(|it| kind(it).is_some()),
            b"error" => self.error && tag.value == RawValue::Bool(true),
            b"otel.status_code" => tag.text().is_some_and(|it| code(it).is_some()),
            b"otel.status_description" => {
                (self.error || self.code.is_some()) && tag.text().is_some()
            }
            b"otel.scope.name" | b"w3c.tracestate" => tag.text().is_some(),
            b"otel.scope.version" => self.scope_name.is_some() && tag.text().is_some(),
            _ => false,
        }
    }

    pub(super) fn status(&self) -> Status {
        let (code, message) = match (self.error, self.code) {
            (true, _) => (StatusCode::Error, self.description.or(self.http_message)),
            (false, Some(code)) => (code, self.description),
            (false, None) if self.http_failed() => (StatusCode::Error, self.http_message),
            (false, None) => (StatusCode::Unset, None),
        };
        Status {
            code,
            message: message.unwrap_or_default().to_owned(),
        }
    }

    /// OpenTelemetry's reading of an HTTP status: a server does not fail by a client's fault.
    fn http_failed(&self) -> bool {
        match self.http_code {
            None | Some(100..400) => false,
            Some(400..500) => self.kind != Some(SpanKind::Server),
            Some(_) => true,
        }
    }
}

fn kind(word: &str) -> Option<SpanKind> {
    Some(match word {
        "client" => SpanKind::Client,
        "server" => SpanKind::Server,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        "internal" => SpanKind::Internal,
        _ => return None,
    })
}

fn code(word: &str) -> Option<StatusCode> {
    [
        ("OK", StatusCode::Ok),
        ("ERROR", StatusCode::Error),
        ("UNSET", StatusCode::Unset),
    ]
    .into_iter()
    .find_map(|(name, code)| word.eq_ignore_ascii_case(name).then_some(code))
}

fn number(tag: &RawTag<'_>) -> Option<i64> {
    match tag.value {
        RawValue::Int(number) => Some(number),
        _ => tag.text()?.parse().ok(),
    }
}
