//! Filters that ask services, and the requests that are held against each of them.

use std::collections::HashMap;

use super::rbac::{allow_whom, anything, enforced, exact, header, who};
use super::{Filters, filter};
use crate::filters::share;
use crate::xds_support::resources::path_prefix;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService, HeaderValue, HttpUri, RuntimeFeatureFlag,
};
use envoy_types::pb::envoy::config::rbac::v3::principal::Identifier;
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as RouteAction;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route, RouteMatch,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, CheckSettings, ExtAuthz,
    ExtAuthzPerRoute, HttpService,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern as ValuePattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, StringMatcher, ValueMatcher,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration as Span};
use envoy_types::util::pack_any;

fn grpc(cluster: &str, ms: i32) -> Option<Services> {
    Some(Services::GrpcService(GrpcService {
        timeout: Some(Span {
            seconds: 0,
            nanos: ms * 1_000_000,
        }),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
            authority: "authorizer".to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }))
}

fn http(ms: i32, edit: impl FnOnce(&mut HttpService)) -> Option<Services> {
    let mut service = HttpService {
        server_uri: Some(HttpUri {
            uri: "http://authorizer".to_owned(),
            timeout: Some(Span {
                seconds: 0,
                nanos: ms * 1_000_000,
            }),
            http_upstream_type: Some(HttpUpstreamType::Cluster("ask-http".to_owned())),
        }),
        ..HttpService::default()
    };
    edit(&mut service);
    Some(Services::HttpService(service))
}

fn names(all: &[&str]) -> Option<ListStringMatcher> {
    let pattern = |name: &&str| StringMatcher {
        match_pattern: Some(match name.strip_suffix('*') {
            Some(prefix) => MatchPattern::Prefix(prefix.to_owned()),
            None => MatchPattern::Exact((*name).to_owned()),
        }),
        ..StringMatcher::default()
    };
    Some(ListStringMatcher {
        patterns: all.iter().map(pattern).collect(),
    })
}

fn asking(services: Option<Services>) -> ExtAuthz {
    ExtAuthz {
        services,
        transport_api_version: ApiVersion::V3.into(),
        ..ExtAuthz::default()
    }
}

fn moving(asking: ExtAuthz) -> ExtAuthz {
    ExtAuthz {
        clear_route_cache: true,
        ..asking
    }
}

fn body(
    max_request_bytes: u32,
    allow_partial_message: bool,
    pack_as_bytes: bool,
) -> Option<BufferSettings> {
    Some(BufferSettings {
        max_request_bytes,
        allow_partial_message,
        pack_as_bytes,
    })
}

fn metadata(filter: &str, key: &str, pattern: MatchPattern) -> MetadataMatcher {
    MetadataMatcher {
        filter: filter.to_owned(),
        path: vec![PathSegment {
            segment: Some(path_segment::Segment::Key(key.to_owned())),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(ValuePattern::StringMatch(StringMatcher {
                match_pattern: Some(pattern),
                ..StringMatcher::default()
            })),
        }),
        invert: false,
    }
}

/// How many filters there are.
pub(crate) fn count() -> usize {
    filters().len()
}

