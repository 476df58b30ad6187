//! Names that say less than they should: of ports, and of annotations.

use std::collections::{BTreeMap, BTreeSet};

use periplus_resources::{ClientTls, Kind, Meta, Protocol, Resolution, did_you_mean, is_token};

use super::super::code;
use super::super::pod_config::PROXY_CONFIG;
use super::super::service::{PREFERENCES, SESSION_LABELS, TRAFFIC_DISTRIBUTION};
use super::super::{Index, Problem, Service};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let mut bound = BTreeSet::new();
    for entry in index.sidecars() {
        let ports = entry
            .spec
            .egress
            .iter()
            .filter_map(|egress| egress.port.as_ref());
        bound.extend(ports.map(|port| port.number));
    }
    for service in index.services() {
        check_ports(service, &bound, problems);
        check_session(service, problems);
        check_preference(service, problems);
        check_allotted(service, problems);
    }
    for entry in index.destination_rules() {
        let subsets = entry.spec.subsets.iter().map(|subset| &subset.policy);
        let mut policies = std::iter::once(&entry.spec.policy).chain(subsets.clone());
        let believes =
            |tls: &ClientTls| matches!(tls, ClientTls::Files(files) if files.believes_all);
        if policies.any(|policy| policy.tls.as_ref().is_some_and(believes)) {
            let message = format!(
                "{} believes any server (`insecureSkipVerify`): name authorities in `caCertificates`",
                entry.meta
            );
            let source = &entry.meta.source;
            let problem = Problem::warning(source, source.position, message);
            problems.push(problem.code(code::UNVERIFIED_DESTINATION));
        }
        for policy in subsets.chain([&entry.spec.policy]) {
            let ports = policy.ports.iter();
            let believing = ports.filter(|(_, port)| port.tls.as_ref().is_some_and(believes));
            for (port, _) in believing {
                let message = format!(
                    "{} believes any server at port {port} (`insecureSkipVerify`): name authorities in \
                     `caCertificates`",
                    entry.meta
                );
                let source = &entry.meta.source;
                let problem = Problem::warning(source, source.position, message);
                problems.push(problem.code(code::UNVERIFIED_PORT));
            }
        }
    }
}

/// Labels that ask for sessions, and name nothing that can tell one.
fn check_session(service: &Service, problems: &mut Vec<Problem>) {
    let meta = &service.meta;
    for label in SESSION_LABELS {
        let Some(value) = meta.labels.get(label) else {
            continue;
        };
        let name = value.split(':').next().unwrap_or_default();
        if !is_token(name) {
            let source = &meta.source;
            let message = format!(
                "{meta}: `{value}` of the label {label} is no name of a cookie or a header: its clients do not stay \
                 with an endpoint"
            );
            let problem = Problem::error(source, source.position, message);
            problems.push(problem.code(code::SCHEMA));
        }
    }
}

/// A preference that nobody knows.
fn check_preference(service: &Service, problems: &mut Vec<Problem>) {
    let meta = &service.meta;
    let said = meta.annotations.get(TRAFFIC_DISTRIBUTION);
    if let Some(said) = said.filter(|said| !PREFERENCES.contains(&said.as_str())) {
        let hint = did_you_mean(said, PREFERENCES);
        let message =
            format!("{meta} prefers no endpoints: `{said}` is no `trafficDistribution`{hint}");
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

fn check_ports(service: &Service, bound: &BTreeSet<u16>, problems: &mut Vec<Problem>) {
    let meta = &service.meta;
    let source = &meta.source;
    for port in service.ports() {
        let named = || match port.name == port.number.to_string() {
            true => "has no name".to_owned(),
            false => format!("is named `{}`", port.name),
        };
        if meta.kind == Kind::Service && port.protocol == Protocol::Detected {
            let advice = "write it in front of the name, as in `http-web`, or as `appProtocol`";
            let problem = match service.spec.alias.is_some() {
                true => Problem::warning(
                    source,
                    source.position,
                    format!(
                        "port {} of {meta}, which stands for a name outside, {}, which does not say what is \
                         spoken: {advice}",
                        port.number,
                        named()
                    ),
                )
                .code(code::EXTERNAL_PORT_NAME),
                false => Problem::info(
                    source,
                    source.position,
                    format!(
                        "port {} of {meta} {}: what is spoken is found out from the first bytes; {advice}",
                        port.number,
                        named()
                    ),
                )
                .code(code::PORT_NAME),
            };
            problems.push(problem);
        }
        let has_addresses = !service.spec.addresses.is_empty() || !service.spec.subnets.is_empty();
        let is_told_apart = has_addresses || bound.contains(&port.number);
        if meta.kind == Kind::ServiceEntry
            && port.protocol == Protocol::Tcp
            && service.spec.resolution != Resolution::OfClient
            && !is_told_apart
        {
            let message = format!(
                "port {} of {meta} is TCP, and without `addresses` any connection to this port, of whatever \
                 service, is taken for one to it",
                port.number
            );
            let problem = Problem::warning(source, source.position, message);
            problems.push(problem.code(code::ADDRESSES_REQUIRED));
        }
    }
}

/// Annotations under Istio's names that Istio does not have, or that it has for other kinds.
pub(crate) fn check_annotations(meta: &Meta, problems: &mut Vec<Problem>) {
    for name in meta.annotations.keys() {
        let Some((domain, _)) = name.split_once('/') else {
            continue;
        };
        if name == PROXY_CONFIG && meta.kind != Kind::Pod {
            let message = format!(
                "{meta}: the annotation `{PROXY_CONFIG}` has no effect: it is for Pods, whose names those of their \
                 proxies are"
            );
            let problem = Problem::warning(&meta.source, meta.source.position, message);
            problems.push(problem.code(code::WITHOUT_EFFECT));
        }
        let is_istios = domain == "istio.io" || domain.ends_with(".istio.io");
        if !is_istios || ANNOTATIONS.contains(&name.as_str()) {
            continue;
        }
        let hint = did_you_mean(name, ANNOTATIONS.iter().copied());
        let message = format!("{meta} has the annotation `{name}`, which nobody knows{hint}");
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::UNKNOWN_ANNOTATION));
    }
}

