//! Load balancing: the same key to the same endpoint, and the same failover, as Envoy.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::LbSubsetSelector;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LbSubsetConfig, MaglevLbConfig, RingHashLbConfig,
};
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Metadata, TrafficDirection};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::route::v3::RetryPolicy;
use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryPriority, retry_priority};
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter,
};
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{self, UInt32Value, UInt64Value};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::json;

use crate::envoy::{self, Envoy};
use crate::xds_support::http::{Message, Origin, exchange};
use crate::xds_support::resources::{
    a_route, eds_cluster, listener, manager, path_prefix, route_configuration, socket, to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, free_address};
use crate::{ENVOYS, OURS, envoy_is_ready};

const NAMES: [&str; 6] = ["o0", "o1", "o2", "o3", "o4", "o5"];
const KEYS: u32 = 60;

/// What differs from one endpoint to the other.
#[derive(Clone, Default)]
struct Place {
    priority: u32,
    zone: &'static str,
    zone_weight: u32,
    weight: u32,
    status: HealthStatus,
    version: &'static str,
    /// Nobody listens there.
    is_dead: bool,
}

struct Cluster {
    name: &'static str,
    resource: Resource,
    places: Vec<Place>,
}

fn policy(name: &'static str, policy: LbPolicy, config: Option<LbConfig>) -> Cluster {
    with(name, Vec::new(), |cluster| {
        cluster.lb_policy = policy as i32;
        cluster.lb_config = config;
    })
}

fn with(
    name: &'static str,
    places: Vec<Place>,
    edit: impl FnOnce(&mut envoy_types::pb::envoy::config::cluster::v3::Cluster),
) -> Cluster {
    Cluster {
        name,
        resource: eds_cluster(name, edit),
        places,
    }
}

/// Two priorities of three endpoints, so many of the first of which are unhealthy.
fn failing(unhealthy: usize) -> Vec<Place> {
    let place = |index: usize| Place {
        priority: u32::from(index >= 3),
        status: if index < unhealthy {
            HealthStatus::Unhealthy
        } else {
            HealthStatus::Unknown
        },
        ..Place::default()
    };
    (0..6).map(place).collect()
}

/// Clusters, how often requests to them are tried again, and after how many attempts elsewhere.
const ELSEWHERE: [(&str, u32, i32); 4] = [
    ("elsewhere", 1, 1),
    ("elsewhere_later", 2, 2),
    ("elsewhere_too_late", 1, 2),
    ("elsewhere_anew", 4, 1),
];

/// Nobody listens where the first priority is, and one does where the second is.
fn remote() -> Vec<Place> {
    let place = |index: usize| Place {
        priority: u32::from(index == 5),
        is_dead: index < 5,
        ..Place::default()
    };
    (0..6).map(place).collect()
}

fn elsewhere(retries: u32, update_frequency: i32) -> RetryPolicy {
    let config = PreviousPrioritiesConfig { update_frequency };
    RetryPolicy {
        retry_on: "connect-failure".to_owned(),
        num_retries: Some(UInt32Value { value: retries }),
        retry_priority: Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(pack_any(config))),
        }),
        ..Default::default()
    }
}

fn maglev_with(
    name: &'static str,
    places: Vec<Place>,
    edit: impl FnOnce(&mut envoy_types::pb::envoy::config::cluster::v3::Cluster),
) -> Cluster {
    with(name, places, |cluster| {
        cluster.lb_policy = LbPolicy::Maglev as i32;
        edit(cluster);
    })
}

/// How many clusters there are.
pub(crate) fn count() -> usize {
    clusters().len()
}

