//! What routes do beside forwarding: edits of heads, rewrites, redirects, and the rarer conditions.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher,
};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf::{self, BoolValue, UInt32Value};
use envoy_types::util::pack_any;
use periplus_xds::Resource;

use crate::cases::{Case, get};
use crate::xds_support::resources::{a_route, endpoints, path_prefix, to_cluster};
use crate::{filters, route_tracing};

type Edit = (&'static str, &'static str, HeaderAppendAction);

const APPEND: HeaderAppendAction = HeaderAppendAction::AppendIfExistsOrAdd;
const ABSENT: HeaderAppendAction = HeaderAppendAction::AddIfAbsent;
const SET: HeaderAppendAction = HeaderAppendAction::OverwriteIfExistsOrAdd;
const REPLACE: HeaderAppendAction = HeaderAppendAction::OverwriteIfExists;

fn fields(edits: &[Edit]) -> Vec<core::HeaderValueOption> {
    let option = |(name, value, action): &Edit| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: (*name).to_owned(),
            value: (*value).to_owned(),
            ..Default::default()
        }),
        append_action: *action as i32,
        keep_empty_value: name.ends_with("-kept"),
        ..Default::default()
    };
    edits.iter().map(option).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn replacement(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex: pattern.to_owned(),
            ..Default::default()
        }),
        substitution: substitution.to_owned(),
    }
}

/// A route for a prefix, to both origins under two paths.
fn both(
    prefix: &str,
    change: impl Fn(&mut route::Route, &mut route::RouteAction),
) -> Vec<route::Route> {
    ["origin", "h2"]
        .map(|cluster| {
            let prefix = if cluster == "h2" {
                format!("/h2{prefix}")
            } else {
                prefix.to_owned()
            };
            let mut action = to_cluster(cluster);
            let mut made = a_route(path_prefix(&prefix), action.clone());
            change(&mut made, &mut action);
            made.action = Some(Action::Route(action));
            made
        })
        .to_vec()
}

const FORMATS: &[Edit] = &[
    (
        "x-request",
        "%REQ(x-a)%|%REQ(x-none?:path)%|%REQ(:authority)%|%REQ(x-a):2%|%REQ(:method)%|%REQ(:scheme)%",
        SET,
    ),
    ("x-protocol", "%PROTOCOL%", SET),
    ("x-cluster", "%UPSTREAM_CLUSTER%", SET),
    ("x-route", "%ROUTE_NAME% 100%%", SET),
    ("x-remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", SET),
    ("x-remote-whole", "%DOWNSTREAM_REMOTE_ADDRESS%", SET),
    (
        "x-direct",
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        SET,
    ),
    (
        "x-local",
        "%DOWNSTREAM_LOCAL_ADDRESS%|%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
        SET,
    ),
    ("x-upstream", "<%UPSTREAM_HOST%>", SET),
    ("x-code", "%RESPONSE_CODE% %RESPONSE_FLAGS%", SET),
    ("x-response", "<%RESP(x-custom)%|%RESP(server)%>", SET),
    ("x-empty", "%REQ(x-none)%", SET),
    ("x-empty-kept", "%REQ(x-none)%", SET),
    ("x-san", "%DOWNSTREAM_PEER_URI_SAN%", SET),
];