/// The filters, by name.
pub(super) fn filters() -> Vec<(&'static str, Filters)> {
    const LONG: i32 = 900;
    let one = |config: ExtAuthz| vec![filter("envoy.filters.http.ext_authz", config)];
    let status = |code: i32| Some(HttpStatus { code });
    let telling = |service: &mut HttpService| {
        service.path_prefix = "/check".to_owned();
        service.authorization_request = Some(AuthorizationRequest {
            headers_to_add: vec![HeaderValue {
                key: "x-from".to_owned(),
                value: "the proxy".to_owned(),
                ..HeaderValue::default()
            }],
            ..AuthorizationRequest::default()
        });
        service.authorization_response = Some(AuthorizationResponse {
            allowed_upstream_headers: names(&["x-auth-over"]),
            allowed_upstream_headers_to_append: names(&["x-auth-append"]),
            allowed_client_headers: names(&["x-auth-told"]),
            allowed_client_headers_on_success: names(&["x-auth-told"]),
            ..AuthorizationResponse::default()
        });
    };
    let bob = header("x-user", HeaderMatchSpecifier::StringMatch(exact("bob")));
    let bob = who(Identifier::Header(bob));
    // As Istio asks for a provider whose policy has matched.
    let matching = Rbac {
        shadow_rules: enforced(
            Action::Deny,
            vec![("istio-ext-authz-p-ns[x]", vec![anything()], vec![bob])],
        )
        .rules,
        shadow_rules_stat_prefix: "istio_ext_authz_".to_owned(),
        ..Rbac::default()
    };
    let when_matched = ExtAuthz {
        filter_enabled_metadata: Some(metadata(
            "envoy.filters.http.rbac",
            "istio_ext_authz_shadow_effective_policy_id",
            MatchPattern::Prefix("istio-ext-authz-p-".to_owned()),
        )),
        ..asking(grpc("ask-grpc", LONG))
    };
    let told = metadata(
        "envoy.filters.http.ext_authz",
        "level",
        MatchPattern::Exact("high".to_owned()),
    );
    #[expect(deprecated, reason = "Istio's policies say it so")]
    let by_metadata = Identifier::Metadata(told);
    vec![
        ("grpc", one(asking(grpc("ask-grpc", LONG)))),
        ("grpcio", one(asking(grpc("ask-python", LONG)))),
        (
            "grpc-headers",
            one(ExtAuthz {
                allowed_headers: names(&["x-ask", "x-auth-*"]),
                disallowed_headers: names(&["x-auth-gone"]),
                stat_prefix: "own".to_owned(),
                ..asking(grpc("ask-grpc", LONG))
            }),
        ),
        (
            "grpc-body",
            one(ExtAuthz {
                with_request_body: body(8, true, false),
                ..asking(grpc("ask-grpc", LONG))
            }),
        ),
        (
            "grpc-whole",
            one(ExtAuthz {
                with_request_body: body(8, false, true),
                ..asking(grpc("ask-grpc", LONG))
            }),
        ),
        (
            "grpc-open",
            one(ExtAuthz {
                failure_mode_allow: true,
                failure_mode_allow_header_add: true,
                ..asking(grpc("ask-grpc", 150))
            }),
        ),
        (
            "grpc-dead",
            one(ExtAuthz {
                status_on_error: status(503),
                ..asking(grpc("dead", LONG))
            }),
        ),
        ("grpc-missing", one(asking(grpc("missing", LONG)))),
        ("grpc-slow", one(asking(grpc("ask-grpc", 100)))),
        ("http", one(asking(http(LONG, |_| ())))),
        (
            "http-told",
            one(ExtAuthz {
                allowed_headers: names(&["x-ask", "x-auth-*"]),
                ..asking(http(LONG, telling))
            }),
        ),
        (
            "http-body",
            one(ExtAuthz {
                allowed_headers: names(&["x-ask"]),
                with_request_body: body(8, true, false),
                ..asking(http(LONG, |_| ()))
            }),
        ),
        (
            "http-slow",
            one(ExtAuthz {
                allowed_headers: names(&["x-ask"]),
                status_on_error: status(504),
                ..asking(http(100, |_| ()))
            }),
        ),
        (
            "http-open",
            one(ExtAuthz {
                allowed_headers: names(&["x-ask"]),
                failure_mode_allow: true,
                ..asking(http(100, |_| ()))
            }),
        ),
        ("grpc-moves", one(moving(asking(grpc("ask-grpc", LONG))))),
        (
            "http-moves",
            one(moving(ExtAuthz {
                allowed_headers: names(&["x-ask"]),
                ..asking(http(LONG, telling))
            })),
        ),
        // What is only added leads nowhere else.
        (
            "http-adds",
            one(moving(ExtAuthz {
                allowed_headers: names(&["x-ask"]),
                ..asking(http(LONG, |service| {
                    service.authorization_response = Some(AuthorizationResponse {
                        allowed_upstream_headers_to_append: names(&["x-auth-other"]),
                        ..AuthorizationResponse::default()
                    });
                }))
            })),
        ),
        (
            "off",
            one(ExtAuthz {
                filter_enabled: share(0),
                ..asking(grpc("ask-grpc", LONG))
            }),
        ),
        (
            "off-denies",
            one(ExtAuthz {
                filter_enabled: share(0),
                deny_at_disable: Some(RuntimeFeatureFlag {
                    default_value: Some(BoolValue { value: true }),
                    runtime_key: "none".to_owned(),
                }),
                ..asking(grpc("ask-grpc", LONG))
            }),
        ),
        (
            "custom",
            vec![
                filter("envoy.filters.http.rbac", matching),
                filter("envoy.filters.http.ext_authz", when_matched),
            ],
        ),
        (
            "metadata",
            vec![
                filter(
                    "envoy.filters.http.ext_authz",
                    asking(grpc("ask-grpc", LONG)),
                ),
                filter("envoy.filters.http.rbac", allow_whom(who(by_metadata))),
            ],
        ),
    ]
}

