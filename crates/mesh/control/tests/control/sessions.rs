//! Services whose labels ask for clients to stay with an endpoint.

use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSessionPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name as _};

use crate::generate::{index_of, made, mesh_config, problems};
use crate::support::{gateway, sidecar};

const FILTER: &str = "envoy.filters.http.stateful_session";

fn service(name: &str, label: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default, labels: {{{label}}}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 10.9.9.9}}]
---
"
    )
}

fn session(config: &Any) -> String {
    let route = StatefulSessionPerRoute::decode(config.value.as_slice()).expect("of a route");
    let Some(Override::StatefulSession(session)) = route.r#override else {
        panic!("no session");
    };
    assert!(!session.strict);
    let state = session.session_state.and_then(|state| state.typed_config);
    let state = state.expect("a state");
    if state.type_url == CookieBasedSessionState::type_url() {
        let state = CookieBasedSessionState::decode(state.value.as_slice()).expect("a cookie");
        let cookie = state.cookie.expect("a cookie");
        assert_eq!(cookie.ttl, None);
        return format!("cookie {} {}", cookie.name, cookie.path);
    }
    let state = HeaderBasedSessionState::decode(state.value.as_slice()).expect("a header");
    format!("header {}", state.name)
}

#[test]
fn labels_of_services_become_sessions_of_their_routes() {
    let resources = service("cart", "istio.io/persistent-session: place")
        + &service("deep", "istio.io/persistent-session: 'place:/deep'")
        + &service("shop", "istio.io/persistent-session-header: x-place")
        + &service("none", "app: none")
        + &service("bad", "istio.io/persistent-session: 'a b'")
        + "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: split, namespace: default}
spec:
  hosts: [none.default.svc.cluster.local]
  http:
  - match: [{uri: {prefix: /one}}]
    route: [{destination: {host: cart}}]
  - route:
    - {destination: {host: cart}, weight: 50}
    - {destination: {host: shop}, weight: 25}
    - {destination: {host: none}, weight: 25}
";
    let index = index_of(&["bookinfo-gateway.yaml"], &resources, mesh_config(""));
    let told = problems(&index);
    let expected =
        "`a b` of the label istio.io/persistent-session is no name of a cookie or a header";
    assert!(told.contains(expected), "{told}");

    let made_of = made(&index, &sidecar("reviews", "v1"));
    let mut found = Vec::new();
    for host in made_of.routes.iter().flat_map(|one| &one.virtual_hosts) {
        let name = host.name.split('.').next().unwrap_or_default();
        for (number, route) in host.routes.iter().enumerate() {
            if let Some(config) = route.typed_per_filter_config.get(FILTER) {
                found.push(format!("{name}/{number}: {}", session(config)));
            }
            if let Some(Action::Route(action)) = &route.action
                && let Some(ClusterSpecifier::WeightedClusters(all)) = &action.cluster_specifier
            {
                for cluster in &all.clusters {
                    let config = cluster.typed_per_filter_config.get(FILTER);
                    let session = config.map_or("none".to_owned(), session);
                    found.push(format!("{name}/{number} {}: {session}", cluster.name));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(
        found,
        [
            "cart/0: cookie place /",
            "deep/0: cookie place /deep",
            "none/0: cookie place /",
            "none/1 outbound|80||cart.default.svc.cluster.local: cookie place /",
            "none/1 outbound|80||none.default.svc.cluster.local: none",
            "none/1 outbound|80||shop.default.svc.cluster.local: header x-place",
            "shop/0: header x-place",
        ]
    );

    // The filter stands where requests are sent from, in sidecars and gateways.
    let has_filter = |listener: &envoy_types::pb::envoy::config::listener::v3::Listener| {
        let filter = &listener.filter_chains[0].filters[0];
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            panic!("{filter:?}");
        };
        let manager = HttpConnectionManager::decode(any.value.as_slice()).expect("a manager");
        manager
            .http_filters
            .iter()
            .any(|filter| filter.name == FILTER)
    };
    let sides: Vec<_> = made_of
        .listeners
        .iter()
        .map(|one| (one.traffic_direction().as_str_name(), has_filter(one)))
        .collect();
    assert_eq!(sides, [("INBOUND", false), ("OUTBOUND", true)]);
    assert!(has_filter(&made(&index, &gateway()).listeners[0]));
    let without = index_of(&["bookinfo-gateway.yaml"], "", mesh_config(""));
    let made_of = made(&without, &sidecar("reviews", "v1"));
    assert!(!made_of.listeners.iter().any(has_filter));
}
