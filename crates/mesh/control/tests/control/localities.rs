//! Which endpoints come first, and how much of the requests each place gets; and rules for single ports.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use periplus_control::Generated;

use crate::generate::{index_of, made, mesh_config};
use crate::support::sidecar;

const SHOP: &str = "outbound|80||shop.default.svc.cluster.local";

/// Endpoints 1 to 5, from the nearest to the farthest of a proxy in `eu/eu-1/a`.
const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: http-other, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.5, locality: asia/asia-1, labels: {tier: gold}}
  - {address: 10.0.0.4, locality: us/us-1, weight: 3, labels: {tier: gold}}
  - {address: 10.0.0.3, locality: eu/eu-2/a, labels: {tier: gold}}
  - {address: 10.0.0.2, locality: eu/eu-1/b, labels: {version: v1}}
  - {address: 10.0.0.1, labels: {istio-locality: eu.eu-1.a, version: v1}}
---
";

fn rule(policy: &str) -> String {
    format!(
        "{SERVICE}apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop, namespace: default}}
spec: {{host: shop.default.svc.cluster.local, {policy}}}
---
"
    )
}

/// Region, zone and sub-zone.
type Place = (&'static str, &'static str, &'static str);
/// What is tried, the rule, the mesh's configuration, where the proxy is, the endpoints in order.
type Case<'a> = (&'a str, String, &'a str, Option<Place>, &'a [&'a str]);

fn node(place: Option<Place>) -> Node {
    let place = place.map(|(region, zone, sub_zone)| Locality {
        region: region.to_owned(),
        zone: zone.to_owned(),
        sub_zone: sub_zone.to_owned(),
    });
    let mut node = sidecar("reviews", "v1");
    node.locality = place;
    node
}

fn generated(resources: &str, mesh: &str, node: &Node) -> Generated {
    let mesh = format!("enableTracing: false\n{mesh}");
    let index = index_of(&[], resources, mesh_config(&mesh));
    made(&index, node)
}

fn assignment<'a>(made: &'a Generated, name: &str) -> &'a ClusterLoadAssignment {
    let mut all = made.endpoints.iter();
    all.find(|one| one.cluster_name == name).expect("endpoints")
}

fn cluster<'a>(made: &'a Generated, name: &str) -> &'a Cluster {
    let mut all = made.clusters.iter();
    all.find(|one| one.name == name).expect("a cluster")
}

/// `PRIORITY*WEIGHT REGION/ZONE/SUBZONE: LAST NUMBERS OF ADDRESSES`, in order.
fn told(group: &LocalityLbEndpoints) -> String {
    let place = group.locality.clone().unwrap_or_default();
    let endpoints = group.lb_endpoints.iter().map(|one| {
        let Some(HostIdentifier::Endpoint(endpoint)) = &one.host_identifier else {
            panic!("{one:?}");
        };
        let text = format!("{:?}", endpoint.address);
        let at = text.find("10.0.0.").expect("an address") + 7;
        text[at..=at].to_owned()
    });
    let weight = group.load_balancing_weight.map_or(0, |weight| weight.value);
    format!(
        "{}*{weight} {}/{}/{}: {}",
        group.priority,
        place.region,
        place.zone,
        place.sub_zone,
        endpoints.collect::<Vec<_>>().join(",")
    )
}

fn is_weighted(cluster: &Cluster) -> bool {
    let common = cluster.common_lb_config.as_ref();
    let specifier = common.and_then(|common| common.locality_config_specifier.as_ref());
    matches!(
        specifier,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    )
}

