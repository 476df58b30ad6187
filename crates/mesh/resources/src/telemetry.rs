use std::collections::BTreeMap;

use periplus_cel::Expression;

use crate::diagnostic::At;
use crate::mesh_config::{TagSource, read_custom_tags};
use crate::meta::{Labels, Meta};
use crate::target::{Target, read_target};
use crate::view::{Shape, View};

mod metrics;
mod sampling;

pub use self::sampling::{SAMPLING, SamplingOf, SamplingRule};

/// What is told of the requests of the workloads with some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The workloads' labels; none is all of the namespace, and of the mesh in its root namespace.
    pub selector: Labels,
    /// The Gateways whose workloads it is for, in place of labels.
    pub targets: Vec<Target>,
    /// How requests are traced, each rule over those before.
    pub tracing: Vec<TracingRule>,
    /// How many of them are, by port and by route: the annotation [`SAMPLING`].
    pub sampling: Vec<SamplingRule>,
    /// What is logged of them.
    pub access_logging: Vec<LoggingRule>,
    /// What is wanted of metrics, each rule over those before.
    pub metrics: Vec<MetricRule>,
}

/// `match.mode`: which side of requests a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TelemetryMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Those that a workload or a gateway sends.
    Client,
    /// Those that a workload gets.
    Server,
}

/// `tracing[]`; what it does not say stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingRule {
    /// Which side it is about.
    pub mode: TelemetryMode,
    /// Where spans go: the name of an extension provider, and where it is written.
    pub provider: Option<(String, At)>,
    /// `randomSamplingPercentage`, in millionths.
    pub sampling_millionths: Option<u32>,
    /// `disableSpanReporting`.
    pub is_disabled: Option<bool>,
    /// Tags for all spans, by name.
    pub custom_tags: Option<BTreeMap<String, TagSource>>,
    /// `enableIstioTags`.
    pub has_istio_tags: Option<bool>,
}

/// `accessLogging[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingRule {
    /// Which side it is about.
    pub mode: TelemetryMode,
    /// Where lines go: names of extension providers, and where they are written; none is those of before.
    pub providers: Vec<(String, At)>,
    /// Whether nothing is logged there.
    pub is_disabled: bool,
    /// What is logged only.
    pub filter: Option<LogFilter>,
}

/// `metrics[].overrides[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricRule {
    /// Which side it is about.
    pub mode: TelemetryMode,
    /// Which metrics it is about, by their names in Prometheus without `istio_`.
    pub metrics: Vec<&'static str>,
    /// `disabled`
    pub is_disabled: Option<bool>,
    /// By label: the expression of its value, or none if it is left out.
    pub tags: BTreeMap<String, Option<String>>,
}

/// `filter.expression`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFilter {
    /// A comparison with the response's status, which every Envoy knows.
    Status(StatusFilter),
    /// Anything else.
    Expression(Expression),
}

/// `filter.expression` that compares the response's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// It is at least this one.
    AtLeast(u32),
    /// It is this one.
    Is(u32),
}

const TELEMETRY: Shape = Shape {
    known: &[
        "selector",
        "targetRef",
        "targetRefs",
        "tracing",
        "accessLogging",
        "metrics",
    ],
    refused: &[],
};
const MATCH: Shape = Shape {
    known: &["mode"],
    refused: &[],
};
const PROVIDER: Shape = Shape {
    known: &["name"],
    refused: &[],
};
const TRACING: Shape = Shape {
    known: &[
        "match",
        "providers",
        "randomSamplingPercentage",
        "disableSpanReporting",
        "customTags",
        "enableIstioTags",
    ],
    refused: &[
        (
            "useRequestIdForTraceSampling",
            "the request id always carries the decision",
        ),
        (
            "disableContextPropagation",
            "the context always goes with a traced request",
        ),
    ],
};
const LOGGING: Shape = Shape {
    known: &["match", "providers", "disabled", "filter"],
    refused: &[],
};
const FILTER: Shape = Shape {
    known: &["expression"],
    refused: &[],
};
const METRICS: Shape = Shape {
    known: &["providers", "overrides"],
    refused: &[("reportingInterval", "bytes of TCP are counted as they pass")],
};

impl Telemetry {
    /// Whether it is for all workloads of its namespace.
    pub fn is_for_all(&self) -> bool {
        self.selector.is_empty() && self.targets.is_empty()
    }

