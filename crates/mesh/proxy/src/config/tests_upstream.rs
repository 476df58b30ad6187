//! Load balancing, health and circuit breakers: what is taken, and what is refused in which words.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config as common;
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::LbSubsetSelector;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LbSubsetConfig, LeastRequestLbConfig, MaglevLbConfig,
    RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::health_check as kinds;
use envoy_types::pb::envoy::config::core::v3::health_check::HealthChecker;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    self as hash, PolicySpecifier,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::pick_first::v3::PickFirst;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::LbSubsetSelector as TypedSelector;
use envoy_types::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Int64Range};
use envoy_types::pb::google::protobuf::{self, Any, UInt32Value, UInt64Value};
use envoy_types::util::pack_any;

use super::check::At;
use super::cluster::{self, ClusterSpec};
use super::policy::PeakEwma;
use super::tls::Names;
use super::{endpoint as assignments, hash_policy};
use crate::snapshot::{self, Balancing, HashSource, HealthCheckKind, Thresholds};

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn size(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

fn compile(edit: impl FnOnce(&mut pb::Cluster)) -> Result<ClusterSpec, String> {
    let mut config = pb::Cluster {
        name: "c".to_owned(),
        ..Default::default()
    };
    edit(&mut config);
    cluster::compile(config, &Names::NONE).map_err(|refused| refused.to_string())
}

fn taken(edit: impl FnOnce(&mut pb::Cluster)) -> ClusterSpec {
    compile(edit).expect("valid")
}

fn list(policies: Vec<Any>) -> Option<pb::LoadBalancingPolicy> {
    let policy = |config| pb::load_balancing_policy::Policy {
        typed_extension_config: Some(core::TypedExtensionConfig {
            name: "x".to_owned(),
            typed_config: Some(config),
        }),
    };
    Some(pb::LoadBalancingPolicy {
        policies: policies.into_iter().map(policy).collect(),
    })
}

fn check(kind: HealthChecker) -> core::HealthCheck {
    core::HealthCheck {
        timeout: seconds(1),
        interval: seconds(5),
        unhealthy_threshold: number(3),
        healthy_threshold: number(2),
        health_checker: Some(kind),
        ..Default::default()
    }
}

fn http_check(edit: impl FnOnce(&mut kinds::HttpHealthCheck)) -> HealthChecker {
    let mut check = kinds::HttpHealthCheck {
        path: "/healthz".to_owned(),
        ..Default::default()
    };
    edit(&mut check);
    HealthChecker::HttpHealthCheck(check)
}

#[test]
fn the_policies_of_both_forms() {
    let policy = |policy: LbPolicy| taken(|c| c.lb_policy = policy as i32).balancing;
    assert_eq!(policy(LbPolicy::RoundRobin), Balancing::RoundRobin);
    assert_eq!(policy(LbPolicy::Random), Balancing::Random);
    let least = |choices, bias| Balancing::LeastRequest(snapshot::LeastRequest { choices, bias });
    assert_eq!(policy(LbPolicy::LeastRequest), least(2, 1.0));
    let maglev = |table_size| Balancing::Maglev { table_size };
    assert_eq!(policy(LbPolicy::Maglev), maglev(65_537));
    let Balancing::RingHash(ring) = policy(LbPolicy::RingHash) else {
        panic!("another policy");
    };
    assert_eq!((ring.min_size, ring.max_size), (1024, 8 * 1024 * 1024));

    let slow = SlowStartConfig {
        slow_start_window: seconds(60),
        ..Default::default()
    };
    let spec = taken(|c| {
        c.lb_config = Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
            slow_start_config: Some(slow.clone()),
        }));
    });
    let slow_start = spec.spread.slow_start.expect("slow start");
    assert_eq!(slow_start.window, Duration::from_secs(60));
    assert_eq!((slow_start.aggression, slow_start.min_weight), (1.0, 0.1));
    let typed = |policies| {
        taken(|c| {
            c.lb_policy = LbPolicy::LoadBalancingPolicyConfig as i32;
            c.load_balancing_policy = list(policies);
        })
    };
    let bias = core::RuntimeDouble {
        default_value: 0.5,
        runtime_key: "x".to_owned(),
    };
    let known = LeastRequest {
        choice_count: number(3),
        active_request_bias: Some(bias),
        ..Default::default()
    };
    let first_known = vec![pack_any(PickFirst::default()), pack_any(known)];
    assert_eq!(typed(first_known).balancing, least(3, 0.5));
    let small = pack_any(Maglev {
        table_size: size(251),
        ..Default::default()
    });
    assert_eq!(typed(vec![small.clone()]).balancing, maglev(251));
    let spec = typed(vec![pack_any(WrrLocality {
        endpoint_picking_policy: list(vec![small.clone()]),
    })]);
    assert_eq!(
        (spec.balancing, spec.spread.by_locality),
        (maglev(251), true)
    );
    let spec = typed(vec![pack_any(Subset {
        subset_selectors: vec![TypedSelector {
            keys: vec!["version".to_owned(), "stage".to_owned()],
            ..Default::default()
        }],
        fallback_policy: 1,
        allow_redundant_keys: true,
        subset_lb_policy: list(vec![small]),
        ..Default::default()
    })]);
    assert_eq!(spec.balancing, maglev(251));
    let subsets = spec.spread.subsets.expect("subsets");
    assert_eq!(subsets.selectors[0].keys, ["stage", "version"]);
    assert_eq!(subsets.fallback, snapshot::Fallback::Any);
    assert!(subsets.allows_redundant_keys);
    let Balancing::PeakEwma(ewma) = typed(vec![pack_any(PeakEwma {
        decay_time: seconds(3),
        max_samples_per_host: number(9),
        ..Default::default()
    })])
    .balancing
    else {
        panic!("another policy");
    };
    assert_eq!(ewma.decay, Duration::from_secs(3));
    assert_eq!(ewma.default_rtt, Duration::from_millis(10));
}

