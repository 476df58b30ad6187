//! PeerAuthentication, auto mTLS, and the TLS of DestinationRules.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{Node, TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_control::{Generated, Index};
use periplus_resources::{MeshConfig, parse_resources};

use crate::generate::{made, mesh_config, resources_of};
use crate::support::render::unpack;
use crate::support::{Plan, gateway, invariants, node, set, sidecar};

fn certified(more: &str, mesh: MeshConfig) -> Index {
    Index::certified(&resources_of(&[], more), mesh)
}

fn peer(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// `transport_protocol/ALPN+ALPN` of each chain, and `!` where it terminates TLS.
fn chains(listener: &Listener) -> Vec<String> {
    let chains = listener.filter_chains.iter().map(|chain| {
        let conditions = chain.filter_chain_match.clone().unwrap_or_default();
        let names = conditions.application_protocols.join("+");
        let ends = if chain.transport_socket.is_some() {
            "!"
        } else {
            ""
        };
        format!("{}/{names}{ends}", conditions.transport_protocol)
    });
    chains.collect()
}

const OFFERED: &str = "istio-peer-exchange+istio+istio-http/1.0+istio-http/1.1+istio-h2";

fn inbound(made: &Generated) -> &Listener {
    let port = Plan::fixed().workloads[2].inbound;
    let name = format!("127.0.0.1_{port}");
    made.listeners
        .iter()
        .find(|listener| listener.name == name)
        .expect("the listener for requests to reviews v1")
}

#[test]
fn the_narrowest_policy_counts() {
    let port = Plan::fixed().workloads[2].inbound;
    let other = Plan::fixed().workloads[0].inbound;
    let mode = |mode: &str| format!("{{mtls: {{mode: {mode}}}}}");
    let selecting = |labels: &str, mode: &str, port: u16, of_port: &str| {
        format!(
            "{{selector: {{matchLabels: {labels}}}, mtls: {{mode: {mode}}}, portLevelMtls: {{{port}: {{mode: {of_port}}}}}}}"
        )
    };
    let permissive = vec![format!("tls/{OFFERED}!"), "raw_buffer/".to_owned()];
    let strict = vec!["tls/!".to_owned()];
    let plaintext = vec!["/".to_owned()];
    let mesh = |spec: &str| peer("mesh", "istio-system", spec);
    let namespace = |spec: &str| peer("all", "default", spec);
    let workload = |spec: &str| peer("reviews", "default", spec);
    for (policies, expected) in [
        (String::new(), &permissive),
        (mesh(&mode("STRICT")), &strict),
        (mesh(&mode("DISABLE")), &plaintext),
        (mesh(&mode("UNSET")), &permissive),
        (
            mesh(&mode("STRICT")) + &namespace(&mode("PERMISSIVE")),
            &permissive,
        ),
        (mesh(&mode("STRICT")) + &namespace(&mode("UNSET")), &strict),
        (
            mesh(&mode("STRICT")) + &peer("all", "shop", &mode("DISABLE")),
            &strict,
        ),
        (
            namespace(&mode("STRICT"))
                + &workload(&selecting("{app: reviews}", "DISABLE", other, "STRICT")),
            &plaintext,
        ),
        (
            namespace(&mode("DISABLE"))
                + &workload(&selecting("{app: reviews}", "UNSET", port, "STRICT")),
            &strict,
        ),
        (
            namespace(&mode("STRICT"))
                + &workload(&selecting("{app: reviews}", "UNSET", port, "UNSET")),
            &strict,
        ),
        (
            namespace(&mode("STRICT"))
                + &workload(&selecting("{app: ratings}", "DISABLE", port, "DISABLE")),
            &strict,
        ),
        // Of several, the first one.
        (
            namespace(&mode("STRICT")) + &peer("zzz", "default", &mode("DISABLE")),
            &strict,
        ),
    ] {
        let index = certified(&policies, MeshConfig::default());
        let made = made(&index, &sidecar("reviews", "v1"));
        assert_eq!(&chains(inbound(&made)), expected, "{policies}");
    }
}

#[test]
fn connections_to_an_ingress_of_tcp_are_passed_on_as_they_are() {
    let database = |mode: &str, protocol: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: db}}\nspec:\n  \
             workloadSelector: {{labels: {{app: db}}}}\n  ingress:\n  - port: {{number: 3306, protocol: {protocol}, name: db}}\n    \
             bind: 127.0.0.1\n    captureMode: NONE\n    defaultEndpoint: 127.0.0.1:3307\n"
        ) + &peer(
            "default",
            "istio-system",
            &format!("{{mtls: {{mode: {mode}}}}}"),
        ) + "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: db}\nspec: {}\n"
    };
    let id = "sidecar~127.0.0.1~db-v1.default~default.svc.cluster.local";
    let db = node(id, "db.default", "default", &[("app", "db")]);
    for (mode, protocol, ends, count) in [
        ("DISABLE", "TCP", ["rbac", "tcp_proxy"], 1),
        ("PERMISSIVE", "MYSQL", ["rbac", "tcp_proxy"], 3),
        ("STRICT", "TLS", ["rbac", "tcp_proxy"], 1),
        ("STRICT", "HTTP", ["http_connection_manager"; 2], 1),
    ] {
        let index = certified(&database(mode, protocol), MeshConfig::default());
        let made = made(&index, &db);
        let chains = &made.listeners[0].filter_chains;
        assert_eq!(chains.len(), count, "{mode} {protocol}");
        for chain in chains {
            let names = [chain.filters.first(), chain.filters.last()];
            let names = names.map(|filter| filter.map(|filter| filter.name.as_str()));
            let expected = ends.map(|name| format!("envoy.filters.network.{name}"));
            assert_eq!(names, expected.each_ref().map(|name| Some(name.as_str())));
        }
    }
}

