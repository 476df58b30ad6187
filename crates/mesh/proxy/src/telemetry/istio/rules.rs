//! What a mesh wants of Istio's metrics: some of them left out, some with other labels.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use periplus_cel::Expression;

use super::id_of;
use crate::telemetry::log;

/// Istio's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    Requests,
    Duration,
    RequestBytes,
    ResponseBytes,
    RequestMessages,
    ResponseMessages,
    Opened,
    Closed,
    Received,
    Sent,
}

impl Metric {
    pub(crate) const ALL: [Self; 10] = [
        Self::Requests,
        Self::Duration,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::Opened,
        Self::Closed,
        Self::Received,
        Self::Sent,
    ];

    /// Its name in Prometheus.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "istio_requests_total",
            Self::Duration => "istio_request_duration_milliseconds",
            Self::RequestBytes => "istio_request_bytes",
            Self::ResponseBytes => "istio_response_bytes",
            Self::RequestMessages => "istio_request_messages_total",
            Self::ResponseMessages => "istio_response_messages_total",
            Self::Opened => "istio_tcp_connections_opened_total",
            Self::Closed => "istio_tcp_connections_closed_total",
            Self::Received => "istio_tcp_received_bytes_total",
            Self::Sent => "istio_tcp_sent_bytes_total",
        }
    }

    /// The metric that configurations call so: without `istio_`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let is_it = |metric: &Self| metric.name().strip_prefix("istio_") == Some(name);
        Self::ALL.into_iter().find(is_it)
    }
}

/// What is wanted of each metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricRules {
    of: [MetricRule; Metric::ALL.len()],
    /// `disable_host_header_fallback`: what clients call a service says nothing of where its cluster does not.
    pub(crate) ignores_host: bool,
}

/// What is wanted of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetricRule {
    pub(crate) is_dropped: bool,
    /// Labels that it has not.
    pub(crate) removed: BTreeSet<String>,
    /// Labels that have another value, or that are there besides.
    pub(crate) set: BTreeMap<String, LabelValue>,
}

/// Where the value of a label comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LabelValue {
    Text(String),
    /// Of the request, or `unknown` where there is none.
    Method,
    Host,
    /// Without its query.
    Path,
    Scheme,
    /// A header, in lower case.
    Header(String),
    Status,
    /// The port that the client connected to.
    Port,
    /// What else can be said of a request.
    Expression(Expression),
}

/// The most bytes of a value that clients may choose.
const MOST: usize = 128;
/// What is not known.
pub(crate) const UNKNOWN: &str = "unknown";

impl LabelValue {
    /// The value that an expression of CEL has; the error says what is wrong with it. What is asked for most is
    /// known without evaluating anything.
    pub(crate) fn parse(expression: &str) -> Result<Self, String> {
        let text = expression.trim();
        let inner = text.strip_prefix("string(");
        let inner = inner.and_then(|inner| inner.strip_suffix(')'));
        Ok(match inner.unwrap_or(text).trim() {
            "request.method" => Self::Method,
            "request.host" => Self::Host,
            "request.url_path" => Self::Path,
            "request.scheme" => Self::Scheme,
            "response.code" => Self::Status,
            "destination.port" => Self::Port,
            other => {
                if let Some(literal) = literal(other) {
                    return Ok(Self::Text(literal.to_owned()));
                }
                let header = other.strip_prefix("request.headers[");
                let header = header.and_then(|rest| rest.strip_suffix(']'));
                match header.and_then(|name| literal(name.trim())) {
                    Some(name) if !name.is_empty() => Self::Header(name.to_ascii_lowercase()),
                    _ => {
                        let parsed = Expression::parse(text);
                        let refused = |refused| format!("`{expression}`: {refused}");
                        Self::Expression(parsed.map_err(refused)?)
                    }
                }
            }
        })
    }
}

/// A text in quotes of either kind, without escapes.
fn literal(text: &str) -> Option<&str> {
    let of = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    let inner = of('"').or_else(|| of('\''))?;
    (!inner.contains(['\\', '"', '\''])).then_some(inner)
}

impl MetricRules {
    /// Without changes of metrics.
    pub(crate) fn new(ignores_host: bool) -> Self {
        Self {
            of: Default::default(),
            ignores_host,
        }
    }

    pub(crate) fn of(&self, metric: Metric) -> &MetricRule {
        &self.of[metric as usize]
    }

    pub(crate) fn of_mut(&mut self, metric: Metric) -> &mut MetricRule {
        &mut self.of[metric as usize]
    }

    /// Whether some metric is other than Istio's.
    fn changes_any(&self) -> bool {
        self.of.iter().any(|rule| *rule != MetricRule::default())
    }
}