#[test]
fn the_nearest_come_first_where_failures_are_noticed() {
    const OUTLIERS: &str = "outlierDetection: {consecutive5xxErrors: 1}";
    let near = Some(("eu", "eu-1", "a"));
    let flat = [
        "0*1 asia/asia-1/: 5",
        "0*1 eu/eu-1/a: 1",
        "0*1 eu/eu-1/b: 2",
        "0*1 eu/eu-2/a: 3",
        "0*3 us/us-1/: 4",
    ];
    let nearest = [
        "0*1 eu/eu-1/a: 1",
        "1*1 eu/eu-1/b: 2",
        "2*1 eu/eu-2/a: 3",
        "3*1 asia/asia-1/: 5",
        "3*3 us/us-1/: 4",
    ];
    let with = |setting: &str| {
        format!("trafficPolicy: {{{OUTLIERS}, loadBalancer: {{localityLbSetting: {setting}}}}}")
    };
    let cases: [Case<'_>; 9] = [
        ("nobody notices", "trafficPolicy: {}".into(), "", near, &flat),
        ("by default", format!("trafficPolicy: {{{OUTLIERS}}}"), "", near, &nearest),
        ("a proxy anywhere", format!("trafficPolicy: {{{OUTLIERS}}}"), "", None, &flat),
        (
            "off in the mesh",
            format!("trafficPolicy: {{{OUTLIERS}}}"),
            "localityLbSetting: {enabled: false}",
            near,
            &flat,
        ),
        (
            "off in the mesh, and on again",
            with("{enabled: true}"),
            "localityLbSetting: {enabled: false}",
            near,
            &nearest,
        ),
        (
            "one region before the others",
            with("{failover: [{from: eu, to: us}]}"),
            "",
            near,
            &[
                "0*1 eu/eu-1/a: 1",
                "1*1 eu/eu-1/b: 2",
                "2*1 eu/eu-2/a: 3",
                "3*3 us/us-1/: 4",
                "4*1 asia/asia-1/: 5",
            ],
        ),
        (
            "by labels, priorities without gaps",
            with("{failoverPriority: [topology.kubernetes.io/region, 'tier=gold']}"),
            "",
            near,
            &[
                "0*1 eu/eu-2/a: 3",
                "1*1 eu/eu-1/a: 1",
                "1*1 eu/eu-1/b: 2",
                "2*1 asia/asia-1/: 5",
                "2*3 us/us-1/: 4",
            ],
        ),
        (
            "shares, of which the most special pattern counts",
            "trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [
                {from: 'us/*', to: {'us/*': 100}},
                {from: 'eu/eu-1/*', to: {'eu/eu-1/a': 70, 'eu/*': 20, 'us/*': 10}}]}}}"
                .into(),
            "",
            near,
            &[
                "0*70 eu/eu-1/a: 1",
                "0*10 eu/eu-1/b: 2",
                "0*10 eu/eu-2/a: 3",
                "0*10 us/us-1/: 4",
            ],
        ),
        (
            "shares of other places",
            "trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: 'us/*', to: {'us/*': 100}}]}}}"
                .into(),
            "",
            near,
            &flat,
        ),
    ];
    for (what, policy, mesh, place, expected) in cases {
        let made = generated(&rule(&policy), mesh, &node(place));
        let groups: Vec<_> = assignment(&made, SHOP).endpoints.iter().map(told).collect();
        assert_eq!(groups, expected, "{what}");
        let is_off = what == "off in the mesh";
        assert_eq!(is_weighted(cluster(&made, SHOP)), !is_off, "{what}");
    }
}

#[test]
fn trap_03_a_port_has_its_own_settings_and_nothing_of_the_others() {
    let policy = "
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 7}}
    outlierDetection: {consecutive5xxErrors: 1}
    retryBudget: {percent: 10}
    portLevelSettings:
    - {port: {number: 81}, connectionPool: {http: {maxRetries: 5}}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      connectionPool: {tcp: {maxConnections: 9}}
      portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]";
    let resources = rule("").replace(
        "spec: {host: shop.default.svc.cluster.local, }",
        &format!("spec:\n  host: shop.default.svc.cluster.local{policy}"),
    );
    let made = generated(&resources, "", &node(None));
    let of = |port: u16, subset: &str| {
        let cluster = cluster(
            &made,
            &format!("outbound|{port}|{subset}|shop.default.svc.cluster.local"),
        );
        let breakers = cluster.circuit_breakers.as_ref().expect("limits");
        let limits = &breakers.thresholds[0];
        (
            limits.max_connections.map_or(0, |limit| limit.value),
            limits.max_retries.map_or(0, |limit| limit.value),
            cluster.outlier_detection.is_some(),
            limits.retry_budget.is_some(),
        )
    };
    const NONE: u32 = u32::MAX;
    assert_eq!(of(80, ""), (7, NONE, true, true));
    assert_eq!(of(81, ""), (NONE, 5, false, true));
    // A subset goes over what holds for the port, unless it says something for the port too.
    assert_eq!(of(81, "v1"), (9, NONE, false, true));
    assert_eq!(of(80, "v1"), (NONE, NONE, false, true));
}

/// `trafficDistribution`: what a service prefers holds although nobody notices failures, and a rule goes before it.
#[test]
fn a_service_prefers_its_clients_zone() {
    let near = Some(("eu", "eu-1", "a"));
    let zones = [
        "0*1 eu/eu-1/a: 1",
        "0*1 eu/eu-1/b: 2",
        "1*1 eu/eu-2/a: 3",
        "2*1 asia/asia-1/: 5",
        "2*3 us/us-1/: 4",
    ];
    let machines = [
        "0*1 eu/eu-1/a: 1",
        "1*1 eu/eu-1/b: 2",
        "2*1 eu/eu-2/a: 3",
        "3*1 asia/asia-1/: 5",
        "3*3 us/us-1/: 4",
    ];
    let flat = [
        "0*1 asia/asia-1/: 5",
        "0*1 eu/eu-1/a: 1",
        "0*1 eu/eu-1/b: 2",
        "0*1 eu/eu-2/a: 3",
        "0*3 us/us-1/: 4",
    ];
    let off = "trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}}";
    for (prefers, policy, expected) in [
        ("PreferClose", "", &zones),
        ("PreferSameZone", "trafficPolicy: {}", &zones),
        ("PreferSameNode", "", &machines),
        ("Any", "", &flat),
        ("PreferClose", off, &flat),
    ] {
        let annotation = format!(
            "name: shop, annotations: {{networking.istio.io/traffic-distribution: {prefers}}},"
        );
        let rules = match policy {
            "" => SERVICE.to_owned(),
            policy => rule(policy),
        };
        let rules = rules.replacen("name: shop,", &annotation, 1);
        let made = generated(&rules, "", &node(near));
        let groups = assignment(&made, SHOP).endpoints.iter().map(told);
        assert_eq!(groups.collect::<Vec<_>>(), expected, "{prefers} {policy}");
    }
}
