//! RequestAuthentications as Envoy's filter of tokens, in Istio's shape.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HttpUri};
use envoy_types::pb::envoy::config::route::v3::RouteMatch;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
    JwtRequirementAndList, JwtRequirementOrList, RemoteJwks, RequirementRule,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::google::protobuf::{Any, Empty};
use periplus_resources::{Host, JwksSource, JwtRule};
use prost::{Message as _, Name as _};

use super::cluster;
use super::proto::duration;
use crate::index::Index;
use crate::names;
use crate::proxy::{Proxy, Role};

/// `envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication`, whose providers have an order here: the same
/// issuers are always the same bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Tokens {
    #[prost(btree_map = "string, message", tag = "1")]
    providers: BTreeMap<String, JwtProvider>,
    #[prost(message, repeated, tag = "2")]
    rules: Vec<RequirementRule>,
    #[prost(bool, tag = "4")]
    bypass_cors_preflight: bool,
}

/// A key that nobody has the other half of: `x` is SHA-256 of `periplus: the key of nobody 3`, the first such number that
/// is one of a point. Until the keys of an issuer have come, no token of it holds.
const NOBODYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"0RUbbLpAf6qHPKS8Dm8tUjxMMg2VBEVPGuBvfa7685g","y":"KVBMFJwI05OBcasao4koRpt6q4y4M-lkuqv_4bdYELw"}]}"#;

/// Claims that are lists of words.
const LISTS: [&str; 2] = ["scope", "permission"];

/// The issuers whose tokens a proxy checks, in the order of their names.
fn rules<'a>(index: &'a Index, proxy: &Proxy) -> Vec<&'a JwtRule> {
    let own = index.request_authentications_of(proxy);
    let mut rules: Vec<_> = own.flat_map(|entry| &entry.spec.rules).collect();
    rules.sort_by(|one, other| one.issuer.cmp(&other.issuer));
    rules
}

/// The services that a proxy fetches keys from.
pub(super) fn services<'a>(
    index: &'a Index,
    proxy: &Proxy,
) -> impl Iterator<Item = Host> + use<'a> {
    let rules = rules(index, proxy).into_iter();
    rules.filter_map(|rule| match &rule.keys {
        JwksSource::Remote {
            host,
            is_tls: false,
            ..
        } => Host::parse(host).ok(),
        _ => None,
    })
}

/// The clusters of servers that it fetches keys from over TLS.
pub(super) fn clusters(index: &Index, proxy: &Proxy) -> Vec<Cluster> {
    let rules = rules(index, proxy).into_iter();
    let servers: BTreeSet<_> = rules
        .filter_map(|rule| match &rule.keys {
            JwksSource::Remote {
                host,
                port,
                is_tls: true,
                ..
            } => Some((host.as_str(), *port)),
            _ => None,
        })
        .collect();
    let servers = servers.into_iter();
    servers
        .map(|(host, port)| {
            cluster::over_tls((index, proxy), &key_cluster(host, port), (host, port))
        })
        .collect()
}

fn key_cluster(host: &str, port: u16) -> String {
    format!("jwks|{port}||{host}")
}

/// The filter, if there are issuers.
pub(super) fn filter(index: &Index, proxy: &Proxy) -> Option<HttpFilter> {
    let rules = rules(index, proxy);
    if rules.is_empty() {
        return None;
    }
    let named = rules.iter().enumerate();
    // Only there may rules route by what a token says, as in Istio.
    let is_gateway = proxy.role == Role::Router;
    let named = named.map(|(at, rule)| {
        let provider = JwtProvider {
            clear_route_cache: is_gateway,
            ..provider(index, rule)
        };
        (format!("origins-{at}"), provider)
    });
    let providers: BTreeMap<_, _> = named.collect();
    let names: Vec<_> = (0..rules.len()).map(|at| format!("origins-{at}")).collect();
    let config = Tokens {
        providers,
        rules: vec![RequirementRule {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".into())),
                ..RouteMatch::default()
            }),
            requirement_type: Some(RequirementType::Requires(requirement(&names))),
        }],
        bypass_cors_preflight: true,
    };
    Some(HttpFilter {
        name: "envoy.filters.http.jwt_authn".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any {
            type_url: JwtAuthentication::type_url(),
            value: config.encode_to_vec(),
        })),
        ..HttpFilter::default()
    })
}