fn clusters() -> Vec<Cluster> {
    let size = |value| Some(UInt64Value { value });
    let ring = |hash_function| {
        Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
            hash_function,
            minimum_ring_size: size(500),
            ..Default::default()
        }))
    };
    let table = LbConfig::MaglevLbConfig(MaglevLbConfig {
        table_size: size(1009),
    });
    let weighted: Vec<Place> = (1..=6)
        .map(|weight| Place {
            weight,
            ..Place::default()
        })
        .collect();
    let zones: Vec<Place> = [("a", 1), ("a", 1), ("b", 3), ("b", 3), ("b", 3), ("c", 2)]
        .map(|(zone, zone_weight)| Place {
            zone,
            zone_weight,
            ..Place::default()
        })
        .to_vec();
    let by_locality = |cluster: &mut envoy_types::pb::envoy::config::cluster::v3::Cluster| {
        let weighted =
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {});
        cluster.common_lb_config = Some(CommonLbConfig {
            locality_config_specifier: Some(weighted),
            ..Default::default()
        });
    };
    let versions: Vec<Place> = ["v1", "v1", "v1", "v2", "v2", "v3"]
        .map(|version| Place {
            version,
            ..Place::default()
        })
        .to_vec();
    let mut all = vec![
        policy("ring", LbPolicy::RingHash, ring(0)),
        policy("murmur", LbPolicy::RingHash, ring(1)),
        policy("maglev", LbPolicy::Maglev, None),
        policy("small", LbPolicy::Maglev, Some(table)),
        maglev_with("weighted", weighted.clone(), |_| ()),
        with("weighted_ring", weighted, |cluster| {
            cluster.lb_policy = LbPolicy::RingHash as i32;
        }),
        maglev_with("zones", zones, by_locality),
        maglev_with("subset", versions, |cluster| {
            cluster.lb_subset_config = Some(LbSubsetConfig {
                subset_selectors: vec![LbSubsetSelector {
                    keys: vec!["version".to_owned()],
                    ..Default::default()
                }],
                ..Default::default()
            });
        }),
    ];
    for (name, unhealthy) in [("fail0", 0), ("fail1", 1), ("fail2", 2), ("fail3", 3)] {
        all.push(maglev_with(name, failing(unhealthy), |_| ()));
    }
    for (name, ..) in ELSEWHERE {
        all.push(with(name, remote(), |_| ()));
    }
    all.push(maglev_with("remote_hash", remote(), |_| ()));
    all.push(maglev_with("dropped", Vec::new(), |_| ()));
    let mut most = failing(3);
    for place in &mut most[4..] {
        place.status = HealthStatus::Unhealthy;
    }
    all.push(maglev_with("panic", most.clone(), |_| ()));
    all.push(maglev_with("no_panic", most, |cluster| {
        cluster.common_lb_config = Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        });
    }));
    all
}

fn label(version: &str) -> Option<Metadata> {
    let value = protobuf::Value {
        kind: Some(Kind::StringValue(version.to_owned())),
    };
    let fields = [("version".to_owned(), value)].into();
    Some(Metadata {
        filter_metadata: [("envoy.lb".to_owned(), protobuf::Struct { fields })].into(),
        ..Default::default()
    })
}