    pub(crate) fn read(view: &View<'_>, meta: &Meta) -> Option<Self> {
        let object = view.object(&TELEMETRY)?;
        let (selector, targets) = read_target(&object, &meta.namespace)?;
        let mut metrics = Vec::new();
        for view in object.items("metrics") {
            metrics.extend(MetricRule::read_all(&view)?);
        }
        let tracing = object.items("tracing");
        let access_logging = object.items("accessLogging");
        Some(Self {
            selector,
            targets,
            sampling: SamplingRule::read_all(view, meta)?,
            metrics,
            tracing: tracing
                .iter()
                .map(TracingRule::read)
                .collect::<Option<_>>()?,
            access_logging: access_logging
                .iter()
                .map(LoggingRule::read)
                .collect::<Option<_>>()?,
        })
    }
}

impl TracingRule {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&TRACING)?;
        let providers = object.items("providers");
        if let Some(second) = providers.get(1) {
            second.fail("spans go to one provider only, remove this one");
        }
        Some(Self {
            mode: object.optional("match", read_mode)?.unwrap_or_default(),
            provider: match providers.first() {
                Some(first) => Some(read_provider(first)?),
                None => None,
            },
            sampling_millionths: object
                .optional("randomSamplingPercentage", View::percent)?
                .map(|percent| (percent * 10_000.0).round() as u32),
            is_disabled: object.optional("disableSpanReporting", View::bool)?,
            custom_tags: object.optional("customTags", read_custom_tags)?,
            has_istio_tags: object.optional("enableIstioTags", View::bool)?,
        })
    }
}

impl LoggingRule {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&LOGGING)?;
        let providers = object.items("providers");
        let is_disabled = object.optional("disabled", View::bool)?;
        Some(Self {
            mode: object.optional("match", read_mode)?.unwrap_or_default(),
            providers: providers.iter().map(read_provider).collect::<Option<_>>()?,
            is_disabled: is_disabled.unwrap_or(false),
            filter: object.optional("filter", |view| {
                let filter = view.object(&FILTER)?;
                LogFilter::read(filter.require("expression")?)
            })?,
        })
    }
}

const MODES: [(&str, TelemetryMode); 3] = [
    ("CLIENT_AND_SERVER", TelemetryMode::ClientAndServer),
    ("CLIENT", TelemetryMode::Client),
    ("SERVER", TelemetryMode::Server),
];

fn read_mode(view: &View<'_>) -> Option<TelemetryMode> {
    let object = view.object(&MATCH)?;
    let mode = object.optional("mode", |mode| mode.choice(&MODES))?;
    Some(mode.unwrap_or_default())
}

fn read_provider(view: &View<'_>) -> Option<(String, At)> {
    let name = view.object(&PROVIDER)?.require("name")?.some_text()?;
    Some((name, At(view.at())))
}

impl LogFilter {
    fn read(view: &View<'_>) -> Option<Self> {
        let text = view.some_text()?;
        if let Some(status) = StatusFilter::parse(&text) {
            return Some(Self::Status(status));
        }
        match Expression::condition(&text) {
            Ok(expression) => Some(Self::Expression(expression)),
            Err(refused) => {
                view.fail(format!("`{text}`: {refused}"));
                None
            }
        }
    }
}

impl StatusFilter {
    /// `response.code >= 400` and the like: what Envoy's filters can do without an interpreter of expressions. To those a
    /// request without an answer has the status 0, and to an expression none, which it is not logged for: so what is true
    /// of 0 is left to an expression.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("response.code")?.trim_start();
        // The longer ones first: `>=` begins with `>`.
        let operators = ["==", "!=", ">=", "<=", ">", "<"];
        let operator = operators.into_iter().find(|it| rest.starts_with(it))?;
        let number = rest[operator.len()..].trim().parse().ok()?;
        match operator {
            "==" if number > 0 => Some(Self::Is(number)),
            ">=" if number > 0 => Some(Self::AtLeast(number)),
            ">" => Some(Self::AtLeast(number.checked_add(1)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_compare_the_status() {
        for (text, expected) in [
            ("response.code >= 400", Some(StatusFilter::AtLeast(400))),
            ("response.code>399", Some(StatusFilter::AtLeast(400))),
            (" response.code > 0 ", Some(StatusFilter::AtLeast(1))),
            // What is true of no status at all.
            ("response.code < 500", None),
            ("response.code <= 499", None),
            ("response.code == 0", None),
            ("response.code >= 0", None),
            ("response.code == 503", Some(StatusFilter::Is(503))),
            ("response.code != 200", None),
            ("response.code", None),
            ("response.code < 0", None),
            ("response.code >= 400 || true", None),
            ("request.path == '/'", None),
        ] {
            assert_eq!(StatusFilter::parse(text), expected, "{text}");
        }
    }
}