/// The rules of a listener, as a worker uses them.
#[derive(Debug)]
pub(crate) struct RulesView {
    rules: Arc<MetricRules>,
    /// Tells them from others.
    id: u64,
    /// What must be known of a request.
    asked: Vec<LabelValue>,
    /// They ask for more than the request itself.
    pub(crate) has_expressions: bool,
    /// They ask for the response's headers or trailers.
    pub(crate) needs_response: bool,
}

impl RulesView {
    /// None if the metrics are as Istio has them: then nothing is looked at.
    pub(crate) fn new(rules: &Arc<MetricRules>) -> Option<Self> {
        if !rules.changes_any() {
            return None;
        }
        let values = rules.of.iter().flat_map(|rule| rule.set.values());
        let values = values.filter(|value| !matches!(value, LabelValue::Text(_)));
        let mut asked: Vec<LabelValue> = values.cloned().collect();
        asked.sort_unstable();
        asked.dedup();
        Some(Self {
            // The same rules have the same text.
            id: id_of(format!("{rules:?}").as_bytes()),
            has_expressions: asked
                .iter()
                .any(|value| matches!(value, LabelValue::Expression(_))),
            needs_response: asked.iter().any(|value| match value {
                LabelValue::Expression(expression) => log::needs_response(expression),
                _ => false,
            }),
            asked,
            rules: rules.clone(),
        })
    }

    /// What they make of a request, of which `value` tells all.
    pub(crate) fn seen<'a>(
        &'a self,
        value: impl Fn(&LabelValue) -> Option<Cow<'a, str>>,
    ) -> Custom<'a> {
        let mut too_long = 0;
        let values: Vec<_> = self
            .asked
            .iter()
            .map(|asked| {
                let value = value(asked).unwrap_or(Cow::Borrowed(UNKNOWN));
                too_long += usize::from(value.len() > MOST);
                cut(value)
            })
            .collect();
        Custom {
            of: self,
            values,
            cut: too_long,
        }
    }
}

/// As much of a value as becomes a label's: clients say what it is.
fn cut(value: Cow<'_, str>) -> Cow<'_, str> {
    if value.len() <= MOST {
        return value;
    }
    let end = value.floor_char_boundary(MOST);
    match value {
        Cow::Borrowed(value) => Cow::Borrowed(&value[..end]),
        Cow::Owned(mut value) => {
            value.truncate(end);
            Cow::Owned(value)
        }
    }
}

/// The rules, and what they ask about a request.
#[derive(Debug)]
pub(crate) struct Custom<'a> {
    of: &'a RulesView,
    values: Vec<Cow<'a, str>>,
    /// How many of them were too long.
    cut: usize,
}

impl Custom<'_> {
    /// Stands for both.
    pub(super) fn id(&self) -> u64 {
        if self.values.is_empty() {
            return self.of.id;
        }
        let mut text = self.of.id.to_ne_bytes().to_vec();
        for value in &self.values {
            text.extend_from_slice(&value.len().to_ne_bytes());
            text.extend_from_slice(value.as_bytes());
        }
        id_of(&text)
    }

    pub(super) fn cut(&self) -> usize {
        self.cut
    }

    pub(super) fn rule(&self, metric: Metric) -> &MetricRule {
        self.of.rules.of(metric)
    }

    pub(super) fn value<'t>(&'t self, value: &'t LabelValue) -> &'t str {
        if let LabelValue::Text(text) = value {
            return text;
        }
        let at = self.of.asked.iter().position(|asked| asked == value);
        at.map_or(UNKNOWN, |at| &self.values[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_are_known() {
        let text = |text: &str| Ok(LabelValue::Text(text.to_owned()));
        let header = Ok(LabelValue::Header("x-team".to_owned()));
        let cases = [
            ("\"v1\"", text("v1")),
            (" 'v1' ", text("v1")),
            ("''", text("")),
            ("request.method", Ok(LabelValue::Method)),
            ("string(destination.port)", Ok(LabelValue::Port)),
            ("response.code", Ok(LabelValue::Status)),
            ("request.headers['X-Team']", header.clone()),
            ("request.headers[ \"x-team\" ]", header),
        ];
        for (expression, expected) in cases {
            assert_eq!(LabelValue::parse(expression), expected, "{expression}");
        }
        for expression in [
            "'a\\'b'",
            "'a' + request.method",
            "has(request.useragent) ? 'x' : 'y'",
            "response.code >= 500",
        ] {
            let parsed = Expression::parse(expression).expect(expression);
            assert_eq!(
                LabelValue::parse(expression),
                Ok(LabelValue::Expression(parsed))
            );
        }
        for expression in ["", "x", "'a", "request.headers[x]", "upstream_peer.app"] {
            let refused = LabelValue::parse(expression).expect_err(expression);
            assert!(
                refused.starts_with(&format!("`{expression}`: ")),
                "{refused}"
            );
        }
    }
}