pub(crate) fn edits() -> Vec<route::Route> {
    let mut all = both("/headers/edits", |route, _| {
        route.request_headers_to_add = fields(&[
            ("x-custom", "added", APPEND),
            ("x-a", "b", ABSENT),
            ("x-b", "b", ABSENT),
            ("user-agent", "changed", SET),
            ("x-order", "route", SET),
            ("x-list", "route", APPEND),
            ("x-missing", "none", REPLACE),
            ("x-there", "replaced", REPLACE),
            ("x-request-id", "own", REPLACE),
            ("x-b3-traceid", "own", SET),
        ]);
        route.request_headers_to_remove = names(&["X-Gone", "x-list", "x-forwarded-proto"]);
        route.response_headers_to_add = fields(&[
            ("x-custom", "added", APPEND),
            ("server", "own", SET),
            ("date", "never", REPLACE),
            ("x-order", "route", SET),
            ("x-list", "route", APPEND),
        ]);
        route.response_headers_to_remove =
            names(&["x-envoy-upstream-service-time", "content-type", "x-list"]);
    });
    all.extend(both("/formats", |route, _| {
        route.name = "formats".to_owned();
        route.request_headers_to_add = fields(FORMATS);
        route.response_headers_to_add = fields(FORMATS);
    }));
    all.extend(both("/weighted", |route, action| {
        route.request_headers_to_add = fields(&[("x-order", "route", SET)]);
        route.response_headers_to_add = fields(&[("x-order", "route", SET)]);
        let Some(ClusterSpecifier::Cluster(name)) = action.cluster_specifier.take() else {
            panic!("a cluster");
        };
        let cluster = ClusterWeight {
            name,
            weight: Some(UInt32Value { value: 1 }),
            request_headers_to_add: fields(&[("x-order", "weighted", SET), ("x-w", "1", SET)]),
            request_headers_to_remove: names(&["x-a"]),
            response_headers_to_add: fields(&[("x-order", "weighted", SET), ("x-w", "1", SET)]),
            host_rewrite_specifier: Some(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(
                "weighted.example".to_owned(),
            )),
            ..Default::default()
        };
        action.cluster_specifier =
            Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
                clusters: vec![cluster],
                ..Default::default()
            }));
    }));
    for (path, cluster) in [
        ("/refused", "refused"),
        ("/missing", "missing"),
        ("/empty", "empty"),
    ] {
        let mut made = a_route(path_prefix(path), to_cluster(cluster));
        made.response_headers_to_add = fields(&[
            ("x-order", "route %RESPONSE_CODE% %RESPONSE_FLAGS%", SET),
            ("x-asked", "%REQ(x-a)%", SET),
            ("server", "own", SET),
        ]);
        made.response_headers_to_remove = names(&["content-type", "date"]);
        all.push(made);
    }
    all
}