fn socket(socket: &TransportSocket) -> UpstreamTlsContext {
    let Some(transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type else {
        panic!("{socket:?}");
    };
    unpack(config)
}

fn expected_names(common: &CommonTlsContext) -> Vec<String> {
    let validation: &CertificateValidationContext = match &common.validation_context_type {
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.default_validation_context.as_ref().expect("one")
        }
        Some(ValidationContextType::ValidationContext(given)) => given,
        other => panic!("{other:?}"),
    };
    let names = validation.match_typed_subject_alt_names.iter();
    let name = |pattern: &MatchPattern| match pattern {
        MatchPattern::Exact(name) => name.clone(),
        MatchPattern::Prefix(prefix) => format!("{prefix}*"),
        other => panic!("{other:?}"),
    };
    let patterns = names.filter_map(|san| san.matcher.as_ref()?.match_pattern.as_ref());
    patterns.map(name).collect()
}

fn cluster<'a>(made: &'a Generated, name: &str) -> &'a Cluster {
    let mut clusters = made.clusters.iter();
    clusters.find(|cluster| cluster.name == name).expect(name)
}

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

/// Whether each endpoint says that it speaks mutual TLS.
fn modes(made: &Generated, name: &str) -> Vec<bool> {
    let mut assigned = made.endpoints.iter();
    let assigned = assigned.find(|one| one.cluster_name == name).expect(name);
    let endpoints = assigned.endpoints.iter().flat_map(|it| &it.lb_endpoints);
    let is_istio = |metadata: &envoy_types::pb::envoy::config::core::v3::Metadata| {
        let of_sockets = metadata.filter_metadata.get("envoy.transport_socket_match");
        let mode = of_sockets.and_then(|it| it.fields.get("tlsMode"));
        let istio = Value {
            kind: Some(Kind::StringValue("istio".to_owned())),
        };
        mode == Some(&istio)
    };
    endpoints
        .map(|endpoint| endpoint.metadata.as_ref().is_some_and(is_istio))
        .collect()
}

