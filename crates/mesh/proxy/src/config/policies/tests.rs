//! What is refused, by the field.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, CidrRange, DataSource, GrpcService, TypedExtensionConfig,
};
use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::route::v3::RouteMatch;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3 as asking;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network;
use envoy_types::pb::google::protobuf::Duration;

use super::super::check::At;
fn permission(rule: Rule) -> pb::Permission {
    pb::Permission { rule: Some(rule) }
}

fn policy(rule: Rule, identifier: Identifier) -> pb::Policy {
    pb::Policy {
        permissions: vec![permission(rule)],
        principals: vec![pb::Principal {
            identifier: Some(identifier),
        }],
        ..Default::default()
    }
}

fn rules(policy: pb::Policy) -> pb::Rbac {
    pb::Rbac {
        policies: [("p".to_owned(), policy)].into(),
        ..Default::default()
    }
}

fn refusal(policy: pb::Policy) -> String {
    let filter = http::Rbac {
        rules: Some(rules(policy)),
        ..Default::default()
    };
    let refused = super::requests(filter, &At::ROOT).expect_err("refused");
    refused.to_string()
}

fn extension() -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "x".to_owned(),
        typed_config: None,
    }
}

#[test]
fn policies_are_refused_by_field() {
    let any = || Rule::Any(true);
    let anybody = || Identifier::Any(true);
    let block = CidrRange {
        address_prefix: "here".to_owned(),
        prefix_len: None,
    };
    let mut deep = permission(any());
    for _ in 0..40 {
        deep = permission(Rule::NotRule(Box::new(deep)));
    }
    for (policy, expected) in [
        (
            policy(Rule::Any(false), anybody()),
            "permissions[0].any: it must be true",
        ),
        (
            policy(Rule::DestinationPort(70_000), anybody()),
            "permissions[0].destination_port: 70000 is not a port",
        ),
        (
            policy(Rule::Matcher(extension()), anybody()),
            "permissions[0].matcher: the extension \"x\" is not supported",
        ),
        (
            policy(Rule::AndRules(Default::default()), anybody()),
            "permissions[0].and_rules.rules: there must be at least one",
        ),
        (
            policy(any(), Identifier::FilterState(Default::default())),
            "principals[0].filter_state: is not supported",
        ),
        (
            policy(any(), Identifier::Custom(extension())),
            "principals[0].custom: the extension \"x\" is not supported",
        ),
        (
            policy(any(), Identifier::RemoteIp(block)),
            "principals[0].remote_ip.address_prefix: \"here\" is not an IP address",
        ),
        (
            policy(any(), Identifier::Metadata(Default::default())),
            "principals[0].metadata.filter: it must not be empty",
        ),
        (
            pb::Policy {
                condition: Some(Default::default()),
                ..policy(any(), anybody())
            },
            "condition: is not supported",
        ),
        (
            pb::Policy {
                principals: Vec::new(),
                ..policy(any(), anybody())
            },
            "principals: there must be at least one",
        ),
    ] {
        assert_eq!(refusal(policy), format!("rules.policies[\"p\"].{expected}"));
    }
    let deep = refusal(pb::Policy {
        permissions: vec![deep],
        ..policy(any(), anybody())
    });
    assert!(
        deep.ends_with("more than 32 conditions stand within each other"),
        "{deep}"
    );
}

#[test]
fn what_only_requests_have_is_refused_for_connections() {
    let header = Rule::Header(envoy_types::pb::envoy::config::route::v3::HeaderMatcher {
        name: "x".to_owned(),
        ..Default::default()
    });
    let filter = network::Rbac {
        stat_prefix: "tcp".to_owned(),
        rules: Some(rules(policy(header, Identifier::Any(true)))),
        ..Default::default()
    };
    let refused = super::connections(filter, &At::ROOT).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "rules: a connection has no header that a policy could ask for"
    );
    let refused = super::connections(network::Rbac::default(), &At::ROOT).expect_err("refused");
    assert_eq!(refused.to_string(), "stat_prefix: it must not be empty");
}