pub(crate) fn rewrites() -> Vec<route::Route> {
    let mut all = both("/prefix", |_, action| {
        action.prefix_rewrite = "/headers".to_owned();
    });
    all.extend(both("/cut/", |_, action| {
        action.prefix_rewrite = "/".to_owned();
    }));
    all.extend(both("/regex", |_, action| {
        action.regex_rewrite = Some(replacement("/([a-z0-9]+)/x", r"/\1/y\\"));
    }));
    for (path, rewrite) in [
        (
            "/literal",
            HostRewriteSpecifier::HostRewriteLiteral("new.example:81".to_owned()),
        ),
        (
            "/by-header",
            HostRewriteSpecifier::HostRewriteHeader("x-host".to_owned()),
        ),
        (
            "/by-path",
            HostRewriteSpecifier::HostRewritePathRegex(replacement("^/.*/([^/]+)$", r"\1.example")),
        ),
        (
            "/auto",
            HostRewriteSpecifier::AutoHostRewrite(BoolValue { value: true }),
        ),
    ] {
        for forwarded in [true, false] {
            let path = if forwarded {
                format!("{path}/forwarded")
            } else {
                path.to_owned()
            };
            all.extend(both(&path, |_, action| {
                action.host_rewrite_specifier = Some(rewrite.clone());
                action.append_x_forwarded_host = forwarded;
                action.prefix_rewrite = "/changed".to_owned();
            }));
        }
    }
    let mut exact = to_cluster("origin");
    exact.prefix_rewrite = "/changed".to_owned();
    all.push(a_route(
        route::RouteMatch {
            path_specifier: Some(PathSpecifier::Path("/exact".to_owned())),
            ..Default::default()
        },
        exact.clone(),
    ));
    all.push(a_route(
        route::RouteMatch {
            path_specifier: Some(PathSpecifier::PathSeparatedPrefix("/separated".to_owned())),
            ..Default::default()
        },
        exact.clone(),
    ));
    all.push(a_route(
        route::RouteMatch {
            path_specifier: Some(PathSpecifier::SafeRegex(RegexMatcher {
                regex: "/by-regex/[a-z]+".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        },
        exact,
    ));
    all
}

pub(crate) fn redirects() -> Vec<route::Route> {
    let redirect = |path: &str, change: &dyn Fn(&mut route::RedirectAction)| {
        let mut action = route::RedirectAction::default();
        change(&mut action);
        route::Route {
            r#match: Some(path_prefix(path)),
            action: Some(Action::Redirect(action)),
            response_headers_to_add: fields(&[("x-order", "%RESPONSE_CODE%", SET)]),
            ..Default::default()
        }
    };
    vec![
        redirect("/redirect/none", &|_| {}),
        redirect("/redirect/https", &|action| {
            action.scheme_rewrite_specifier = Some(SchemeRewriteSpecifier::HttpsRedirect(true));
        }),
        redirect("/redirect/scheme", &|action| {
            action.scheme_rewrite_specifier =
                Some(SchemeRewriteSpecifier::SchemeRedirect("ftp".to_owned()));
            action.response_code = 4;
        }),
        redirect("/redirect/host", &|action| {
            action.host_redirect = "new.example".to_owned();
            action.port_redirect = 8443;
            action.response_code = 1;
        }),
        redirect("/redirect/port", &|action| {
            action.port_redirect = 81;
            action.response_code = 2;
        }),
        redirect("/redirect/path", &|action| {
            action.path_rewrite_specifier =
                Some(PathRewriteSpecifier::PathRedirect("/there".to_owned()));
            action.response_code = 3;
        }),
        redirect("/redirect/query", &|action| {
            action.path_rewrite_specifier =
                Some(PathRewriteSpecifier::PathRedirect("/there?own".to_owned()));
            action.strip_query = true;
        }),
        redirect("/redirect/strip", &|action| {
            action.strip_query = true;
        }),
        redirect("/redirect/prefix", &|action| {
            action.path_rewrite_specifier =
                Some(PathRewriteSpecifier::PrefixRewrite("/there".to_owned()));
        }),
        redirect("/redirect/regex", &|action| {
            action.path_rewrite_specifier = Some(PathRewriteSpecifier::RegexRewrite(replacement(
                "/([^/]*)/regex",
                r"/\1",
            )));
        }),
        route::Route {
            r#match: Some(path_prefix("/created")),
            action: Some(Action::DirectResponse(route::DirectResponseAction {
                status: 201,
                ..Default::default()
            })),
            ..Default::default()
        },
    ]
}

pub(crate) fn conditions() -> Vec<route::Route> {
    let text = |pattern, ignore_case| StringMatcher {
        match_pattern: Some(pattern),
        ignore_case,
    };
    let header = |name: &str, specifier, invert_match, missing| route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        invert_match,
        treat_missing_header_as_empty: missing,
    };
    use route::header_matcher::HeaderMatchSpecifier as By;
    let query = |name: &str, specifier| route::QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(specifier),
    };
    let said = |condition: route::RouteMatch, answer: &str| route::Route {
        r#match: Some(condition),
        action: Some(Action::DirectResponse(route::DirectResponseAction {
            status: 200,
            body: Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(
                    answer.to_owned(),
                )),
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..Default::default()
    };
    let when = |change: &dyn Fn(&mut route::RouteMatch)| {
        let mut condition = path_prefix("/when");
        change(&mut condition);
        condition
    };
    let share = |numerator, denominator| core::RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator,
            denominator,
        }),
        runtime_key: "some.key".to_owned(),
    };
    let exact = |value: &str| MatchPattern::Exact(value.to_owned());
    vec![
        said(
            when(&|condition| {
                let specifier = QueryParameterMatchSpecifier::StringMatch(text(exact("B"), true));
                condition.query_parameters = vec![query("a", specifier)];
            }),
            "query a",
        ),
        said(
            when(&|condition| {
                let specifier = QueryParameterMatchSpecifier::PresentMatch(true);
                condition.query_parameters = vec![query("flag", specifier)];
            }),
            "query flag",
        ),
        said(
            {
                let specifier = QueryParameterMatchSpecifier::PresentMatch(false);
                route::RouteMatch {
                    query_parameters: vec![query("gone", specifier)],
                    ..path_prefix("/absent")
                }
            },
            "query gone",
        ),
        said(path_prefix("/absent"), "another query"),
        said(
            when(&|condition| {
                let range = By::RangeMatch(envoy_types::pb::envoy::r#type::v3::Int64Range {
                    start: -5,
                    end: 5,
                });
                condition.headers = vec![header("x-number", range, false, false)];
            }),
            "number",
        ),
        said(
            when(&|condition| {
                let any = By::StringMatch(text(exact("Jason"), true));
                condition.headers = vec![header("x-user", any, false, false)];
            }),
            "user",
        ),
        said(
            when(&|condition| {
                let path = MatchPattern::Contains("seen=1".to_owned());
                let path = By::StringMatch(text(path, false));
                condition.headers = vec![header(":path", path, false, false)];
            }),
            "path",
        ),
        said(
            when(&|condition| {
                condition.headers = vec![
                    header("x-scheme", By::PresentMatch(true), false, false),
                    header(
                        ":scheme",
                        By::StringMatch(text(exact("http"), false)),
                        false,
                        false,
                    ),
                ];
            }),
            "scheme",
        ),
        said(
            when(&|condition| {
                condition.grpc = Some(Default::default());
            }),
            "grpc",
        ),
        said(
            when(&|condition| condition.runtime_fraction = Some(share(0, 0))),
            "never",
        ),
        said(
            when(&|condition| {
                condition.headers = vec![header("x-tls", By::PresentMatch(true), false, false)];
                condition.tls_context = Some(route::route_match::TlsContextMatchOptions {
                    presented: Some(BoolValue { value: false }),
                    ..Default::default()
                });
            }),
            "no certificate",
        ),
        said(
            when(&|condition| {
                let x = By::StringMatch(text(exact("x"), false));
                condition.headers = vec![header("x-not", x, true, true)];
            }),
            "not x",
        ),
        said(
            when(&|condition| condition.runtime_fraction = Some(share(1_000_000, 2))),
            "always",
        ),
        said(
            route::RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/CASELESS".to_owned())),
                case_sensitive: Some(BoolValue { value: false }),
                ..Default::default()
            },
            "any case",
        ),
    ]
}

