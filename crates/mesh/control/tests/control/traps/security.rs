//! Those about who may talk to whom, and how.

use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::listener::v3::filter;
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action as RbacAction;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;

use super::{WEB, of_sidecar, resource};
use crate::connections::listener;
use crate::support::render::unpack;

fn policy(kind: &str, spec: &str) -> String {
    resource("security.istio.io/v1", kind, "policy", spec)
}

#[test]
fn trap_04_a_policy_without_rules_denies_all() {
    const NOBODY: &str = "rule: Some(NotRule(Permission { rule: Some(Any(true)) }))";
    const ANYBODY: &str = "rule: Some(Any(true))";
    for (spec, action, expected) in [
        ("{action: ALLOW}", RbacAction::Allow, NOBODY),
        ("{action: ALLOW, rules: []}", RbacAction::Allow, NOBODY),
        ("{action: DENY}", RbacAction::Deny, NOBODY),
        ("{rules: [{}]}", RbacAction::Allow, ANYBODY),
    ] {
        let made = of_sidecar(
            "web",
            &(WEB.to_owned() + &policy("AuthorizationPolicy", spec)),
        );
        let inbound = listener(&made, "virtualInbound");
        let to_port = |number| {
            let mut chains = inbound.filter_chains.iter();
            chains.find(|chain| {
                let conditions = chain.filter_chain_match.as_ref();
                let port = conditions.and_then(|it| it.destination_port.as_ref());
                port.is_some_and(|port| port.value == number)
            })
        };
        let filter = to_port(8080)
            .expect("its port")
            .filters
            .last()
            .expect("a filter");
        let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            panic!("{filter:?}");
        };
        let manager: HttpConnectionManager = unpack(any);
        let rules = manager
            .http_filters
            .iter()
            .find_map(|one| match &one.config_type {
                Some(http_filter::ConfigType::TypedConfig(any)) if one.name.ends_with(".rbac") => {
                    unpack::<Rbac>(any).rules
                }
                _ => None,
            });
        let rules = rules.expect("policies");
        assert_eq!(rules.action(), action, "{spec}");
        let mut policies = rules.policies.values();
        let permissions = policies.next().map(|one| format!("{:?}", one.permissions));
        let permissions = permissions.expect("a policy");
        assert!(
            policies.next().is_none() && permissions.contains(expected),
            "{spec}: {permissions}"
        );
        assert_eq!(expected == NOBODY, permissions.contains(NOBODY), "{spec}");
    }
}

#[test]
fn trap_05_the_port_of_a_peer_authentication_is_that_of_the_workload() {
    let is_strict = |port: u16| {
        let spec = format!(
            "{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: PERMISSIVE}}, portLevelMtls: {{{port}: {{mode: STRICT}}}}}}"
        );
        let made = of_sidecar(
            "web",
            &(WEB.to_owned() + &policy("PeerAuthentication", &spec)),
        );
        let chains = listener(&made, "virtualInbound").filter_chains.iter();
        let mut to_port = chains.filter(|chain| chain.name == "0.0.0.0_8080");
        to_port.all(|chain| chain.transport_socket.is_some())
    };
    assert!(is_strict(8080) && !is_strict(80));
}

#[test]
fn trap_12_clients_offer_a_name_by_which_the_mesh_is_told_from_applications() {
    let made = of_sidecar("client", WEB);
    let mut clusters = made.clusters.iter();
    let web = clusters
        .find(|one| one.name.starts_with("outbound|80||web"))
        .expect("the web");
    let socket = web.transport_socket_matches[0].transport_socket.as_ref();
    let Some(SocketConfig::TypedConfig(any)) = socket.and_then(|one| one.config_type.as_ref())
    else {
        panic!("{web:?}");
    };
    let context: UpstreamTlsContext = unpack(any);
    let offered = context
        .common_tls_context
        .expect("a context")
        .alpn_protocols;
    assert!(offered.iter().any(|name| name == "istio"), "{offered:?}");
}

#[test]
fn trap_13_mutual_tls_is_for_endpoints_that_say_so() {
    let pod = |name: &str, ip: &str, labels: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web{labels}}}}}\n\
             spec: {{containers: []}}\nstatus: {{podIP: {ip}, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}\n"
        )
    };
    let text = [
        WEB.to_owned(),
        pod("bare", "10.0.0.8", ""),
        pod("injected", "10.0.0.9", ", security.istio.io/tlsMode: istio"),
        policy("PeerAuthentication", "{mtls: {mode: STRICT}}"),
    ]
    .concat();
    let made = of_sidecar("client", &text);
    let mut all = made.endpoints.iter();
    let web = all
        .find(|one| one.cluster_name.starts_with("outbound|80||web"))
        .expect("the web");
    let endpoints = web.endpoints.iter().flat_map(|one| &one.lb_endpoints);
    let found: Vec<_> = endpoints
        .map(|one| {
            let text = format!("{one:?}");
            let address = ["10.0.0.1", "10.0.0.8", "10.0.0.9"]
                .into_iter()
                .find(|ip| text.contains(&format!("\"{ip}\"")));
            (address.expect("one of them"), text.contains("tlsMode"))
        })
        .collect();
    // A WorkloadEntry that says nothing is a process with a proxy.
    assert_eq!(
        found,
        [("10.0.0.8", false), ("10.0.0.9", true), ("10.0.0.1", true)]
    );
}
