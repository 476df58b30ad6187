//! Why there are no traces, or broken ones: what Istio passes over in silence.

use std::collections::BTreeMap;

use periplus_resources::{
    ExtensionProvider, ProviderKind, SamplingOf, Source, TraceContext, did_you_mean,
};

use super::super::code;
use super::super::{Index, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    let mut used: BTreeMap<&str, &ExtensionProvider> = BTreeMap::new();
    used.extend(mesh.tracing_provider().map(|one| (one.name.as_str(), one)));
    for entry in &index.telemetries {
        let source = &entry.meta.source;
        let meta = &entry.meta;
        let routes = entry
            .spec
            .sampling
            .iter()
            .filter_map(|rule| match &rule.of {
                SamplingOf::Route(name) => Some(name),
                SamplingOf::Inbound(_) | SamplingOf::Outbound(_) => None,
            });
        for name in routes.filter(|name| !index.has_rule(name)) {
            let hint = did_you_mean(name, index.rule_names());
            let message = format!(
                "{meta} samples route `{name}`, and no rule of a VirtualService or HTTPRoute has this name{hint}"
            );
            let problem = Problem::warning(source, source.position, message);
            problems.push(problem.code(code::SAMPLED_ROUTE_UNKNOWN));
        }
        for rule in &entry.spec.tracing {
            let is_on = rule.is_disabled != Some(true);
            if let Some((name, _)) = rule.provider.as_ref().filter(|_| is_on) {
                used.extend(mesh.provider(name).map(|one| (one.name.as_str(), one)));
            }
            if is_on && rule.provider.is_none() && mesh.tracing_provider().is_none() {
                let has_one = index.telemetries.iter().any(|other| {
                    let mut rules = other.spec.tracing.iter();
                    other.spec.is_for_all() && rules.any(|rule| rule.provider.is_some())
                });
                if !has_one {
                    let message = format!(
                        "{meta} asks for tracing, and neither it nor the mesh says where spans go: name one of \
                         `extensionProviders` in `providers`, or in `defaultProviders.tracing` of the mesh \
                         configuration"
                    );
                    let problem = Problem::warning(source, source.position, message);
                    problems.push(problem.code(code::TRACING_WITHOUT_PROVIDER));
                }
            }
            if is_on && rule.sampling_millionths == Some(0) {
                let message = format!(
                    "{meta} samples 0 % of the requests: only those that their callers have sampled are traced"
                );
                let problem = Problem::info(source, source.position, message);
                problems.push(problem.code(code::SAMPLING_OFF));
            }
        }
    }
    check_contexts(index, &used, problems);
}

/// Proxies that report to a Zipkin pass B3 on, those with OpenTelemetry W3C's: neither goes on with the other's traces.
fn check_contexts(
    index: &Index,
    used: &BTreeMap<&str, &ExtensionProvider>,
    problems: &mut Vec<Problem>,
) {
    let b3 = used.values().find(|provider| {
        matches!(
            provider.kind,
            ProviderKind::Zipkin {
                context: TraceContext::B3,
                ..
            }
        )
    });
    let w3c = used
        .values()
        .find(|provider| matches!(provider.kind, ProviderKind::OpenTelemetry { .. }));
    let (Some(b3), Some(w3c)) = (b3, w3c) else {
        return;
    };
    let source = Source {
        file: index.mesh().file.clone(),
        position: b3.at.0,
    };
    let message = format!(
        "proxies that report to `{}` pass on B3 headers, those that report to `{}` W3C's: a trace breaks between \
         them; set `traceContextOption: USE_B3_WITH_W3C_PROPAGATION` of `{}`, or use one provider",
        b3.name, w3c.name, b3.name
    );
    let problem = Problem::warning(&source, source.position, message);
    problems.push(problem.code(code::MIXED_CONTEXTS));
}