#[test]
fn services_that_are_asked_about_connections_are_refused_by_field() {
    type Change = fn(&mut asking::ExtAuthz);
    let cases: [(Change, &str); 7] = [
        (
            |it| it.stat_prefix.clear(),
            "stat_prefix: it must not be empty",
        ),
        (
            |it| it.grpc_service = None,
            "grpc_service: it must be given",
        ),
        (
            |it| it.transport_api_version = ApiVersion::V3 as i32 - 1,
            "transport_api_version: only V3 is supported",
        ),
        (
            |it| it.filter_enabled_metadata = Some(Default::default()),
            "filter_enabled_metadata.filter: it must not be empty",
        ),
        (
            |it| it.bootstrap_metadata_labels_key = "labels".to_owned(),
            "bootstrap_metadata_labels_key: is not supported",
        ),
        (
            |it| it.send_tls_alert_on_denial = true,
            "send_tls_alert_on_denial: is not supported",
        ),
        (
            |it| it.typed_metadata_context_namespaces = vec!["a".to_owned()],
            "typed_metadata_context_namespaces: is not supported",
        ),
    ];
    let filter = || asking::ExtAuthz {
        stat_prefix: "tcp.".to_owned(),
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "asker".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        ..Default::default()
    };
    let taken = super::connection_authorizer(filter(), &At::ROOT).expect("valid");
    assert_eq!(taken.service.timeout, Some(Duration::from_millis(200)));
    for (change, expected) in cases {
        let mut filter = filter();
        change(&mut filter);
        let refused = super::connection_authorizer(filter, &At::ROOT).expect_err("refused");
        assert_eq!(refused.to_string(), expected);
    }
}

#[test]
fn tokens_are_refused_by_field() {
    let keys = |text: &str| {
        Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..Default::default()
        }))
    };
    let good = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let with = |provider: jwt::JwtProvider, requires: Option<RequiresType>| {
        let filter = jwt::JwtAuthentication {
            providers: [("p".to_owned(), provider)].into(),
            rules: vec![jwt::RequirementRule {
                r#match: Some(RouteMatch {
                    path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                    ..Default::default()
                }),
                requirement_type: requires.map(|kind| {
                    RequirementType::Requires(jwt::JwtRequirement {
                        requires_type: Some(kind),
                    })
                }),
            }],
            ..Default::default()
        };
        super::tokens(filter, &At::ROOT).map_err(|refused| refused.to_string())
    };
    let provider = || jwt::JwtProvider {
        jwks_source_specifier: keys(good),
        ..Default::default()
    };
    assert!(with(provider(), None).is_ok());
    let of = |jwks_source_specifier| jwt::JwtProvider {
        jwks_source_specifier,
        ..Default::default()
    };
    let remote = JwksSourceSpecifier::RemoteJwks(Default::default());
    let unknown = RequiresType::ProviderName("q".to_owned());
    let extract = RequiresType::ExtractOnlyWithoutValidation(Default::default());
    for (provider, requires, expected) in [
        (
            of(None),
            None,
            "providers[\"p\"]: local_jwks or remote_jwks must be given",
        ),
        (
            of(keys("{}")),
            None,
            "providers[\"p\"].local_jwks: it has no array \"keys\"",
        ),
        (
            of(keys(r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#)),
            None,
            "providers[\"p\"].local_jwks: it has no key of RSA (2048 bits and more), EC, Ed25519 or HMAC (32 bytes and more)",
        ),
        (
            of(Some(remote)),
            None,
            "providers[\"p\"].remote_jwks.http_uri: it must be given",
        ),
        (
            jwt::JwtProvider {
                max_lifetime: Some(Duration::default()),
                ..provider()
            },
            None,
            "providers[\"p\"].max_lifetime: is not supported",
        ),
        (
            provider(),
            Some(unknown),
            "rules[0].requires.provider_name: there is no provider \"q\"",
        ),
        (
            provider(),
            Some(extract),
            "rules[0].requires.extract_only_without_validation: is not supported",
        ),
    ] {
        assert_eq!(with(provider, requires).expect_err("refused"), expected);
    }
}