#[test]
fn clients_secure_what_servers_can() {
    let mesh = "trustDomain: td.example\ntrustDomainAliases: [old.example]\n";
    let index = certified("", mesh_config(mesh));
    for node in [sidecar("productpage", "v1"), gateway()] {
        let made = made(&index, &node);
        invariants::check(&made);
        let secured = cluster(&made, REVIEWS);
        let [istio, plain] = secured.transport_socket_matches.as_slice() else {
            panic!("{secured:?}");
        };
        assert_eq!(
            (istio.name.as_str(), plain.name.as_str()),
            ("tlsMode-istio", "tlsMode-disabled")
        );
        let context = socket(istio.transport_socket.as_ref().expect("TLS"));
        assert_eq!(
            context.sni,
            "outbound_.9080_._.reviews.default.svc.cluster.local"
        );
        let common = context.common_tls_context.expect("one");
        assert_eq!(
            expected_names(&common),
            [
                "spiffe://old.example/ns/default/sa/bookinfo-reviews",
                "spiffe://td.example/ns/default/sa/bookinfo-reviews",
            ]
        );
        assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
        assert_eq!(modes(&made, REVIEWS), [true; 3]);
    }
    // The server believes its trust domain, and the aliases of that.
    let made = made(&index, &sidecar("reviews", "v1"));
    let chain = &inbound(&made).filter_chains[0];
    let Some(transport_socket::ConfigType::TypedConfig(config)) =
        &chain.transport_socket.as_ref().expect("TLS").config_type
    else {
        panic!("{chain:?}");
    };
    let context: DownstreamTlsContext = unpack(config);
    assert_eq!(
        context.require_client_certificate.map(|it| it.value),
        Some(true)
    );
    assert_eq!(
        expected_names(&context.common_tls_context.expect("one")),
        ["spiffe://td.example/*", "spiffe://old.example/*"]
    );
}

#[test]
fn plaintext_where_it_must_be() {
    let disabled = peer("all", "default", "{mtls: {mode: DISABLE}}");
    let rule = |tls: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews}}\n\
             spec: {{host: reviews, trafficPolicy: {{tls: {tls}}}}}\n"
        )
    };
    for (more, mesh, matches, mode) in [
        (disabled, "", 2, false),
        (String::new(), "enableAutoMtls: false", 0, false),
        (rule("{mode: DISABLE}"), "", 0, true),
    ] {
        let index = certified(&more, mesh_config(mesh));
        let made = made(&index, &sidecar("productpage", "v1"));
        let cluster = cluster(&made, REVIEWS);
        assert_eq!(
            cluster.transport_socket_matches.len(),
            matches,
            "{more}{mesh}"
        );
        assert_eq!(cluster.transport_socket, None, "{more}{mesh}");
        assert_eq!(modes(&made, REVIEWS), [mode; 3], "{more}{mesh}");
    }
    for (tls, sni, names) in [
        (
            "{mode: ISTIO_MUTUAL}",
            "outbound_.9080_._.reviews.default.svc.cluster.local",
            vec!["spiffe://cluster.local/ns/default/sa/bookinfo-reviews"],
        ),
        (
            "{mode: ISTIO_MUTUAL, sni: a.example, subjectAltNames: [spiffe://x/ns/y/sa/z]}",
            "a.example",
            vec!["spiffe://x/ns/y/sa/z"],
        ),
        (
            "{mode: SIMPLE}",
            "reviews.default.svc.cluster.local",
            vec!["reviews.default.svc.cluster.local"],
        ),
        (
            "{mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c, sni: x.example, \
             subjectAltNames: [y.example]}",
            "x.example",
            vec!["y.example"],
        ),
    ] {
        let index = certified(&rule(tls), MeshConfig::default());
        let made = made(&index, &sidecar("productpage", "v1"));
        let cluster = cluster(&made, REVIEWS);
        assert!(cluster.transport_socket_matches.is_empty(), "{tls}");
        let context = socket(cluster.transport_socket.as_ref().expect(tls));
        assert_eq!(context.sni, sni, "{tls}");
        let common = context.common_tls_context.expect("one");
        assert_eq!(expected_names(&common), names, "{tls}");
        let is_mutual = tls.contains("mode: MUTUAL");
        assert_eq!(
            common.tls_certificates.len(),
            usize::from(is_mutual),
            "{tls}"
        );
    }
}

