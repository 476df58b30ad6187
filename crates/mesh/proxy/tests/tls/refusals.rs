//! What the proxy does not support of TLS is refused by name.

#![expect(
    deprecated,
    reason = "control planes still send the older forms of some fields"
)]

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config;
use envoy_types::pb::envoy::config::core::v3::{ApiConfigSource, ConfigSource, GrpcService};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType::ValidationContext;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use periplus_xds::type_url::{CLUSTER, LISTENER};

use crate::authority::{Authority, Pair};
use crate::inspection::with_header;
use crate::world::{Told, World, inline_context, originating, plaintext, terminating, trusting};
use crate::xds_support::{PATIENCE, free_address};

/// A certificate from the agent of Istio's bootstrap files.
fn of_agent() -> SdsSecretConfig {
    let target = TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
        cluster_name: "sds-grpc".to_owned(),
        ..Default::default()
    });
    let api = ApiConfigSource {
        grpc_services: vec![GrpcService {
            target_specifier: Some(target),
            ..Default::default()
        }],
        ..Default::default()
    };
    SdsSecretConfig {
        name: "default".to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
            ..Default::default()
        }),
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let authority = Authority::new("root");
    let at = free_address().await;
    let good = Told::default().cluster("app", at, |_| ());
    let world = World::begin(&good, serde_json::json!([])).await;
    let told = |edit: &dyn Fn(&mut cluster::Cluster)| good.clone().cluster("c", at, edit);
    type Change<'a> = &'a dyn Fn(&mut cluster::Cluster);
    let context = || trusting(&authority);
    let other: Pair = Authority::new("other").server("y");
    let mixed = || {
        let mut pair = authority.server("x");
        pair.key.clone_from(&other.key);
        inline_context(&pair)
    };
    let cases: [(Change<'_>, &str); 9] = [
        (
            &|c| c.transport_socket = originating(context(), |tls| tls.allow_renegotiation = true),
            "cluster \"c\": transport_socket.allow_renegotiation: is not supported",
        ),
        (
            &|c| c.transport_socket = originating(context(), |tls| tls.sni = "10.0.0.1".to_owned()),
            "cluster \"c\": transport_socket.sni: \"10.0.0.1\" is not a DNS name",
        ),
        (
            &|c| c.transport_socket = originating(mixed(), |_| ()),
            "cluster \"c\": transport_socket.common_tls_context.tls_certificates[0].private_key: ",
        ),
        (
            &|c| {
                let mut context = context();
                context.tls_params = Some(crate::world::suites(&["RC4-MD5"]));
                c.transport_socket = originating(context, |_| ());
            },
            "common_tls_context.tls_params.cipher_suites[0]: \"RC4-MD5\" is not supported",
        ),
        (
            &|c| {
                let mut context = context();
                context.tls_params = Some(crate::world::suites(&["AES128-SHA"]));
                c.transport_socket = originating(context, |_| ());
            },
            "common_tls_context.tls_params.cipher_suites: none of them is supported",
        ),
        (
            &|c| c.transport_socket = originating(context(), |tls| tls.auto_host_sni = true),
            "transport_socket.auto_host_sni: is not supported",
        ),
        (
            &|c| {
                let mut context = context();
                context.tls_certificate_sds_secret_configs = vec![of_agent()];
                c.transport_socket = originating(context, |_| ());
            },
            "tls_certificate_sds_secret_configs[0].sds_config: comes from the proxy's agent: start the proxy \
             with --token-file",
        ),
        // Anybody can write any name into a certificate of their own.
        (
            &|c| {
                let mut context = context();
                if let Some(ValidationContext(given)) = &mut context.validation_context_type {
                    given.trusted_ca = None;
                    given.match_subject_alt_names = vec![Default::default()];
                    given.match_subject_alt_names[0].match_pattern = Some(MatchPattern::Exact(
                        "spiffe://cluster.local/ns/a/sa/b".to_owned(),
                    ));
                }
                c.transport_socket = originating(context, |_| ());
            },
            "cluster \"c\": transport_socket.common_tls_context.validation_context: names are asked for, but no root: \
             add trusted_ca",
        ),
        (
            &|c| {
                c.http2_protocol_options = Some(Default::default());
                let version = proxy_protocol_config::Version::V2;
                c.transport_socket = with_header(version, Some(plaintext()));
            },
            "transport_socket: the PROXY protocol is not supported with HTTP/2",
        ),
    ];
    for (change, expected) in cases {
        world.tell(&told(change));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let message = world.refusal(CLUSTER).await;
            if message.contains(expected) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{message}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let no_certificate = good.clone().http("l", at, "app", |listener, _| {
        listener.filter_chains[0].transport_socket = terminating(Default::default(), |_| ());
    });
    world.tell(&no_certificate);
    let message = world.refusal(LISTENER).await;
    let expected = "listener \"l\": filter_chains[0].transport_socket.common_tls_context: \
                    a certificate must be given";
    assert!(message.contains(expected), "{message}");
}
