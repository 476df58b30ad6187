//! The metrics under istiod's names, each after something that it tells of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::faults::{Refuser, connect};
use crate::support::observer::Observer;
use crate::support::plane::Plane;
use crate::support::{MESH_CONFIG, PATIENCE, Plan, gateway, networking, set, sidecar};

/// A service that nobody serves, endpoints and pods that are not ready, a pod without an address, two rules for one
/// host, a subset that is defined twice, a provider of tracing that is not there, and a subset of looked up endpoints that
/// none is in.
const TROUBLES: &str = "
apiVersion: v1
kind: Service
metadata: {name: lonely}
spec:
  clusterIP: 10.9.0.1
  selector: {app: nobody}
  ports: [{name: http, port: 80}, {name: tcp, port: 81}]
---
apiVersion: v1
kind: Pod
metadata: {name: starting}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec: {containers: []}
status: {podIP: 10.9.1.1, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sliced, labels: {kubernetes.io/service-name: sliced}}
addressType: IPv4
endpoints:
- {addresses: [10.9.1.2], conditions: {ready: true}}
- {addresses: [10.9.1.3], conditions: {ready: false}}
ports: [{name: http, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings-a}
spec: {hosts: [ratings], http: [{route: [{destination: {host: ratings}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings-b}
spec: {hosts: [ratings], http: [{route: [{destination: {host: ratings}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews-again}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: lost}
spec: {tracing: [{providers: [{name: lost}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: looked-up}
spec:
  hosts: [looked.up]
  resolution: DNS
  ports: [{number: 80, name: http}]
  endpoints: [{address: one.example.org, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: looked-up}
spec: {host: looked.up, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
";

#[derive(Clone, Copy)]
enum Is {
    Exactly(f64),
    AtLeast(f64),
}
use Is::{AtLeast, Exactly};

/// What each series has to be in the end. What can only be shown by a client that misbehaves on the wire is 0 here, and
/// counted in the tests of the protocol.
const EXPECTED: &[(&str, Is)] = &[
    (
        concat!("pilot_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
        Exactly(1.0),
    ),
    (
        concat!(
            "istio_build{component=\"pilot\",tag=\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        ),
        Exactly(1.0),
    ),
    ("istiod_uptime_seconds", AtLeast(0.0)),
    // Those of Bookinfo, its gateway, its collector, the lonely one, and the one that is looked up.
    ("pilot_services", Exactly(8.0)),
    ("pilot_virt_services", Exactly(3.0)),
    ("pilot_total_rejected_configs", AtLeast(2.0)),
    ("periplus_config_last_good", Exactly(1.0)),
    ("pilot_vservice_dup_domain", Exactly(1.0)),
    ("pilot_destrule_subsets", Exactly(1.0)),
    ("pilot_eds_no_instances", Exactly(2.0)),
    ("pilot_dns_cluster_without_endpoints", Exactly(1.0)),
    ("pilot_endpoint_not_ready", Exactly(2.0)),
    ("pilot_no_ip", Exactly(1.0)),
    ("pilot_inbound_updates{type=\"config\"}", Exactly(1.0)),
    ("pilot_inbound_updates{type=\"endpoint\"}", Exactly(6.0)),
    ("pilot_push_triggers{type=\"config\"}", Exactly(1.0)),
    ("pilot_push_triggers{type=\"endpoint\"}", Exactly(1.0)),
    ("provider_lookup_cluster_failures", AtLeast(3.0)),
    ("pilot_debounce_time_count", AtLeast(2.0)),
    ("pilot_pushcontext_init_seconds_count", AtLeast(3.0)),
    ("pilot_xds{version=\"unknown\"}", Exactly(3.0)),
    ("pilot_total_xds_rejects", AtLeast(2.0)),
    ("pilot_xds_cds_reject", AtLeast(1.0)),
    ("pilot_xds_eds_reject", Exactly(0.0)),
    ("pilot_xds_lds_reject", AtLeast(1.0)),
    ("pilot_xds_rds_reject", Exactly(0.0)),
    ("pilot_xds_sds_reject", Exactly(0.0)),
    ("pilot_xds_expired_nonce", Exactly(0.0)),
    ("pilot_xds_write_timeout", Exactly(0.0)),
    ("periplus_xds_streams_total", Exactly(3.0)),
    ("periplus_xds_streams_refused_total", Exactly(0.0)),
    ("periplus_xds_clusters_let_go_total", Exactly(0.0)),
    // They are counted below.
    ("pilot_conflict_inbound_listener", Exactly(0.0)),
    (
        "pilot_conflict_outbound_listener_tcp_over_current_tcp",
        Exactly(0.0),
    ),
    (
        "pilot_conflict_outbound_listener_tcp_over_current_http",
        Exactly(0.0),
    ),
    ("pilot_sds_certificate_errors_total", Exactly(0.0)),
    ("xds_cache_reads{type=\"hit\"}", Exactly(1.0)),
    ("xds_cache_reads{type=\"miss\"}", Exactly(2.0)),
    ("xds_cache_size", Exactly(2.0)),
    ("pilot_proxy_convergence_time_count", AtLeast(4.0)),
    ("pilot_proxy_convergence_time_sum", AtLeast(0.05)),
    ("pilot_proxy_queue_time_count", AtLeast(6.0)),
    ("pilot_xds_send_time_count", AtLeast(12.0)),
    ("pilot_xds_pushes{type=\"cds\"}", AtLeast(3.0)),
    ("pilot_xds_pushes{type=\"eds\"}", AtLeast(4.0)),
    ("pilot_xds_pushes{type=\"lds\"}", AtLeast(3.0)),
    ("pilot_xds_pushes{type=\"rds\"}", AtLeast(4.0)),
    ("pilot_xds_push_time_count{type=\"cds\"}", AtLeast(3.0)),
    (
        "pilot_xds_config_size_bytes_count{type=\"cds\"}",
        AtLeast(3.0),
    ),
    (
        "pilot_xds_config_size_bytes_sum{type=\"cds\"}",
        AtLeast(3_000.0),
    ),
];

#[tokio::test]
async fn each_metric_tells_what_has_happened() {
    let mut files = Plan::fixed().files();
    let workloads = files[1].1.clone();
    files.push(("subsets.yaml", networking("destination-rule-all.yaml")));
    files.push(("troubles.yaml", TROUBLES.to_owned()));
    let lost = "- name: lost\n  zipkin: {service: lost.default.svc.cluster.local, port: 9411}\n";
    let mesh = MESH_CONFIG.replace("defaultProviders:", &format!("{lost}defaultProviders:"));
    let plane = Plane::start(&files, &mesh).await;

    let first = Observer::connect(&plane, sidecar("productpage", "v1"));
    let is_complete =
        |seen: &crate::support::observer::Seen| seen.routes.contains_key("http_proxy");
    first.wait_for("the first state", is_complete).await;
    let mut twin = sidecar("productpage", "v1");
    set(&mut twin, "WORKLOAD_NAME", "productpage-v1");
    twin.id = twin.id.replace("productpage-v1", "productpage-v1-twin");
    let second = Observer::connect(&plane, twin);
    second.wait_for("the first state", is_complete).await;
    connect(&plane, "refuses", Refuser(Arc::default()));
    until(&plane, &[("pilot_total_xds_rejects", AtLeast(2.0))]).await;

    // A change of a rule, one of endpoints, and one that is wrong.
    let details = networking("virtual-service-details-v2.yaml");
    plane.replace("details.yaml", &details);
    for observer in [&first, &second] {
        observer
            .wait_for("the rule", |seen| {
                format!("{:?}", seen.routes).contains("|v2|details")
            })
            .await;
    }
    plane.replace(
        "workloads.yaml",
        &workloads.replace("address: 127.0.0.1", "address: 127.0.0.2"),
    );
    for observer in [&first, &second] {
        observer
            .wait_for("the endpoints", |seen| {
                format!("{:?}", seen.endpoints).contains("127.0.0.2")
            })
            .await;
    }
    plane.replace("details.yaml", &details.replace("subset", "subsett"));
    until(&plane, EXPECTED).await;

    let (_, page) = plane.get("/metrics").await;
    let of_histograms = ["_bucket", "_sum", "_count"];
    let family = |series: &str| {
        let name = series.split('{').next().unwrap_or_default();
        let mut ends = of_histograms
            .iter()
            .filter_map(|end| name.strip_suffix(end));
        ends.next().unwrap_or(name).to_owned()
    };
    let told: BTreeSet<String> = EXPECTED.iter().map(|(series, _)| family(series)).collect();
    let heads = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut there: BTreeSet<String> = heads
        .filter_map(|head| Some(head.split(' ').next()?.to_owned()))
        .collect();
    // Looked at now and then.
    there.remove("periplus_tracing_provider_reachable");
    let unexpected: Vec<_> = there.symmetric_difference(&told).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");

    // The last bucket of each histogram has all.
    let all = series(&page);
    let last = all.iter().filter(|(name, _)| name.contains("le=\"+Inf\""));
    let mut histograms = 0;
    for (name, count) in last {
        let total = name
            .replace("_bucket{", "_count{")
            .replace(",le=\"+Inf\"", "")
            .replace("{le=\"+Inf\"}", "");
        assert_eq!(all.get(total.as_str()), Some(count), "{total}");
        histograms += 1;
    }
    assert!(histograms >= 5 + 2 * 4, "{histograms}");
}

/// Services that need one listener: of TCP both, of HTTP and TCP, and on one port of a workload; and a Secret that is not
/// there.
#[tokio::test]
async fn what_proxies_do_not_get_is_counted() {
    let mut text = String::new();
    for (name, ports, endpoint) in [
        ("a", "{number: 3306, name: tcp}", "10.9.9.1"),
        ("b", "{number: 3306, name: tcp}", "10.9.9.2"),
        ("c", "{number: 3307, name: http}", "10.9.9.1"),
        ("d", "{number: 3307, name: tcp}", "10.9.9.2"),
        (
            "e",
            "{number: 5000, name: http, targetPort: 8000}",
            "127.0.0.1",
        ),
        (
            "f",
            "{number: 5001, name: tcp, targetPort: 8000}",
            "127.0.0.1",
        ),
    ] {
        text += &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{name}.example], resolution: STATIC, ports: [{ports}], endpoints: [{{address: {endpoint}}}]}}\n---\n"
        );
    }
    text += "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: istio-system}\n\
             spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, \
             hosts: ['*'], tls: {mode: SIMPLE, credentialName: nowhere}}]}\n";
    let files = vec![("conflicts.yaml", text)];
    let plane = Plane::start(&files, MESH_CONFIG).await;
    let mut intercepted = sidecar("client", "v1");
    set(&mut intercepted, "INTERCEPTION_MODE", "REDIRECT");
    let sidecar = Observer::connect(&plane, intercepted);
    let gateway = Observer::connect(&plane, gateway());
    let expected = [
        ("pilot_conflict_inbound_listener", Exactly(1.0)),
        (
            "pilot_conflict_outbound_listener_tcp_over_current_tcp",
            Exactly(1.0),
        ),
        (
            "pilot_conflict_outbound_listener_tcp_over_current_http",
            Exactly(1.0),
        ),
        ("pilot_sds_certificate_errors_total", Exactly(1.0)),
    ];
    until(&plane, &expected).await;
    drop((sidecar, gateway));
}

fn series(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a series");
        (name, value.parse().expect("a number"))
    });
    parsed.collect()
}

/// Waits until all are as they should be; says which are not.
async fn until(plane: &Plane, expected: &[(&str, Is)]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, page) = plane.get("/metrics").await;
        let all = series(&page);
        let wrong = expected
            .iter()
            .filter(|(name, is)| match (all.get(name), is) {
                (Some(found), Exactly(value)) => found != value,
                (Some(found), AtLeast(value)) => found < value,
                (None, _) => true,
            });
        let wrong: Vec<_> = wrong.map(|(name, _)| (name, all.get(name))).collect();
        if wrong.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{wrong:?}\n{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
