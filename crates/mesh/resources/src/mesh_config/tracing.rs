use std::collections::BTreeMap;

use crate::view::{Object, Shape, View};

/// `defaultConfig.tracing`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyTracing {
    /// How many requests are traced, in percent; unlike Istio, all when it is not said.
    pub sampling: f64,
    /// Tags for all spans, by name.
    pub custom_tags: BTreeMap<String, TagSource>,
    /// How much of a path stands in a span's tags, in bytes.
    pub max_path_tag_length: u32,
    /// Whether spans get the tags `istio.…` of their proxy.
    pub enable_istio_tags: bool,
}

/// Where the value of a custom tag comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// A fixed text.
    Literal(String),
    /// An environment variable of the proxy.
    Environment {
        /// Its name.
        name: String,
        /// The value when it is not set; empty is no tag.
        default: String,
    },
    /// A request header.
    Header {
        /// Its name.
        name: String,
        /// The value when it is absent; empty is no tag.
        default: String,
    },
    /// A text with the operators of access logs; empty is no tag.
    Formatter(String),
}

const PROXY_TRACING: Shape = Shape {
    known: &[
        "sampling",
        "customTags",
        "maxPathTagLength",
        "enableIstioTags",
    ],
    refused: &[
        (
            "zipkin",
            "define an `extensionProviders` entry and name it in `defaultProviders.tracing`",
        ),
        ("openCensusAgent", "use an `opentelemetry` provider"),
        ("lightstep", "use an `opentelemetry` provider"),
        ("datadog", "use an `opentelemetry` provider"),
        ("stackdriver", "use an `opentelemetry` provider"),
        ("tlsSettings", "spans are reported in plain text"),
    ],
};

impl ProxyTracing {
    /// What `tracing` of a ProxyConfig says over this; where it says nothing, this stays.
    pub(super) fn read(mut self, object: &Object<'_>) -> Option<Self> {
        let Some(view) = object.get("tracing") else {
            return Some(self);
        };
        let object = view.object(&PROXY_TRACING)?;
        if let Some(sampling) = object.get("sampling") {
            self.sampling = sampling.percent()?;
        }
        if let Some(length) = object.get("maxPathTagLength").and_then(View::u32) {
            self.max_path_tag_length = length;
        }
        if let Some(enabled) = object.get("enableIstioTags").and_then(View::bool) {
            self.enable_istio_tags = enabled;
        }
        if let Some(tags) = object.get("customTags") {
            self.custom_tags = read_custom_tags(tags)?;
        }
        Some(self)
    }
}

impl Default for ProxyTracing {
    fn default() -> Self {
        Self {
            sampling: 100.0,
            custom_tags: BTreeMap::new(),
            max_path_tag_length: 256,
            enable_istio_tags: true,
        }
    }
}

pub(crate) fn read_custom_tags(view: &View<'_>) -> Option<BTreeMap<String, TagSource>> {
    let mut tags = BTreeMap::new();
    for (key, view) in view.entries() {
        if key.text.is_empty() {
            view.fail("the tag's name is empty");
        }
        tags.insert(key.text.clone(), TagSource::read(&view)?);
    }
    Some(tags)
}

impl TagSource {
    fn read(view: &View<'_>) -> Option<Self> {
        const TAG: Shape = Shape {
            known: &["literal", "environment", "header", "formatter"],
            refused: &[],
        };
        const LITERAL: Shape = Shape {
            known: &["value"],
            refused: &[],
        };
        const NAMED: Shape = Shape {
            known: &["name", "defaultValue"],
            refused: &[],
        };
        let object = view.object(&TAG)?;
        let named = |name, read: fn(&View<'_>) -> Option<String>| {
            let object = object.get(name)?.object(&NAMED)?;
            let default = object
                .optional("defaultValue", View::text)?
                .unwrap_or_default();
            Some((read(object.require("name")?)?, default))
        };
        match object.present(TAG.known).as_slice() {
            ["literal"] => {
                let literal = object.get("literal")?.object(&LITERAL)?;
                Some(Self::Literal(literal.require("value")?.some_text()?))
            }
            ["formatter"] => {
                let formatter = object.get("formatter")?.object(&LITERAL)?;
                Some(Self::Formatter(formatter.require("value")?.some_text()?))
            }
            ["environment"] => {
                let (name, default) = named("environment", |name| name.some_ascii())?;
                Some(Self::Environment { name, default })
            }
            ["header"] => {
                let (name, default) = named("header", |name| name.header_name())?;
                Some(Self::Header { name, default })
            }
            _ => {
                object
                    .fail("give the tag one of `literal`, `environment`, `header` and `formatter`");
                None
            }
        }
    }
}