fn assignment(cluster: &Cluster, origins: &[SocketAddr]) -> Resource {
    let places = origins.iter().enumerate().map(|(index, address)| {
        let place = cluster.places.get(index).cloned().unwrap_or_default();
        let address = match place.is_dead {
            true => SocketAddr::from(([127, 0, 0, 1], 1 + index as u16)),
            false => *address,
        };
        endpoint::LocalityLbEndpoints {
            priority: place.priority,
            locality: Some(envoy_types::pb::envoy::config::core::v3::Locality {
                zone: place.zone.to_owned(),
                ..Default::default()
            }),
            load_balancing_weight: number(place.zone_weight),
            lb_endpoints: vec![endpoint::LbEndpoint {
                health_status: place.status as i32,
                load_balancing_weight: number(place.weight),
                metadata: label(place.version).filter(|_| !place.version.is_empty()),
                host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
                    address: socket(address),
                    ..Default::default()
                })),
            }],
            ..Default::default()
        }
    });
    // A locality stands once.
    let mut localities: Vec<endpoint::LocalityLbEndpoints> = Vec::new();
    for place in places {
        let is_same = |one: &&mut endpoint::LocalityLbEndpoints| {
            one.priority == place.priority && one.locality == place.locality
        };
        match localities.iter_mut().find(is_same) {
            Some(known) => known.lb_endpoints.extend(place.lb_endpoints),
            None => localities.push(place),
        }
    }
    let assignment = endpoint::ClusterLoadAssignment {
        cluster_name: cluster.name.to_owned(),
        endpoints: localities,
        policy: (cluster.name == "dropped").then(|| Policy {
            drop_overloads: vec![DropOverload {
                category: "all".to_owned(),
                drop_percentage: Some(FractionalPercent {
                    numerator: 100,
                    denominator: 0,
                }),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    Resource::new(cluster.name, &assignment)
}

fn number(value: u32) -> Option<UInt32Value> {
    (value > 0).then_some(UInt32Value { value })
}

fn hashed(specifier: PolicySpecifier, terminal: bool) -> HashPolicy {
    HashPolicy {
        terminal,
        policy_specifier: Some(specifier),
    }
}

fn world(clusters: &[Cluster], origins: &[SocketAddr], at: SocketAddr) -> Snapshot {
    let header = || {
        let header = Header {
            header_name: "x-user".to_owned(),
            regex_rewrite: None,
        };
        hashed(PolicySpecifier::Header(header), true)
    };
    let mut routes: Vec<_> = clusters
        .iter()
        .map(|cluster| {
            let mut action = to_cluster(cluster.name);
            action.hash_policy = vec![header()];
            let policy = ELSEWHERE.iter().find(|(name, ..)| *name == cluster.name);
            let policy = policy.map(|(_, retries, every)| elsewhere(*retries, *every));
            action.retry_policy = match cluster.name {
                "remote_hash" => Some(elsewhere(1, 1)),
                _ => policy,
            };
            if cluster.name == "subset" {
                action.metadata_match = label("v1");
            }
            a_route(path_prefix(&format!("/{}/", cluster.name)), action)
        })
        .collect();
    let cookie = |name: &str, ttl| Cookie {
        name: name.to_owned(),
        ttl: Some(protobuf::Duration {
            seconds: ttl,
            nanos: 0,
        }),
        path: "/here".to_owned(),
        attributes: Vec::new(),
    };
    let rewritten = Header {
        header_name: "x-user".to_owned(),
        regex_rewrite: Some(RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher {
                regex: "^([a-z]+)-([0-9]).*".to_owned(),
                ..Default::default()
            }),
            substitution: r"\2\1".to_owned(),
        }),
    };
    let policies = [
        (
            "rewritten",
            vec![hashed(PolicySpecifier::Header(rewritten), false)],
        ),
        (
            "mixed",
            vec![
                header(),
                hashed(
                    PolicySpecifier::QueryParameter(QueryParameter {
                        name: "q".to_owned(),
                    }),
                    false,
                ),
                hashed(
                    PolicySpecifier::Cookie(Cookie {
                        ttl: None,
                        ..cookie("c", 0)
                    }),
                    false,
                ),
            ],
        ),
        (
            "ip",
            vec![hashed(
                PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
                false,
            )],
        ),
        (
            "cookie",
            vec![hashed(PolicySpecifier::Cookie(cookie("place", 60)), false)],
        ),
        (
            "session",
            vec![hashed(PolicySpecifier::Cookie(cookie("place", 0)), false)],
        ),
    ];
    for (name, hash_policy) in policies {
        let mut action = to_cluster("maglev");
        action.hash_policy = hash_policy;
        routes.push(a_route(path_prefix(&format!("/{name}/")), action));
    }
    let mut manager = manager("r");
    manager.http_filters.truncate(1);
    let listener = listener("l", at, TrafficDirection::Outbound, manager);
    let resources = clusters.iter().map(|cluster| cluster.resource.clone());
    let endpoints = clusters.iter().map(|cluster| assignment(cluster, origins));
    Snapshot::default()
        .with(CLUSTER, ResourceSet::from_iter(resources))
        .with(ENDPOINT, ResourceSet::from_iter(endpoints))
        .with(
            LISTENER,
            ResourceSet::from_iter([Resource::new("l", &listener)]),
        )
        .with(
            ROUTE,
            ResourceSet::from_iter([route_configuration("r", routes)]),
        )
}

async fn ask(at: SocketAddr, path: &str, headers: &str) -> Message {
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n");
    exchange(at, &request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_endpoints_as_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let plane = ControlPlane::start().await;
    let mut origins = Vec::new();
    for name in NAMES {
        origins.push(Origin::start(name).await.address);
    }
    let clusters = clusters();
    let (ours, envoys) = (free_address().await, free_address().await);
    plane.worlds.set(OURS, world(&clusters, &origins, ours));
    plane.worlds.set(ENVOYS, world(&clusters, &origins, envoys));
    let text = |node: &str| {
        bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    };
    let envoy = Envoy::start(&binary, &text(ENVOYS));
    let parsed = bootstrap::parse("ours", &text(OURS)).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    let ready = tokio::time::timeout(PATIENCE, agent.ready()).await;
    ready.expect("the agent does not get ready");
    envoy_is_ready(&envoy).await;
    plane.in_sync(OURS).await;
    plane.in_sync(ENVOYS).await;

    for cluster in &clusters {
        let mut differing = Vec::new();
        // Envoy takes a second to close a connection after an answer of its own.
        let keys = match cluster.name {
            "dropped" => 2,
            name if name.starts_with("elsewhere") || name.starts_with("remote") => 8,
            _ => KEYS,
        };
        for key in 0..keys {
            let path = format!("/{}/", cluster.name);
            let header = format!("x-user: user-{key}\r\n");
            let (our, their) = tokio::join!(ask(ours, &path, &header), ask(envoys, &path, &header));
            let seen = |message: &Message| {
                let headers = message.headers.iter().map(|(name, _)| name.clone());
                let mut headers: Vec<String> = headers.collect();
                headers.sort();
                (message.status(), message.body.clone(), headers)
            };
            if seen(&our) != seen(&their) {
                differing.push((key, seen(&our), seen(&their)));
            }
        }
        assert!(differing.is_empty(), "{}: {differing:?}", cluster.name);
    }
    for (path, headers) in [
        ("/mixed/?q=7", ""),
        ("/mixed/?a=b&q=8&q=9", ""),
        ("/mixed/?q", "cookie: a=b; c=\"of cookie\"\r\n"),
        ("/mixed/?q=7", "cookie: c=d\r\ncookie: c=e\r\n"),
        ("/mixed/?q=7", "x-user: z\r\nx-user: a\r\n"),
        ("/rewritten/", "x-user: user-1\r\n"),
        ("/rewritten/", "x-user: user-15\r\n"),
        ("/rewritten/", "x-user: user-2\r\nx-user: z-1\r\n"),
        ("/rewritten/", "x-user: none\r\n"),
        ("/ip/", ""),
        ("/ip/", "x-forwarded-for: 10.0.0.1, 10.0.0.2\r\n"),
        ("/ip/", "x-forwarded-for: 10.0.0.1, nonsense\r\n"),
    ] {
        let (our, their) = tokio::join!(ask(ours, path, headers), ask(envoys, path, headers));
        assert_eq!(our.body, their.body, "{path} {headers}");
    }
    for path in ["/cookie/", "/session/"] {
        let (our, their) = tokio::join!(ask(ours, path, ""), ask(envoys, path, ""));
        let masked = |message: &Message| {
            let cookie = message.header("set-cookie").expect("a cookie");
            let parts: Vec<&str> = cookie.split('"').collect();
            (parts[0].to_owned(), parts[2].to_owned())
        };
        assert_eq!(masked(&our), masked(&their), "{path}");
    }
    agent.shutdown(Duration::from_secs(1)).await;
}
