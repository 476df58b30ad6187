//! What MeshConfig says about all requests and connections.

use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use periplus_resources::MeshConfig;
use prost::Message;

use crate::generate::{index_of, made, mesh_config};
use crate::support::sidecar;

#[test]
fn paths_have_the_form_that_the_mesh_says() {
    for (said, normalizes, merges, decodes) in [
        ("{}", true, false, false),
        ("{normalization: DEFAULT}", true, false, false),
        ("{normalization: NONE}", false, false, false),
        ("{normalization: BASE}", true, false, false),
        ("{normalization: MERGE_SLASHES}", true, true, false),
        (
            "{normalization: DECODE_AND_MERGE_SLASHES}",
            true,
            true,
            true,
        ),
    ] {
        let mesh = mesh_config(&format!("pathNormalization: {said}\n"));
        let index = index_of(&[], "", mesh);
        let made = made(&index, &sidecar("ratings", "v1"));
        let managers: Vec<_> = made.listeners.iter().flat_map(managers_of).collect();
        assert!(!managers.is_empty());
        for manager in managers {
            let normalize = manager.normalize_path.map(|flag| flag.value);
            assert_eq!(normalize, Some(normalizes), "{said}");
            assert_eq!(manager.merge_slashes, merges, "{said}");
            let action = match decodes {
                true => PathWithEscapedSlashesAction::UnescapeAndForward,
                false => PathWithEscapedSlashesAction::ImplementationSpecificDefault,
            };
            assert_eq!(
                manager.path_with_escaped_slashes_action, action as i32,
                "{said}"
            );
        }
    }
}

fn managers_of(listener: &Listener) -> Vec<HttpConnectionManager> {
    let filters = listener
        .filter_chains
        .iter()
        .flat_map(|chain| &chain.filters);
    let managers = filters.filter_map(|filter| match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(config))
            if config.type_url.ends_with("HttpConnectionManager") =>
        {
            Some(HttpConnectionManager::decode(config.value.as_slice()).expect("a manager"))
        }
        _ => None,
    });
    managers.collect()
}

#[test]
fn silent_connections_are_probed_as_the_mesh_and_the_rule_say() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {probes: 4, interval: 7s}}}}
";
    let of_mesh = "tcpKeepalive: {probes: 3, time: 600s}\n";
    for (mesh, rule, reviews, others) in [
        ("", "", None, None),
        ("", rule, Some((Some(4), None, Some(7))), None),
        (
            of_mesh,
            "",
            Some((Some(3), Some(600), None)),
            Some((Some(3), Some(600), None)),
        ),
        // What the rule does not say is the mesh's.
        (
            of_mesh,
            rule,
            Some((Some(4), Some(600), Some(7))),
            Some((Some(3), Some(600), None)),
        ),
    ] {
        let mesh = match mesh {
            "" => MeshConfig::default(),
            text => mesh_config(text),
        };
        let index = index_of(&[], rule, mesh);
        let made = made(&index, &sidecar("productpage", "v1"));
        let probed = |host: &str| {
            let mut clusters = made.clusters.iter();
            let cluster = clusters.find(|cluster| cluster.name.contains(host));
            let options = cluster.expect(host).upstream_connection_options.as_ref()?;
            let given = options.tcp_keepalive.expect("probes");
            let seconds = [
                given.keepalive_probes,
                given.keepalive_time,
                given.keepalive_interval,
            ];
            let [probes, time, interval] = seconds.map(|value| value.map(|value| value.value));
            Some((probes, time, interval))
        };
        assert_eq!(probed("||reviews."), reviews);
        assert_eq!(probed("||ratings."), others);
    }
}