/// The label that has Istio allot addresses to a service.
const ALLOTS: &str = "networking.istio.io/enable-autoallocate-ip";

/// A service that would like to have an address, which no client could come to know.
fn check_allotted(service: &Service, problems: &mut Vec<Problem>) {
    let meta = &service.meta;
    if meta.labels.get(ALLOTS).is_some_and(|it| it == "true") && service.spec.addresses.is_empty() {
        let message = format!(
            "{meta}: the label `{ALLOTS}` has no effect: proxies answer no questions about names, so that no client \
             learns the address: write `addresses`"
        );
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

/// The label that says in which network workloads are.
const NETWORK: &str = "topology.istio.io/network";

/// Networks besides the first one: between them nobody finds the way.
pub(crate) fn check_networks<'a>(
    metas: impl Iterator<Item = &'a Meta>,
    problems: &mut Vec<Problem>,
) {
    let mut known: BTreeMap<&str, &Meta> = BTreeMap::new();
    let mut first: Option<(&str, &Meta)> = None;
    for meta in metas {
        if let Some(network) = meta.labels.get(NETWORK) {
            first.get_or_insert((network, meta));
            known.entry(network).or_insert(meta);
        }
    }
    for (network, meta) in known {
        let Some((first, of)) = first.filter(|(first, _)| *first != network) else {
            continue;
        };
        let message = format!(
            "{meta}: the label `{NETWORK}: {network}` has no effect: there is one network only, and {of} is in `{first}`; \
             clients reach all endpoints at their own addresses"
        );
        let problem = Problem::warning(&meta.source, meta.source.position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

/// Istio's annotations; those that the mesh does not heed are no mistakes.
const ANNOTATIONS: &[&str] = &[
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/redirection",
    "galley.istio.io/analyze-suppress",
    "inject.istio.io/templates",
    "istio.io/dry-run",
    "istio.io/reroute-virtual-interfaces",
    "istio.io/rev",
    "istio.io/use-waypoint-canary-weight",
    "networking.istio.io/exportTo",
    "networking.istio.io/service-type",
    "networking.istio.io/traffic-distribution",
    "prometheus.istio.io/merge-metrics",
    "proxy.istio.io/config",
    "proxy.istio.io/overrides",
    "readiness.status.sidecar.istio.io/applicationPorts",
    "readiness.status.sidecar.istio.io/failureThreshold",
    "readiness.status.sidecar.istio.io/initialDelaySeconds",
    "readiness.status.sidecar.istio.io/periodSeconds",
    "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/bootstrapOverride",
    "sidecar.istio.io/componentLogLevel",
    "sidecar.istio.io/discoveryAddress",
    "sidecar.istio.io/extraStatTags",
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/nativeSidecar",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyImage",
    "sidecar.istio.io/proxyImageType",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyMemoryLimit",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/statsCompression",
    "sidecar.istio.io/statsEvictionInterval",
    "sidecar.istio.io/statsFlushInterval",
    "sidecar.istio.io/statsHistogramBins",
    "sidecar.istio.io/statsHistogramBuckets",
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionRegexps",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/status",
    "sidecar.istio.io/userVolume",
    "sidecar.istio.io/userVolumeMount",
    "status.sidecar.istio.io/port",
    "topology.istio.io/controlPlaneClusters",
    "traffic.istio.io/nodeSelector",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
];