#[test]
fn what_is_wrong_with_a_cluster_is_named() {
    type Change = fn(&mut pb::Cluster);
    let cases: Vec<(Change, &str)> = vec![
        (
            |c| c.lb_policy = LbPolicy::LoadBalancingPolicyConfig as i32,
            "load_balancing_policy: it must be given",
        ),
        (
            |c| c.load_balancing_policy = list(vec![pack_any(PickFirst::default())]),
            "load_balancing_policy: none of \
             envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst is supported",
        ),
        (
            |c| {
                let full = LeastRequest {
                    enable_full_scan: Some(protobuf::BoolValue { value: true }),
                    ..Default::default()
                };
                c.load_balancing_policy = list(vec![pack_any(full)]);
            },
            "load_balancing_policy.policies[0].typed_extension_config.typed_config.enable_full_scan: \
             true is not supported",
        ),
        (
            |c| {
                c.lb_policy = LbPolicy::LeastRequest as i32;
                c.lb_config = Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    choice_count: number(17),
                    ..Default::default()
                }));
            },
            "least_request_lb_config.choice_count: it must be 2 to 16",
        ),
        (
            |c| {
                c.lb_policy = LbPolicy::Maglev as i32;
                c.lb_config = Some(LbConfig::MaglevLbConfig(MaglevLbConfig {
                    table_size: size(1000),
                }));
            },
            "maglev_lb_config.table_size: it must be a prime number up to 5000011",
        ),
        (
            |c| {
                c.lb_policy = LbPolicy::RingHash as i32;
                c.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
                    minimum_ring_size: size(9),
                    maximum_ring_size: size(8),
                    ..Default::default()
                }));
            },
            "ring_hash_lb_config.minimum_ring_size: it must not be more than maximum_ring_size",
        ),
        (
            |c| {
                c.common_lb_config = Some(CommonLbConfig {
                    consistent_hashing_lb_config: Some(common::ConsistentHashingLbConfig {
                        hash_balance_factor: number(150),
                        ..Default::default()
                    }),
                    ..Default::default()
                });
            },
            "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: is not supported",
        ),
        (
            |c| {
                c.lb_subset_config = Some(LbSubsetConfig {
                    subset_selectors: vec![LbSubsetSelector {
                        keys: vec!["a".to_owned()],
                        single_host_per_subset: true,
                        ..Default::default()
                    }],
                    ..Default::default()
                });
            },
            "lb_subset_config.subset_selectors[0].single_host_per_subset: is not supported",
        ),
        (
            |c| {
                c.health_checks = vec![check(http_check(|_| ())), check(http_check(|_| ()))];
            },
            "health_checks: only one is supported",
        ),
        (
            |c| {
                c.health_checks = vec![core::HealthCheck {
                    timeout: None,
                    ..check(http_check(|_| ()))
                }];
            },
            "health_checks[0].timeout: it must be given, and more than 0s",
        ),
        (
            |c| {
                c.health_checks = vec![check(http_check(|check| {
                    check.expected_statuses = vec![Int64Range {
                        start: 200,
                        end: 700,
                    }];
                }))];
            },
            "health_checks[0].http_health_check.expected_statuses[0]: \
             it must lie between 100 and 600, and not be empty",
        ),
        (
            |c| {
                let tcp = kinds::TcpHealthCheck {
                    send: Some(kinds::Payload {
                        payload: Some(kinds::payload::Payload::Text("0g".to_owned())),
                    }),
                    ..Default::default()
                };
                c.health_checks = vec![check(HealthChecker::TcpHealthCheck(tcp))];
            },
            "health_checks[0].tcp_health_check.send.text: it must be hexadecimal digits",
        ),
        (
            |c| {
                c.outlier_detection = Some(pb::OutlierDetection {
                    base_ejection_time: seconds(30),
                    max_ejection_time: seconds(20),
                    ..Default::default()
                });
            },
            "outlier_detection.max_ejection_time: it must not be less than base_ejection_time",
        ),
        (
            |c| {
                c.circuit_breakers = Some(pb::CircuitBreakers {
                    thresholds: vec![pb::circuit_breakers::Thresholds {
                        max_connection_pools: number(3),
                        ..Default::default()
                    }],
                    ..Default::default()
                });
            },
            "circuit_breakers.thresholds[0].max_connection_pools: is not supported",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(compile(change).expect_err("refused"), expected);
    }
}