/// No token will do, and so will a good one of any issuer: several are each looked at by their own issuer.
fn requirement(names: &[String]) -> JwtRequirement {
    let of = |name: &String| of_kind(RequiresType::ProviderName(name.clone()));
    let or_none = |name: &String| {
        any_of(vec![
            of(name),
            of_kind(RequiresType::AllowMissing(Empty::default())),
        ])
    };
    if let [only] = names {
        return or_none(only);
    }
    let all = JwtRequirementAndList {
        requirements: names.iter().map(or_none).collect(),
    };
    let mut requirements: Vec<_> = names.iter().map(of).collect();
    requirements.push(of_kind(RequiresType::RequiresAll(all)));
    any_of(requirements)
}

fn any_of(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    of_kind(RequiresType::RequiresAny(JwtRequirementOrList {
        requirements,
    }))
}

fn of_kind(kind: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(kind),
    }
}

fn provider(index: &Index, rule: &JwtRule) -> JwtProvider {
    let lists = LISTS.into_iter().map(str::to_owned);
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forwards,
        forward_payload_header: rule.payload_header.clone().unwrap_or_default(),
        payload_in_metadata: "payload".into(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: lists.chain(rule.lists.iter().cloned()).collect(),
        }),
        from_headers: rule
            .from_headers
            .iter()
            .map(|header| JwtHeader {
                name: header.name.clone(),
                value_prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        claim_to_headers: rule
            .claim_headers
            .iter()
            .map(|(header, claim)| JwtClaimToHeader {
                header_name: header.clone(),
                claim_name: claim.clone(),
                ..JwtClaimToHeader::default()
            })
            .collect(),
        jwks_source_specifier: Some(keys(index, rule)),
        ..JwtProvider::default()
    }
}

/// Keys that cannot be had fail every token: the cluster is named whether or not it is there.
fn keys(index: &Index, rule: &JwtRule) -> JwksSourceSpecifier {
    match &rule.keys {
        JwksSource::Inline(keys) => local(keys.expose()),
        // They go to proxies as they were found: the issuer need not be within their reach.
        JwksSource::Discovered { timeout } => match index.issuer_keys() {
            Some(found) => local(found.get(&rule.issuer).map_or(NOBODYS, |keys| &**keys)),
            // Where files alone are read nobody asks the issuer, and what its tokens are worth stays open.
            None => JwksSourceSpecifier::RemoteJwks(RemoteJwks {
                http_uri: Some(HttpUri {
                    uri: rule.issuer.clone(),
                    timeout: duration(*timeout),
                    http_upstream_type: Some(HttpUpstreamType::Cluster("discovered".into())),
                }),
                ..RemoteJwks::default()
            }),
        },
        JwksSource::Remote {
            uri,
            host,
            port,
            timeout,
            is_tls,
        } => JwksSourceSpecifier::RemoteJwks(RemoteJwks {
            http_uri: Some(HttpUri {
                uri: uri.clone(),
                timeout: duration(*timeout),
                http_upstream_type: Some(HttpUpstreamType::Cluster(match is_tls {
                    true => key_cluster(host, *port),
                    false => names::outbound_cluster(*port, "", host),
                })),
            }),
            ..RemoteJwks::default()
        }),
    }
}

fn local(keys: &str) -> JwksSourceSpecifier {
    JwksSourceSpecifier::LocalJwks(DataSource {
        specifier: Some(Specifier::InlineString(keys.to_owned())),
        ..DataSource::default()
    })
}