/// What routes say of the filter, by path.
pub(crate) fn by_route() -> Vec<(&'static str, Any)> {
    let per_route = |given| {
        pack_any(ExtAuthzPerRoute {
            r#override: Some(given),
        })
    };
    let settings = CheckSettings {
        context_extensions: HashMap::from([("who".to_owned(), "the route".to_owned())]),
        disable_request_body_buffering: true,
        ..CheckSettings::default()
    };
    vec![
        ("/ok/unasked", per_route(Override::Disabled(true))),
        ("/ok/settings", per_route(Override::CheckSettings(settings))),
    ]
}

/// Routes that requests get only by what the service changes about them.
pub(crate) fn by_changes() -> Vec<Route> {
    let answering = |status, condition| Route {
        r#match: Some(condition),
        action: Some(RouteAction::DirectResponse(DirectResponseAction {
            status,
            ..DirectResponseAction::default()
        })),
        ..Route::default()
    };
    let text = |text: &str| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    };
    let by_header = |name: &str, value: &str| RouteMatch {
        headers: vec![HeaderMatcher {
            name: name.to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(value))),
            ..HeaderMatcher::default()
        }],
        ..path_prefix("/ok")
    };
    let by_query = RouteMatch {
        query_parameters: vec![QueryParameterMatcher {
            name: "user".to_owned(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(
                "alice",
            ))),
        }],
        ..path_prefix("/ok")
    };
    vec![
        answering(296, by_header("x-auth-other", "no")),
        answering(298, by_header("x-auth-over", "other")),
        answering(299, by_query),
    ]
}

/// The requests, by name; `ASK` is what the service is to do.
pub(super) fn requests() -> Vec<(&'static str, String)> {
    let get = |path: &str, fields: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: api\r\nx-case: CASE\r\nconnection: close\r\n{fields}\r\n"
        )
    };
    let post = |fields: &str, body: &str| {
        format!(
            "POST /ok HTTP/1.1\r\nhost: api\r\nx-case: CASE\r\nconnection: close\r\nx-ask: allow\r\n{fields}\r\n{body}"
        )
    };
    let edits = "x-ask: edits\r\nx-auth-append: 1\r\nx-auth-absent: 1\r\nx-auth-over: 1\r\nx-auth-if: 1\r\n\
        x-auth-legacy: 1\r\nx-auth-legacy-over: 1\r\nx-auth-gone: 1\r\nauthorization: me\r\n";
    let mut all: Vec<_> = [
        "allow", "bare", "query", "metadata", "deny", "deny-as", "deny-to", "created", "error",
        "fail", "nonsense", "half", "close", "slow", "",
    ]
    .into_iter()
    .map(|ask| (ask, get("/ok?token=1&x=2", &format!("x-ask: {ask}\r\n"))))
    .collect();
    all.extend([
        ("edits", get("/ok", edits)),
        ("adds", get("/ok", "x-ask: adds\r\n")),
        ("bob", get("/ok", "x-ask: deny\r\nx-user: bob\r\n")),
        ("no-route", get("/none", "x-ask: deny\r\n")),
        ("unasked", get("/ok/unasked", "x-ask: deny\r\n")),
        ("settings", get("/ok/settings", "x-ask: allow\r\n")),
        (
            "twice",
            get(
                "/ok",
                "x-ask: allow\r\nx-auth-a: 1\r\nx-auth-a: 2\r\nx-envoy-auth-partial-body: lie\r\n",
            ),
        ),
        ("short", post("content-length: 5\r\n", "short")),
        ("exact", post("content-length: 8\r\n", "12345678")),
        ("long", post("content-length: 12\r\n", "123456789012")),
        (
            "chunks",
            post(
                "transfer-encoding: chunked\r\n",
                "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
            ),
        ),
        (
            "long-chunks",
            post(
                "transfer-encoding: chunked\r\n",
                "6\r\nabcdef\r\n6\r\nghijkl\r\n0\r\n\r\n",
            ),
        ),
    ]);
    all
}

/// What only services of one kind can do is not asked of the other.
pub(super) fn is_told_apart(filter: &str, ask: &str) -> bool {
    let of_http = ["adds", "created", "nonsense", "half", "close"];
    let of_grpc = ["bare", "query", "metadata", "fail"];
    let is_slow = ["slow", "half"].contains(&ask);
    let waits = ["grpc-open", "grpc-slow", "http-slow", "http-open"].contains(&filter);
    (!is_slow || waits)
        && match filter.starts_with("http") {
            true => !of_grpc.contains(&ask),
            false => !of_http.contains(&ask),
        }
}