#[test]
fn health_checks_with_their_defaults() {
    let spec = taken(|c| c.health_checks = vec![check(http_check(|_| ()))]);
    let check = spec.health_check.expect("a check");
    let intervals = &check.intervals;
    assert_eq!(intervals.usual, Duration::from_secs(5));
    assert_eq!(intervals.unhealthy_edge, Duration::from_secs(5));
    assert_eq!(intervals.no_traffic, Duration::from_secs(60));
    assert_eq!(intervals.no_traffic_healthy, Duration::from_secs(60));
    assert!(check.reuses_connection);
    let HealthCheckKind::Http(http) = &check.kind else {
        panic!("another kind");
    };
    assert_eq!((http.path.as_str(), http.method), ("/healthz", "GET"));
    assert_eq!(http.expected, [200..=200]);
}

#[test]
fn circuit_breakers_of_both_priorities() {
    let spec = taken(|c| {
        c.circuit_breakers = Some(pb::CircuitBreakers {
            thresholds: vec![
                pb::circuit_breakers::Thresholds {
                    max_requests: number(7),
                    track_remaining: true,
                    max_retries: number(9),
                    ..Default::default()
                },
                pb::circuit_breakers::Thresholds {
                    priority: core::RoutingPriority::High as i32,
                    max_connections: number(3),
                    ..Default::default()
                },
            ],
            per_host_thresholds: vec![pb::circuit_breakers::Thresholds {
                max_connections: number(2),
                ..Default::default()
            }],
        });
    });
    let unset = Thresholds::default();
    let limits = spec.limits;
    assert_eq!(limits.default.max_requests, 7);
    assert!(limits.default.tracks_remaining && !limits.high.tracks_remaining);
    assert_eq!(limits.default.max_connections, unset.max_connections);
    assert_eq!(limits.high.max_connections, 3);
    assert_eq!(limits.connections_per_host, Some(2));
}

#[test]
fn what_comes_with_the_endpoints() {
    let taken = |policy: Policy| {
        let assignment = endpoint::ClusterLoadAssignment {
            policy: Some(policy),
            ..Default::default()
        };
        let compiled = assignments::compile(assignment, &At::ROOT);
        compiled
            .map(|assignment| assignment.spread(&snapshot::Spread::default()))
            .map_err(|refused| refused.to_string())
    };
    let drops = |numerator| DropOverload {
        category: "x".to_owned(),
        drop_percentage: Some(FractionalPercent {
            numerator,
            denominator: 0,
        }),
    };
    let spread = taken(Policy {
        overprovisioning_factor: number(110),
        drop_overloads: vec![drops(25)],
        ..Default::default()
    })
    .expect("valid");
    assert_eq!(spread.overprovisioning, 110);
    assert_eq!(spread.drops_per_million, 250_000);
    let refused = |overloads| {
        taken(Policy {
            drop_overloads: overloads,
            ..Default::default()
        })
        .expect_err("refused")
    };
    assert_eq!(
        refused(vec![drops(1), drops(1)]),
        "policy.drop_overloads: only one category is supported"
    );
    assert_eq!(
        refused(vec![drops(101)]),
        "policy.drop_overloads[0].drop_percentage: it must not be more than 100 %"
    );
}

#[test]
fn hash_policies() {
    let policy = |specifier| HashPolicy {
        terminal: true,
        policy_specifier: Some(specifier),
    };
    let compile = |specifiers: Vec<PolicySpecifier>| {
        let policies = specifiers.into_iter().map(policy).collect();
        let compiled = hash_policy::compile(policies, &At::ROOT.field("hash_policy"));
        compiled.map_err(|refused| refused.to_string())
    };
    let compiled = compile(vec![
        PolicySpecifier::Header(hash::Header {
            header_name: "X-User".to_owned(),
            regex_rewrite: None,
        }),
        PolicySpecifier::ConnectionProperties(hash::ConnectionProperties { source_ip: false }),
        PolicySpecifier::Cookie(hash::Cookie {
            name: "session".to_owned(),
            ttl: seconds(0),
            ..Default::default()
        }),
    ])
    .expect("valid");
    assert_eq!(compiled.len(), 2, "one looks at nothing");
    assert_eq!(compiled[0].source, HashSource::Header("x-user".to_owned()));
    assert!(compiled[0].is_terminal);
    let state = PolicySpecifier::FilterState(hash::FilterState {
        key: "x".to_owned(),
    });
    assert_eq!(
        compile(vec![state]).expect_err("refused"),
        "hash_policy[0].filter_state: is not supported"
    );
    let cookie = PolicySpecifier::Cookie(hash::Cookie {
        name: "a b".to_owned(),
        ..Default::default()
    });
    assert_eq!(
        compile(vec![cookie]).expect_err("refused"),
        "hash_policy[0].cookie.name: it must be a token"
    );
}