/// Of the sheet's table: what a virtualInbound listener has for a port.
#[test]
fn intercepted_workloads_ask_the_same() {
    let mesh = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, targetPort: 8080}, {number: 82, name: tcp}, {number: 83, name: unknown}]
  endpoints: [{address: 10.0.0.5, serviceAccount: shop}]
";
    let http = "istio-http/1.0+istio-http/1.1+istio-h2";
    let tcp = "istio-peer-exchange+istio";
    let looks = "raw_buffer/http/1.1+h2c".to_owned();
    let (plain, tls) = ("raw_buffer/".to_owned(), "tls/".to_owned());
    let all = || vec!["/".to_owned()];
    let of_unknown = |mode: &str| match mode {
        "PERMISSIVE" => vec![
            format!("tls/{http}!"),
            looks.clone(),
            format!("tls/{tcp}!"),
            plain.clone(),
            tls.clone(),
        ],
        "STRICT" => vec![format!("tls/{http}!"), "tls/!".to_owned()],
        _ => vec![looks.clone(), plain.clone(), "/".to_owned()],
    };
    for (mode, of_http, of_tcp) in [
        (
            "PERMISSIVE",
            vec![format!("tls/{OFFERED}!"), plain.clone()],
            vec![format!("tls/{OFFERED}!"), tls.clone(), plain.clone()],
        ),
        ("STRICT", vec!["tls/!".to_owned()], vec!["tls/!".to_owned()]),
        ("DISABLE", all(), all()),
    ] {
        let policy = peer("all", "default", &format!("{{mtls: {{mode: {mode}}}}}"));
        let parsed = parse_resources("mesh.yaml", &(mesh.to_owned() + &policy));
        assert_eq!(parsed.errors, []);
        let index = Index::certified(&parsed.resources, MeshConfig::default());
        let id = "sidecar~10.0.0.5~shop-1.default~default.svc.cluster.local";
        let mut node = node(id, "shop", "default", &[("app", "shop")]);
        let text = Value {
            kind: Some(Kind::StringValue("REDIRECT".to_owned())),
        };
        let metadata = node.metadata.get_or_insert_default();
        metadata.fields.insert("INTERCEPTION_MODE".to_owned(), text);
        let made = made(&index, &node);
        let listener = made
            .listeners
            .iter()
            .find(|one| one.name == "virtualInbound");
        let listener = listener.expect("it");
        let of_port = |port: Option<u32>| {
            let mut only = listener.clone();
            only.filter_chains.retain(|chain| {
                let conditions = chain.filter_chain_match.as_ref();
                conditions
                    .and_then(|it| it.destination_port)
                    .map(|it| it.value)
                    == port
            });
            chains(&only)
        };
        assert_eq!(of_port(Some(8080)), of_http, "{mode}");
        assert_eq!(of_port(Some(82)), of_tcp, "{mode}");
        assert_eq!(of_port(Some(83)), of_unknown(mode), "{mode}");
        assert_eq!(of_port(None), of_unknown(mode), "{mode}");
    }
}

/// Both ends say who they are where both are our proxies, and never where requests say it in headers. An Envoy could neither
/// say it nor hear it.
#[test]
fn ends_of_connections_of_tcp_say_who_they_are() {
    const MESH: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 82, name: tcp}, {number: 83, name: unknown}]
  workloadSelector: {labels: {app: shop}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop-v1}
