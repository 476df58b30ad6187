//! The annotation `proxy.istio.io/config` of pods: what holds for their proxies in place of what holds for all.

use std::collections::BTreeMap;

use periplus_resources::{MeshConfig, Meta, Pod, ProxyTracing, parse_proxy_config};

use super::{Entry, Index, Problem, code};
use crate::proxy::Proxy;

/// The annotation.
pub(super) const PROXY_CONFIG: &str = "proxy.istio.io/config";

/// By namespace and name of the pod.
#[derive(Debug, Default)]
pub(super) struct PodConfigs(BTreeMap<(String, String), PodConfig>);

#[derive(Debug)]
struct PodConfig {
    meta: Meta,
    tracing: ProxyTracing,
}

impl PodConfigs {
    /// What pods say; of a text that is wrong nothing is taken.
    pub(super) fn of(pods: &[Entry<Pod>], mesh: &MeshConfig, problems: &mut Vec<Problem>) -> Self {
        let mut configs = BTreeMap::new();
        for Entry { meta, .. } in pods {
            let Some(text) = meta.annotations.get(PROXY_CONFIG) else {
                continue;
            };
            let source = &meta.source;
            let config = match parse_proxy_config(text, &mesh.tracing) {
                Ok(config) => config,
                Err(wrong) => {
                    problems.extend(wrong.into_iter().map(|one| {
                        // Its own first line counts as 1.
                        let place = match one.field.is_empty() {
                            true => format!("line {}", one.position.line),
                            false => format!("line {}, {}", one.position.line, one.field),
                        };
                        let message = format!(
                            "{meta}: the annotation `{PROXY_CONFIG}` holds nothing: {place}: {}",
                            one.message
                        );
                        Problem::error(source, source.position, message).code(code::SCHEMA)
                    }));
                    continue;
                }
            };
            problems.extend(config.ignored.iter().map(|one| {
                let message = format!(
                    "{meta}: `{}` of the annotation `{PROXY_CONFIG}` has no effect: {}",
                    one.field, one.reason
                );
                Problem::warning(source, source.position, message).code(code::WITHOUT_EFFECT)
            }));
            let name = (meta.namespace.clone(), meta.name.clone());
            let (meta, tracing) = (meta.clone(), config.tracing);
            configs.insert(name, PodConfig { meta, tracing });
        }
        Self(configs)
    }

    /// The namespaces of those that are not the same in both.
    pub(super) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let is_other = |(name, one): (&'a (String, String), &PodConfig), all: &Self| {
            let same = all.0.get(name).is_some_and(|it| it.tracing == one.tracing);
            (!same).then_some(name.0.as_str())
        };
        let gone = self.0.iter().filter_map(move |one| is_other(one, other));
        gone.chain(other.0.iter().filter_map(move |one| is_other(one, self)))
    }

    fn get(&self, proxy: &Proxy) -> Option<&PodConfig> {
        if self.0.is_empty() {
            return None;
        }
        let name = (proxy.namespace.clone(), proxy.instance().to_owned());
        self.0.get(&name)
    }
}

impl Index {
    /// How a proxy traces where no Telemetry says it, and its pod if that says so.
    pub(crate) fn proxy_tracing(&self, proxy: &Proxy) -> (&ProxyTracing, Option<&Meta>) {
        match self.pod_configs.get(proxy) {
            Some(config) => (&config.tracing, Some(&config.meta)),
            None => (&self.mesh().tracing, None),
        }
    }

    /// The annotation of a proxy's pod, which others with the same text have in common with it.
    pub(crate) fn pod_config(&self, proxy: &Proxy) -> Option<&str> {
        let config = self.pod_configs.get(proxy)?;
        let text = config.meta.annotations.get(PROXY_CONFIG)?;
        Some(text)
    }
}