pub(crate) fn retries() -> Vec<route::Route> {
    let time = |ms: i32| {
        Some(protobuf::Duration {
            seconds: 0,
            nanos: ms * 1_000_000,
        })
    };
    let policy = |on: &str, change: &dyn Fn(&mut route::RetryPolicy)| {
        let mut policy = route::RetryPolicy {
            retry_on: on.to_owned(),
            num_retries: Some(UInt32Value { value: 2 }),
            retry_back_off: Some(route::retry_policy::RetryBackOff {
                base_interval: time(1),
                max_interval: time(2),
            }),
            ..Default::default()
        };
        change(&mut policy);
        policy
    };
    let of = |path: &str, cluster: &str, policy: route::RetryPolicy| {
        let mut action = to_cluster(cluster);
        action.prefix_rewrite = if cluster == "h2" { "/h2/" } else { "/" }.to_owned();
        action.retry_policy = Some(policy);
        a_route(path_prefix(path), action)
    };
    let named = |name: &str| route::HeaderMatcher {
        name: name.to_owned(),
        ..Default::default()
    };
    vec![
        of("/retry/5xx/", "origin", policy("5xx", &|_| {})),
        of("/retry/5xx-h2/", "h2", policy("5xx", &|_| {})),
        of(
            "/retry/gateway/",
            "origin",
            policy("gateway-error", &|_| {}),
        ),
        of("/retry/reset-h2/", "h2", policy("reset", &|_| {})),
        of(
            "/retry/refused-h2/",
            "h2",
            policy("refused-stream", &|_| {}),
        ),
        of(
            "/retry/connect/",
            "refused",
            policy("connect-failure", &|_| {}),
        ),
        of(
            "/retry/unavailable/",
            "h2",
            policy("unavailable,cancelled", &|_| {}),
        ),
        of(
            "/retry/codes/",
            "origin",
            policy("retriable-status-codes", &|policy| {
                policy.retriable_status_codes = vec![404];
            }),
        ),
        of(
            "/retry/headers/",
            "origin",
            policy("retriable-headers", &|policy| {
                policy.retriable_headers = vec![named("x-custom")];
            }),
        ),
        of(
            "/retry/asked/",
            "origin",
            policy("5xx", &|policy| {
                policy.retriable_request_headers = vec![named("x-again")];
            }),
        ),
        of(
            "/retry/never/",
            "origin",
            policy("5xx", &|policy| {
                policy.num_retries = Some(UInt32Value { value: 0 });
            }),
        ),
        of(
            "/retry/slow/",
            "origin",
            policy("5xx", &|policy| {
                policy.per_try_timeout = time(60);
                policy.num_retries = Some(UInt32Value { value: 1 });
            }),
        ),
        timed("/retry/timed/", 10, policy("unavailable", &one_second)),
        timed("/retry/endless/", 0, policy("unavailable", &one_second)),
    ]
}

