//! What is written and changes nothing is told, with a reason; and what pods and their namespaces say of proxies and
//! endpoints is heeded.

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_control::{Generated, Index};
use periplus_resources::parse_resources;

use crate::generate::{index_of, made, mesh_config, problems};
use crate::support::{MESH_CONFIG, node, set};
use crate::telemetry::manager;

/// A resource, what is said of it, and how loudly.
const SAID: [(&str, &str, &str); 14] = [
    (
        "{kind: Service, metadata: {name: a, labels: {topology.istio.io/network: n2}}, spec: {ports: [{port: 80}]}}",
        "the label `topology.istio.io/network: n2` has no effect: there is one network only, and Namespace default/n is in `n1`",
        "warning",
    ),
    (
        "{kind: Service, metadata: {name: a}, spec: {sessionAffinity: ClientIP, ports: [{port: 80}]}}",
        "`spec.sessionAffinity` has no effect: as in Istio, clients do not stay",
        "warning",
    ),
    (
        "{kind: Service, metadata: {name: a}, spec: {trafficDistribution: PreferClosest, ports: [{port: 80}]}}",
        "`PreferClosest` is no `trafficDistribution`, did you mean `PreferClose`?",
        "warning",
    ),
    (
        "{kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, \
          endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: z}]}}]}",
        "`endpoints[0].hints` has no effect: as in Istio, who is near",
        "info",
    ),
    (
        "{kind: EndpointSlice, metadata: {name: a}, addressType: FQDN, endpoints: [{addresses: [a.example]}]}",
        "`addressType` has no effect: as in Istio, endpoints that are names",
        "info",
    ),
    (
        "{kind: ProxyConfig, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, concurrency: 2}}",
        "`spec.concurrency` has no effect: it is a flag of each proxy (--workers)",
        "warning",
    ),
    (
        "{kind: ProxyConfig, metadata: {name: a}, spec: {environmentVariables: {A: b}, image: {imageType: debug}}}",
        "`spec.environmentVariables` has no effect: the environment of a proxy",
        "warning",
    ),
    (
        "{kind: ServiceEntry, metadata: {name: a, labels: {networking.istio.io/enable-autoallocate-ip: 'true'}}, \
          spec: {hosts: [a.example], ports: [{number: 80, name: http}], resolution: DNS}}",
        "the label `networking.istio.io/enable-autoallocate-ip` has no effect",
        "warning",
    ),
    (
        "{kind: ServiceEntry, metadata: {name: a}, status: {addresses: [{value: 240.240.0.1}]}, \
          spec: {hosts: [a.example], ports: [{number: 80, name: http}], resolution: DNS}}",
        "`status.addresses` has no effect: proxies answer no questions",
        "warning",
    ),
    (
        "{kind: Pod, metadata: {name: a, annotations: {proxy.istio.io/config: 'concurrency: 2'}}, spec: {}}",
        "`concurrency` of the annotation `proxy.istio.io/config` has no effect: it is a flag",
        "warning",
    ),
    (
        "{kind: Pod, metadata: {name: a, annotations: {proxy.istio.io/config: 'tracing: {samplin: 2}'}}, spec: {}}",
        "holds nothing: line 1, tracing.samplin: unknown field `samplin`, did you mean `sampling`?",
        "error",
    ),
    (
        "{kind: Pod, metadata: {name: a, annotations: {proxy.istio.io/config: 'tracing: {zipkin: {address: z:9411}}'}}, \
          spec: {}}",
        "tracing.zipkin: `zipkin` is not supported: define an `extensionProviders` entry",
        "error",
    ),
    (
        "{kind: Pod, metadata: {name: a, annotations: {proxy.istio.io/config: '{'}}, spec: {}}",
        "the annotation `proxy.istio.io/config` holds nothing: line 1",
        "error",
    ),
    (
        "{kind: ServiceAccount, metadata: {name: a, annotations: {proxy.istio.io/config: 'concurrency: 2'}}}",
        "the annotation `proxy.istio.io/config` has no effect: it is for Pods",
        "warning",
    ),
];

const NETWORK: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {topology.istio.io/network: n1}}}\n";

fn version(kind: &str) -> &'static str {
    match kind {
        "EndpointSlice" => "discovery.k8s.io/v1",
        "ProxyConfig" => "networking.istio.io/v1beta1",
        "ServiceEntry" => "networking.istio.io/v1",
        _ => "v1",
    }
}

#[test]
fn what_changes_nothing_is_told() {
    for (resource, said, severity) in SAID {
        let (_, rest) = resource.split_once("kind: ").expect("a kind");
        let (kind, _) = rest.split_once(',').expect("more than that");
        let text = resource.replacen('{', &format!("{{apiVersion: {}, ", version(kind)), 1);
        let text = format!("{NETWORK}---\n{text}\n");
        let parsed = parse_resources("mesh.yaml", &text);
        assert_eq!(parsed.errors, [], "{text}");
        let index = Index::new(&parsed.resources, mesh_config(""));
        let told = problems(&index);
        let mut lines = told.lines();
        let found = lines.find(|line| line.contains(said));
        let found = found.unwrap_or_else(|| panic!("{said} of {text} in {told}"));
        assert!(found.starts_with(severity), "{severity}: {found}");
    }
    // What `kubectl get -o yaml` shows of a pod that is made from a template, and is being deleted.
    let pod = "{apiVersion: v1, kind: Pod, metadata: {generateName: a-, name: a-x, \
               deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 30}, \
               spec: {}, status: {podIP: 10.0.0.1}}";
    assert_eq!(parse_resources("pod.yaml", pod).errors, []);
    let unnamed = pod.replace("name: a-x, ", "");
    let errors = parse_resources("pod.yaml", &unnamed).errors;
    assert!(
        errors[0].message.contains("files need stable names"),
        "{errors:?}"
    );
}

const PLACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: default, annotations: {networking.istio.io/traffic-distribution: PreferSameNode}}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {clusterIP: 10.9.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {clusterIP: 10.9.0.2, internalTrafficPolicy: Local, ports: [{name: http, port: 80}], trafficDistribution: Any}
---
apiVersion: v1
kind: Service
metadata: {name: all}
spec: {clusterIP: 10.9.0.3, publishNotReadyAddresses: true, selector: {app: all}, ports: [{name: http, port: 80, targetPort: web}], trafficDistribution: Any}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: near, labels: {kubernetes.io/service-name: near}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], nodeName: m1}, {addresses: [10.0.0.2], nodeName: m2}]
ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: local, labels: {kubernetes.io/service-name: local}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1], nodeName: m1}, {addresses: [10.0.0.2], nodeName: m2}]
ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: all, labels: {kubernetes.io/service-name: all}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: false}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.3], conditions: {ready: true, terminating: true}}
ports: [{name: http, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all}
spec: {egress: [{port: {number: 9000, name: a, protocol: HTTP_PROXY}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}]}
";

/// `PRIORITY ADDRESS` of all endpoints of a service's cluster.
fn endpoints(made: &Generated, service: &str) -> Vec<String> {
    let name = format!("outbound|80||{service}.default.svc.cluster.local");
    let found = made.endpoints.iter().find(|one| one.cluster_name == name);
    let groups = found.expect(&name).endpoints.iter();
    let all = groups.flat_map(|group| {
        let address = |text: String| {
            let (_, rest) = text.split_once("address: \"")?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let endpoints = group.lb_endpoints.iter();
        endpoints.filter_map(move |one| {
            Some(format!(
                "{} {}",
                group.priority,
                address(format!("{one:?}"))?
            ))
        })
    });
    all.collect()
}

fn client(machine: Option<&str>) -> Node {
    let id = "sidecar~127.0.0.9~client.default~default.svc.cluster.local";
    let mut node = node(id, "client", "default", &[("app", "client")]);
    if let Some(machine) = machine {
        set(&mut node, "NODE_NAME", machine);
    }
    node
}

#[test]
fn services_know_machines_and_the_states_of_endpoints() {
    let index = index_of(&[], PLACE, mesh_config(""));
    for (machine, service, expected) in [
        (Some("m1"), "near", &["0 10.0.0.1", "1 10.0.0.2"][..]),
        (Some("m2"), "near", &["0 10.0.0.2", "1 10.0.0.1"]),
        (Some("m1"), "local", &["0 10.0.0.1"]),
        (Some("m3"), "local", &[]),
        // Nobody knows where it runs.
        (None, "local", &["0 10.0.0.1", "0 10.0.0.2"]),
        (None, "all", &["0 10.0.0.1", "0 10.0.0.3"]),
    ] {
        let made = made(&index, &client(machine));
        assert_eq!(endpoints(&made, service), expected, "{machine:?} {service}");
    }
}

#[test]
fn a_pod_says_how_its_proxy_traces() {
    let pod = |text: &str| {
        format!(
            "{PLACE}---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: client\n  annotations:\n    \
             proxy.istio.io/config: |\n{text}spec: {{containers: []}}\n"
        )
    };
    let sampled = |more: &str| {
        let mesh = format!(
            "{MESH_CONFIG}defaultConfig: {{tracing: {{sampling: 40, maxPathTagLength: 100, customTags: {{a: {{literal: {{value: b}}}}}}}}}}\n"
        );
        let index = index_of(&[], more, mesh_config(&mesh));
        let tracing = manager(&made(&index, &client(None)).listeners[0]).tracing;
        let tracing = tracing.expect("tracing");
        let tags = tracing.custom_tags.iter();
        let own = tags.filter(|tag| !tag.tag.starts_with("istio."));
        (
            tracing.random_sampling.map(|percent| percent.value),
            tracing.max_path_tag_length.map(|length| length.value),
            own.map(|tag| tag.tag.clone()).collect::<Vec<_>>(),
            tracing.custom_tags.len(),
        )
    };
    let named = |name: &str| vec![name.to_owned()];
    assert_eq!(sampled(PLACE), (Some(40.0), Some(100), named("a"), 6));
    let own = pod(
        "      tracing:\n        sampling: 7.5\n        customTags: {c: {header: {name: x-c}}}\n",
    );
    assert_eq!(sampled(&own), (Some(7.5), Some(100), named("c"), 6));
    let own = pod("      tracing: {enableIstioTags: false, maxPathTagLength: 9}\n");
    assert_eq!(sampled(&own), (Some(40.0), Some(9), named("a"), 1));
    // What is wrong holds nothing.
    let own = pod("      tracing: {sampling: 700}\n");
    assert_eq!(sampled(&own), (Some(40.0), Some(100), named("a"), 6));
    // A Telemetry goes before it.
    let telemetry = "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\n\
                     spec: {tracing: [{randomSamplingPercentage: 3}]}\n";
    let own = pod("      tracing: {sampling: 7}\n") + telemetry;
    assert_eq!(sampled(&own), (Some(3.0), Some(100), named("a"), 6));
}
