//! `ProxyConfig`: what holds for the proxies of the mesh, or, as an annotation of a pod, for one of them.

use super::ProxyTracing;
use super::idle;
use crate::target::read_match_labels;
use crate::view::{Ignored, Shape, View};

/// `defaultConfig` of the mesh configuration, or what the annotation `proxy.istio.io/config` makes of it for one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// How proxies trace.
    pub tracing: ProxyTracing,
    /// What is written and changes nothing.
    pub ignored: Vec<Ignored>,
}

const PROXY_CONFIG: Shape = Shape {
    known: &["tracing"],
    refused: &[
        (
            "caCertificatesPem",
            "write all roots of the mesh to root-cert.pem of the certificate authority",
        ),
        (
            "connectionSettings",
            "give the limits of connections in DestinationRules, and those of a proxy by its flags",
        ),
        (
            "gatewayTopology",
            "the address of a client is that of its connection: what it says of others is not believed",
        ),
        ("privateKeyProvider", "keys are used in the proxy's memory"),
        (
            "proxyHeaders",
            "headers are taken out by `headers` of a VirtualService",
        ),
        (
            "zipkinAddress",
            "define an `extensionProviders` entry and name it in `defaultProviders.tracing`",
        ),
    ],
};

impl ProxyConfig {
    /// What is said over what holds for all.
    pub(crate) fn read(view: &View<'_>, of_all: ProxyTracing) -> Option<Self> {
        let (object, ignored) = view.object_besides(&PROXY_CONFIG, idle::OF_PROXIES)?;
        let tracing = of_all.read(&object)?;
        Some(Self { tracing, ignored })
    }
}

/// Reads a resource of this name, of which nothing holds for proxies that run: it is for those who start them.
pub(crate) fn read_resource(view: &View<'_>) -> Option<Vec<Ignored>> {
    const RESOURCE: Shape = Shape {
        known: &["selector", "concurrency", "environmentVariables", "image"],
        refused: &[],
    };
    const IMAGE: Shape = Shape {
        known: &["imageType"],
        refused: &[],
    };
    let object = view.object(&RESOURCE)?;
    read_match_labels(&object)?;
    let mut ignored = Vec::new();
    if let Some(concurrency) = object.get("concurrency") {
        concurrency.number(0, i64::from(i32::MAX))?;
        ignored.push(concurrency.ignored(idle::WORKERS));
    }
    if let Some(variables) = object.get("environmentVariables") {
        variables.text_map();
        ignored.push(variables.ignored("the environment of a proxy is that of its process"));
    }
    if let Some(image) = object.get("image") {
        image.object(&IMAGE)?.optional("imageType", View::text)?;
        ignored.push(image.ignored(idle::IMAGE));
    }
    Some(ignored)
}