spec: {address: 10.0.0.5, serviceAccount: shop, labels: {app: shop, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop-v2}
spec: {address: 10.0.0.6, labels: {service.istio.io/canonical-name: store, app: shop}}
";
    let parsed = parse_resources("mesh.yaml", MESH);
    assert_eq!(parsed.errors, []);
    let index = Index::certified(&parsed.resources, MeshConfig::default());
    for (agent, says_it) in [("periplus", true), ("envoy", false)] {
        let id = "sidecar~10.0.0.5~shop-v1.default~default.svc.cluster.local";
        let mut node = Node {
            user_agent_name: agent.to_owned(),
            ..node(id, "shop", "default", &[("app", "shop"), ("version", "v1")])
        };
        set(&mut node, "INTERCEPTION_MODE", "REDIRECT");
        set(&mut node, "CLUSTER_ID", "c1");
        let made = made(&index, &node);
        for (port, is_http) in [(80, true), (82, false), (83, false)] {
            let name = format!("outbound|{port}||shop.default.svc.cluster.local");
            let cluster = cluster(&made, &name);
            let filters = cluster.filters.iter().map(|filter| filter.name.as_str());
            let socket = &cluster.transport_socket_matches[0].transport_socket;
            let context = self::socket(socket.as_ref().expect("TLS"));
            let offered = context.common_tls_context.expect("one").alpn_protocols;
            let offers = offered.iter().any(|name| name == "istio-peer-exchange");
            let expected = says_it && !is_http;
            assert_eq!(offers, expected, "{agent} to {port}");
            assert_eq!(filters.count(), usize::from(expected), "{agent} to {port}");
            let assigned = made.endpoints.iter().find(|one| one.cluster_name == name);
            let endpoints = &assigned.expect("endpoints").endpoints[0].lb_endpoints;
            let workload = |endpoint: &LbEndpoint| {
                let metadata = endpoint.metadata.as_ref().expect("metadata");
                let kind = metadata.filter_metadata["istio"].fields["workload"]
                    .kind
                    .clone();
                let Some(Kind::StringValue(said)) = kind else {
                    panic!("{kind:?}");
                };
                said
            };
            let said: Vec<_> = endpoints.iter().map(workload).collect();
            assert_eq!(
                said,
                ["shop-v1;default;shop;v1;c1", "shop-v2;default;store;;c1"]
            );
        }
        let listener = made
            .listeners
            .iter()
            .find(|one| one.name == "virtualInbound");
        for chain in &listener.expect("it").filter_chains {
            let is_tcp = chain
                .filters
                .last()
                .expect("one")
                .name
                .ends_with("tcp_proxy");
            let hears = chain.filters[0].name == "istio.metadata_exchange";
            assert_eq!(hears, is_tcp && says_it, "{agent}: {chain:?}");
            let Some(socket) = &chain.transport_socket else {
                continue;
            };
            let Some(transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type
            else {
                panic!("{socket:?}");
            };
            let context: DownstreamTlsContext = unpack(config);
            let offered = context.common_tls_context.expect("one").alpn_protocols;
            let expected: &[&str] = match (is_tcp, says_it) {
                (false, _) => &["h2", "http/1.1"],
                (true, true) => &["istio-peer-exchange", "istio"],
                (true, false) => &["istio"],
            };
            assert_eq!(offered, expected, "{agent}");
        }
    }
}

#[test]
fn what_needs_an_authority_says_so_where_there_is_none() {
    let strict = peer("all", "default", "{mtls: {mode: STRICT}}");
    let twice = peer("again", "default", "{}");
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\n\
                spec: {host: reviews, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n";
    let resources = resources_of(&[], &(strict + &twice + rule));
    let problems = |index: &Index| -> Vec<String> {
        let problems = index.problems().iter().map(ToString::to_string);
        problems
            .filter(|text| text.contains("has no effect"))
            .collect()
    };
    let without = Index::new(&resources, MeshConfig::default());
    let found = problems(&without);
    for text in [
        "PeerAuthentication default/all has no effect: this control plane has no certificate authority",
        "ISTIO_MUTUAL of DestinationRule default/reviews has no effect",
        "give it a selector or remove it",
    ] {
        assert!(
            found.iter().any(|one| one.contains(text)),
            "{text}: {found:?}"
        );
    }
    let made = made(&without, &sidecar("reviews", "v1"));
    assert_eq!(chains(inbound(&made)), ["/"]);
    let with = Index::certified(&resources, MeshConfig::default());
    assert_eq!(
        problems(&with).len(),
        1,
        "only one of the two for the namespace"
    );
}