/// Each attempt has one second.
fn one_second(policy: &mut route::RetryPolicy) {
    policy.per_try_timeout = seconds(1);
}

fn seconds(seconds: i64) -> Option<protobuf::Duration> {
    Some(protobuf::Duration { seconds, nanos: 0 })
}

/// A route whose attempts have so much time together, and no more than that where a client of gRPC wants it.
#[expect(deprecated, reason = "control planes still say it in this form")]
fn timed(path: &str, all: i64, policy: route::RetryPolicy) -> route::Route {
    let mut action = to_cluster("h2");
    action.prefix_rewrite = "/grpc/".to_owned();
    action.retry_policy = Some(policy);
    action.timeout = seconds(all);
    action.max_grpc_timeout = seconds(all);
    a_route(path_prefix(path), action)
}

fn retry_cases(add: &mut dyn FnMut(&str, &[&'static str], String)) {
    let all = ["rules", "rules_gateway"];
    let outbound = ["rules"];
    for (name, path) in [
        ("5xx", "/retry/5xx/status/503"),
        ("5xx-h2", "/retry/5xx-h2/status/503"),
        ("slow", "/retry/slow/slow"),
        ("unavailable", "/retry/unavailable/grpc/only/14"),
        ("codes", "/retry/codes/status/404"),
    ] {
        add(&format!("retry-{name}"), &all, get(path, ""));
    }
    for (name, path) in [
        ("ok", "/retry/5xx/ok"),
        ("connect", "/retry/connect/ok"),
        ("not-5xx", "/retry/5xx/status/404"),
        ("not-gateway", "/retry/gateway/status/500"),
        ("gateway", "/retry/gateway/status/503"),
        ("reset-h2", "/retry/reset-h2/reset"),
        ("headers", "/retry/headers/headers"),
        ("not-asked", "/retry/asked/status/503"),
        ("never", "/retry/never/status/503"),
        ("not-available", "/retry/unavailable/grpc/only/5"),
    ] {
        add(&format!("retry-{name}"), &outbound, get(path, ""));
    }
    add(
        "retry-asked",
        &outbound,
        get("/retry/asked/status/503", "x-again: 1\n"),
    );
    // What each attempt is told of its time.
    let grpc = "content-type: application/grpc\nte: trailers\n";
    for (name, path) in [
        ("timed", "/retry/timed/0"),
        ("timed-unavailable", "/retry/timed/only/14"),
        ("endless", "/retry/endless/0"),
        ("endless-unavailable", "/retry/endless/only/14"),
    ] {
        add(&format!("retry-{name}"), &outbound, get(path, ""));
        for (limit, told) in [
            ("none", ""),
            ("more", "grpc-timeout: 5S\n"),
            ("less", "grpc-timeout: 300m\n"),
            ("same", "grpc-timeout: 1S\n"),
        ] {
            let fields = format!("{grpc}{told}");
            // What is left of less than one attempt has is chance.
            if path.ends_with("/0") || matches!(limit, "none" | "more") {
                add(
                    &format!("retry-{name}-{limit}"),
                    &outbound,
                    get(path, &fields),
                );
            }
        }
    }
    let post = |path: &str| {
        let body = "content-length: 5\n";
        let request = get(path, body).replace("GET ", "POST ");
        format!("{request}hello")
    };
    add("retry-post", &all, post("/retry/5xx/status/503"));
    add("retry-post-h2", &outbound, post("/retry/5xx-h2/status/503"));
    add("retry-post-reset", &outbound, post("/retry/5xx/reset"));
}

fn share(numerator: u32) -> Option<FractionalPercent> {
    Some(FractionalPercent {
        numerator,
        denominator: 0,
    })
}

fn delay(percent: u32, specifier: FaultDelaySecifier) -> Option<FaultDelay> {
    Some(FaultDelay {
        percentage: share(percent),
        fault_delay_secifier: Some(specifier),
    })
}

fn abort(percent: u32, kind: ErrorType) -> Option<FaultAbort> {
    Some(FaultAbort {
        percentage: share(percent),
        error_type: Some(kind),
        ..Default::default()
    })
}

/// The name of the filter that injects faults.
pub(crate) const FAULT: &str = "envoy.filters.http.fault";

pub(crate) fn faults() -> Vec<route::Route> {
    let fixed = || {
        FaultDelaySecifier::FixedDelay(protobuf::Duration {
            seconds: 0,
            nanos: 40_000_000,
        })
    };
    let named = |name: &str| route::HeaderMatcher {
        name: name.to_owned(),
        ..Default::default()
    };
    let of = |path: &str, cluster: &str, fault: HttpFault| {
        let mut made = a_route(path_prefix(path), to_cluster(cluster));
        made.typed_per_filter_config
            .insert(FAULT.to_owned(), pack_any(fault));
        made.response_headers_to_add = fields(&[("x-flags", "%RESPONSE_FLAGS%", SET)]);
        made
    };
    let mut off = a_route(path_prefix("/fault/off"), to_cluster("origin"));
    off.typed_per_filter_config.insert(
        FAULT.to_owned(),
        pack_any(route::FilterConfig {
            disabled: true,
            ..Default::default()
        }),
    );
    let fault = HttpFault::default;
    vec![
        of(
            "/fault/abort",
            "origin",
            HttpFault {
                abort: abort(100, ErrorType::HttpStatus(555)),
                ..fault()
            },
        ),
        of(
            "/fault/never",
            "origin",
            HttpFault {
                abort: abort(0, ErrorType::HttpStatus(555)),
                delay: delay(0, fixed()),
                ..fault()
            },
        ),
        of(
            "/fault/delay",
            "origin",
            HttpFault {
                delay: delay(100, fixed()),
                ..fault()
            },
        ),
        of(
            "/fault/refused",
            "refused",
            HttpFault {
                delay: delay(100, fixed()),
                ..fault()
            },
        ),
        of(
            "/fault/both",
            "origin",
            HttpFault {
                delay: delay(100, fixed()),
                abort: abort(100, ErrorType::HttpStatus(429)),
                ..fault()
            },
        ),
        of(
            "/fault/grpc",
            "h2",
            HttpFault {
                abort: abort(100, ErrorType::GrpcStatus(14)),
                ..fault()
            },
        ),
        of(
            "/fault/header",
            "origin",
            HttpFault {
                delay: delay(100, FaultDelaySecifier::HeaderDelay(Default::default())),
                abort: abort(100, ErrorType::HeaderAbort(Default::default())),
                ..fault()
            },
        ),
        of(
            "/fault/some",
            "origin",
            HttpFault {
                abort: abort(100, ErrorType::HttpStatus(503)),
                headers: vec![named("x-fault")],
                ..fault()
            },
        ),
        of(
            "/fault/other",
            "origin",
            HttpFault {
                abort: abort(100, ErrorType::HttpStatus(503)),
                upstream_cluster: "other".to_owned(),
                ..fault()
            },
        ),
        of(
            "/fault/full",
            "origin",
            HttpFault {
                abort: abort(100, ErrorType::HttpStatus(503)),
                max_active_faults: Some(UInt32Value { value: 0 }),
                ..fault()
            },
        ),
        of(
            "/fault/missing",
            "missing",
            HttpFault {
                abort: abort(100, ErrorType::HttpStatus(503)),
                ..fault()
            },
        ),
        off,
    ]
}

fn fault_cases(add: &mut dyn FnMut(&str, &[&'static str], String)) {
    let all = ["rules", "rules_gateway"];
    for path in ["abort", "delay", "both", "refused", "grpc"] {
        add(
            &format!("fault-{path}"),
            &all,
            get(&format!("/fault/{path}"), ""),
        );
    }
    for path in ["never", "some", "other", "full", "missing", "off"] {
        add(
            &format!("fault-{path}"),
            &["rules"],
            get(&format!("/fault/{path}"), ""),
        );
    }
    for (name, path, fields) in [
        ("some-meant", "/fault/some", "x-fault: 1\n"),
        ("header-none", "/fault/header", ""),
        (
            "header-abort",
            "/fault/header",
            "x-envoy-fault-abort-request: 502\n",
        ),
        (
            "header-bad",
            "/fault/header",
            "x-envoy-fault-abort-request: 99\n",
        ),
        (
            "header-share",
            "/fault/header",
            "x-envoy-fault-abort-request: 502\nx-envoy-fault-abort-request-percentage: 0\n",
        ),
        (
            "header-grpc",
            "/fault/header",
            "x-envoy-fault-abort-grpc-request: 5\n",
        ),
        (
            "header-delay",
            "/fault/header",
            "x-envoy-fault-delay-request: 30\n",
        ),
        (
            "grpc-call",
            "/fault/grpc",
            "content-type: application/grpc\nte: trailers\n",
        ),
    ] {
        add(&format!("fault-{name}"), &["rules"], get(path, fields));
    }
}

pub(crate) fn configuration(name: &str) -> Resource {
    let mut routes = edits();
    routes.extend(route_tracing::routes());
    routes.extend(rewrites());
    routes.extend(redirects());
    routes.extend(conditions());
    routes.extend(faults());
    routes.extend(retries());
    routes.splice(0..0, filters::routes());
    let (cors, policy) = filters::of_host();
    routes.push(a_route(path_prefix("/h2"), to_cluster("h2")));
    routes.push(a_route(path_prefix("/"), to_cluster("origin")));
    let host = route::VirtualHost {
        name: "all".to_owned(),
        domains: names(&["*"]),
        routes,
        include_request_attempt_count: true,
        include_attempt_count_in_response: true,
        request_headers_to_add: fields(&[("x-order", "host", SET), ("x-list", "host", APPEND)]),
        response_headers_to_add: fields(&[("x-order", "host", ABSENT), ("x-list", "host", APPEND)]),
        typed_per_filter_config: [(cors, pack_any(policy))].into(),
        ..Default::default()
    };
    let specific = route::VirtualHost {
        name: "specific".to_owned(),
        domains: names(&["specific"]),
        ..host.clone()
    };
    let secure = |name: &str, requirement: route::virtual_host::TlsRequirementType| {
        let mut host = host.clone();
        name.clone_into(&mut host.name);
        host.domains = names(&[name, &format!("{name}:80")]);
        host.require_tls = requirement.into();
        host
    };
    let all = secure("secure", route::virtual_host::TlsRequirementType::All);
    let external = secure(
        "external",
        route::virtual_host::TlsRequirementType::ExternalOnly,
    );
    let config = route::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host, specific, all, external],
        request_headers_to_add: fields(&[("x-order", "table", SET), ("x-list", "table", APPEND)]),
        request_headers_to_remove: names(&["x-gone-everywhere"]),
        response_headers_to_add: fields(&[
            ("x-order", "table", ABSENT),
            ("x-list", "table", APPEND),
        ]),
        most_specific_header_mutations_wins: name == "specific_rules",
        ..Default::default()
    };
    Resource::new(name, &config)
}

/// The endpoints of a cluster with a host name.
pub(crate) fn named_endpoints(name: &str, at: &[SocketAddr]) -> Resource {
    let mut assignment: envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment =
        prost::Message::decode(endpoints(name, at).body().value.as_slice()).expect("as it was");
    for locality in &mut assignment.endpoints {
        for endpoint in &mut locality.lb_endpoints {
            use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
            if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier {
                endpoint.hostname = format!("{name}.endpoint.example");
            }
        }
    }
    Resource::new(name, &assignment)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, listeners: &[&'static str], request: String| {
        for listener in listeners {
            for http2 in [false, true] {
                let client = if http2 { "h2-" } else { "" };
                let path = name.to_owned();
                let name = format!("rule-{client}{name}@{listener}");
                cases.push(Case {
                    request: request.replace("CASE", &name),
                    name,
                    listener,
                    http2,
                    copies: filters::copies(&path),
                });
            }
        }
    };
    let all = ["rules", "rules_gateway"];
    let outbound = ["rules"];
    let sent = "x-custom: 1\nx-a: first\nx-a: second\nx-list: sent\nx-there: 1\nx-gone: 1\nx-gone-everywhere: 1\nuser-agent: test/1\n";
    for origin in ["", "/h2"] {
        let name = |name: &str| format!("{name}{}", if origin.is_empty() { "" } else { "-to-h2" });
        let path = |path: &str| format!("{origin}{path}");
        let both = ["rules", "rules_specific"];
        add(&name("edits"), &both, get(&path("/headers/edits"), sent));
        add(
            &name("formats"),
            &all,
            get(&path("/formats"), "x-a: first\nx-forwarded-for: 10.1.2.3\n"),
        );
        add(&name("weighted"), &both, get(&path("/weighted"), sent));
        add(&name("prefix"), &all, get(&path("/prefix/rest"), ""));
        add(&name("cut-prefix"), &outbound, get(&path("/cut/a/b"), ""));
        add(&name("regex"), &outbound, get(&path("/regex/x/one/x"), ""));
        for kind in ["literal", "by-header", "by-path", "auto"] {
            add(
                &name(kind),
                &outbound,
                get(&path(&format!("/{kind}/one")), "x-host: header.example\n"),
            );
            for (index, forwarded) in ["", "x-forwarded-host: a\n", "x-forwarded-host: a, test\n"]
                .iter()
                .enumerate()
            {
                let request = get(&path(&format!("/{kind}/forwarded")), forwarded);
                add(
                    &name(&format!("{kind}-forwarded-{index}")),
                    &outbound,
                    request,
                );
            }
        }
    }
    add("refused", &all, get("/refused", "x-a: 1\n"));
    add("no-cluster", &all, get("/missing", "x-a: 1\n"));
    add("no-endpoints", &all, get("/empty", "x-a: 1\n"));
    add("exact", &outbound, get("/exact", ""));
    add("separated", &outbound, get("/separated/a", ""));
    add("by-regex", &outbound, get("/by-regex/a", ""));
    add("created", &outbound, get("/created", ""));
    for kind in [
        "none", "https", "scheme", "host", "port", "path", "query", "strip", "prefix", "regex",
    ] {
        let request = get(&format!("/redirect/{kind}/rest"), "");
        let with_port = request.replace("host: test", "host: test:80");
        add(&format!("redirect-{kind}"), &outbound, with_port);
    }
    // A proxy in front tells by which scheme its client has come, unless this one is the edge.
    for (kind, proto) in [
        ("https", "https"),
        ("capitals", "HTTPS"),
        ("http", "http"),
        ("other", "ws"),
    ] {
        let field = format!("x-forwarded-proto: {proto}\n");
        let host =
            |to: &str, request: String| request.replace("host: test", &format!("host: {to}"));
        for path in ["/redirect/none/rest", "/redirect/https/rest", "/created"] {
            let name = path.replace('/', "-");
            for port in ["test", "test:80", "test:443"] {
                let name = format!("proto-{kind}{name}-{}", port.replace(':', "-"));
                add(&name, &all, host(port, get(path, &field)));
            }
        }
        let asked = format!("{field}x-scheme: 1\n");
        add(&format!("proto-{kind}-when"), &all, get("/when", &asked));
        add(
            &format!("proto-{kind}-formats"),
            &all,
            get("/formats", &field),
        );
        add(&format!("proto-{kind}-to-h2"), &all, get("/h2/ok", &field));
        for to in ["secure", "secure:80", "external"] {
            let name = format!("proto-{kind}-{}", to.replace(':', "-"));
            add(&name, &all, host(to, get("/exact", &field)));
        }
    }
    for to in ["secure", "secure:80", "external"] {
        let name = format!("tls-{}", to.replace(':', "-"));
        let request =
            |fields: &str| get("/exact", fields).replace("host: test", &format!("host: {to}"));
        add(&name, &all, request(""));
        add(
            &format!("{name}-inside"),
            &all,
            request("x-envoy-internal: true\n"),
        );
        add(
            &format!("{name}-from"),
            &all,
            request("x-forwarded-for: 10.1.2.3\n"),
        );
    }
    for (name, fields) in [
        ("number", "x-number: -5\n"),
        ("number-over", "x-number: 5\n"),
        ("user", "x-user: jASON\n"),
        ("scheme", "x-scheme: 1\n"),
        ("tls", "x-tls: 1\n"),
        ("not-x", "x-not: x\n"),
        ("missing", ""),
    ] {
        add(&format!("when-{name}"), &outbound, get("/when", fields));
    }
    let queries = ["a=b", "a=c&a=b", "b=a", "flag", "flag=", "seen=1", "a=%62"];
    for (index, query) in queries.iter().enumerate() {
        let request = get("/when", "").replace("?case", &format!("?{query}&case"));
        add(&format!("when-query-{index}"), &outbound, request);
    }
    for query in ["gone", "gone=1", "other"] {
        let request = get("/absent", "").replace("?case", &format!("?{query}&case"));
        add(&format!("absent-{query}"), &outbound, request);
    }
    fault_cases(&mut add);
    retry_cases(&mut add);
    filters::cases(&mut add);
    add("caseless", &outbound, get("/caseLESS/a", ""));
    cases
}
