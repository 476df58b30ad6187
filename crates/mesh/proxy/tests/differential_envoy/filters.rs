//! Filters behind the policies: what routes want of them, and what they say in answers.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, HttpProtocolOptions, RuntimeFractionalPercent,
};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::{self, ActionSpecifier};
use envoy_types::pb::envoy::config::route::v3::rate_limit::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    MaxStreamDuration, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::LocalRateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, HttpStatus, Percent, TokenBucket};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use envoy_types::util::pack_any;

use crate::cases::{Case, get};
use crate::sessions;
use crate::xds_support::resources::{a_route, path_prefix, to_cluster};

/// Adds a case: its name, the listeners, the request.
pub(crate) type Add<'a> = &'a mut dyn FnMut(&str, &[&'static str], String);

const LIMIT: &str = "envoy.filters.http.local_ratelimit";
const CORS: &str = "envoy.filters.http.cors";

pub(crate) fn filter(name: &str, config: impl prost::Name) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

/// Questions after the proxy's health: their header, the path, whether they are for the application, and the cluster
/// that must be healthy.
const HEALTH: [(&str, &str, bool, &str); 5] = [
    ("own", "/exact", false, ""),
    ("passed", "/exact", true, ""),
    ("enough", "/exact", false, "origin"),
    ("empty", "/exact", false, "empty"),
    ("missing", "/nowhere", false, "missing"),
];

fn health_cases(add: Add<'_>) {
    for (name, path, ..) in HEALTH {
        let request = get(path, &format!("x-health: {name}\n"));
        add(
            &format!("health-{name}"),
            &["rules", "rules_gateway"],
            request,
        );
    }
}

/// The filters of listeners that these routes are for.
pub(crate) fn all() -> Vec<HttpFilter> {
    let limit = LocalRateLimit {
        stat_prefix: "all".to_owned(),
        ..Default::default()
    };
    let mut all = vec![filter(CORS, Cors {}), filter(LIMIT, limit)];
    let names = HEALTH.map(|(name, _, passes, cluster)| {
        let percentages = [(cluster.to_owned(), Percent { value: 50.0 })];
        let config = HealthCheck {
            pass_through_mode: flag(passes),
            headers: vec![route::HeaderMatcher {
                name: "x-health".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(origin(
                    MatchPattern::Exact(name.to_owned()),
                ))),
                ..Default::default()
            }],
            cluster_min_healthy_percentages: match cluster {
                "" => HashMap::new(),
                _ => percentages.into(),
            },
            ..Default::default()
        };
        filter(&format!("envoy.filters.http.health_check.{name}"), config)
    });
    all.splice(0..0, names);
    all.extend(sessions::all());
    all
}

pub(crate) fn share(percent: u32) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: percent,
            denominator: 0,
        }),
        ..Default::default()
    })
}

fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn origin(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    }
}

/// What the virtual host says to all of its routes.
pub(crate) fn of_host() -> (String, CorsPolicy) {
    let policy = CorsPolicy {
        max_age: "60".to_owned(),
        expose_headers: "x-of-host".to_owned(),
        filter_enabled: share(0),
        ..Default::default()
    };
    (CORS.to_owned(), policy)
}

pub(crate) fn cors() -> Vec<route::Route> {
    let shop = || {
        vec![origin(MatchPattern::Exact(
            "https://shop.example".to_owned(),
        ))]
    };
    let of = |path: &str, policy: CorsPolicy| {
        let mut made = a_route(path_prefix(path), to_cluster("origin"));
        let policy = pack_any(policy);
        made.typed_per_filter_config.insert(CORS.to_owned(), policy);
        made
    };
    let any = || CorsPolicy {
        allow_origin_string_match: vec![origin(MatchPattern::Exact("*".to_owned()))],
        ..Default::default()
    };
    let mut direct = of("/cors/direct", any());
    direct.action = Some(route::route::Action::DirectResponse(
        route::DirectResponseAction {
            status: 200,
            ..Default::default()
        },
    ));
    let mut refused = of("/cors/refused", any());
    refused.action = Some(route::route::Action::Route(to_cluster("refused")));
    let mut h2 = of("/h2/cors", any());
    h2.action = Some(route::route::Action::Route(to_cluster("h2")));
    vec![
        of(
            "/cors/full",
            CorsPolicy {
                allow_origin_string_match: vec![
                    origin(MatchPattern::Exact("https://shop.example".to_owned())),
                    origin(MatchPattern::Prefix("https://test.".to_owned())),
                    origin(MatchPattern::SafeRegex(RegexMatcher {
                        regex: "https://[a-z]+\\.api".to_owned(),
                        ..Default::default()
                    })),
                ],
                allow_methods: "GET, POST".to_owned(),
                allow_headers: "x-a, x-b".to_owned(),
                expose_headers: "x-c".to_owned(),
                max_age: "86400".to_owned(),
                allow_credentials: flag(true),
                allow_private_network_access: flag(true),
                ..Default::default()
            },
        ),
        of(
            "/cors/stars",
            CorsPolicy {
                allow_methods: "*".to_owned(),
                allow_headers: "*".to_owned(),
                ..any()
            },
        ),
        of(
            "/cors/stop",
            CorsPolicy {
                allow_origin_string_match: shop(),
                allow_credentials: flag(true),
                forward_not_matching_preflights: flag(false),
                ..Default::default()
            },
        ),
        of(
            "/cors/shadow",
            CorsPolicy {
                filter_enabled: share(0),
                shadow_enabled: share(100),
                ..any()
            },
        ),
        of("/cors/nobody", CorsPolicy::default()),
        direct,
        refused,
        h2,
        of("/headers/cors", any()),
    ]
}

fn cors_cases(add: Add<'_>) {
    let asked = "access-control-request-method: PUT\naccess-control-request-headers: x-q\naccess-control-request-private-network: true\n";
    for (path, origin) in [
        ("full", "https://shop.example"),
        ("full", "https://test.shop"),
        ("full", "https://my.api"),
        ("full", "https://other.example"),
        ("stars", "https://any.example"),
        ("stop", "https://shop.example"),
        ("stop", "https://other.example"),
        ("shadow", "https://any.example"),
        ("nobody", "https://any.example"),
        ("direct", "https://any.example"),
        ("refused", "https://any.example"),
        ("full", ""),
    ] {
        let field = match origin {
            "" => String::new(),
            origin => format!("origin: {origin}\n"),
        };
        let host = origin.trim_start_matches("https://");
        let name = format!("cors-{path}-{host}");
        let path = format!("/cors/{path}");
        add(&name, &["rules"], get(&path, &field));
        let preflight = get(&path, &format!("{field}{asked}")).replace("GET ", "OPTIONS ");
        add(&format!("{name}-preflight"), &["rules"], preflight);
        let options = get(&path, &field).replace("GET ", "OPTIONS ");
        add(&format!("{name}-options"), &["rules"], options);
    }
    let any = "origin: https://any.example\n";
    add("cors-to-h2", &["rules_gateway"], get("/h2/cors", any));
    add(
        "cors-replaces",
        &["rules_gateway"],
        get("/headers/cors", any),
    );
    add("cors-elsewhere", &["rules"], get("/exact", any));
}

pub(crate) fn mirrors() -> Vec<route::Route> {
    let to = |cluster: &str| RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        ..Default::default()
    };
    let of = |path: &str, cluster: &str, policies: Vec<RequestMirrorPolicy>| {
        let mut action = to_cluster(cluster);
        action.request_mirror_policies = policies;
        a_route(path_prefix(path), action)
    };
    let never = RequestMirrorPolicy {
        runtime_fraction: share(0),
        ..to("v2")
    };
    let all = RequestMirrorPolicy {
        runtime_fraction: share(100),
        ..to("v2")
    };
    let kept = RequestMirrorPolicy {
        disable_shadow_host_suffix_append: true,
        ..to("h2")
    };
    let literal = RequestMirrorPolicy {
        host_rewrite_literal: "copy.example:81".to_owned(),
        ..to("v2")
    };
    let untraced = RequestMirrorPolicy {
        trace_sampled: flag(false),
        ..to("v2")
    };
    vec![
        of("/mirror/suffix", "origin", vec![all.clone()]),
        of("/mirror/kept", "origin", vec![kept]),
        of("/mirror/literal", "origin", vec![literal]),
        of("/mirror/some", "h2", vec![all, never.clone()]),
        of("/mirror/never", "origin", vec![never]),
        of("/mirror/missing", "origin", vec![to("missing")]),
        of("/mirror/untraced", "origin", vec![untraced]),
    ]
}

/// How many copies of a case's request arrive.
pub(crate) fn copies(name: &str) -> usize {
    match name.strip_prefix("mirror-") {
        Some("never" | "missing") | None => 0,
        Some(_) => 1,
    }
}

fn mirror_cases(add: Add<'_>) {
    let all = ["rules", "rules_gateway"];
    for path in ["suffix", "kept", "untraced"] {
        add(
            &format!("mirror-{path}"),
            &all,
            get(&format!("/mirror/{path}"), ""),
        );
    }
    for path in ["literal", "some", "never", "missing"] {
        let request = get(&format!("/mirror/{path}"), "");
        add(&format!("mirror-{path}"), &["rules"], request);
    }
    let port = get("/mirror/suffix", "").replace("host: test", "host: test:80");
    add("mirror-port", &["rules"], port);
    let post = |path: &str| get(path, "content-length: 5\n").replace("GET ", "POST ") + "hello";
    add("mirror-post", &["rules"], post("/mirror/suffix"));
    add("mirror-post-h2", &["rules"], post("/mirror/kept"));
}

pub(crate) fn ms(ms: i32) -> Option<Duration> {
    Some(Duration {
        seconds: i64::from(ms / 1000),
        nanos: ms % 1000 * 1_000_000,
    })
}

pub(crate) fn times() -> Vec<route::Route> {
    let of = |path: &str, change: &dyn Fn(&mut route::RouteAction)| {
        ["origin", "h2"].map(|cluster| {
            let mut action = to_cluster(cluster);
            action.timeout = ms(0);
            action.prefix_rewrite = "/slow".to_owned();
            change(&mut action);
            let path = match cluster {
                "h2" => format!("/h2{path}"),
                _ => path.to_owned(),
            };
            a_route(path_prefix(&path), action)
        })
    };
    let longest = |ms| {
        Some(MaxStreamDuration {
            max_stream_duration: ms,
            ..Default::default()
        })
    };
    let policy = |retries| route::RetryPolicy {
        retry_on: "5xx".to_owned(),
        num_retries: Some(UInt32Value { value: retries }),
        per_try_idle_timeout: ms(60),
        ..Default::default()
    };
    let brief = |path: &str, retry_policy| {
        let mut action = to_cluster("brief");
        action.timeout = ms(0);
        action.prefix_rewrite = "/slow".to_owned();
        action.retry_policy = retry_policy;
        a_route(path_prefix(path), action)
    };
    let again = route::RetryPolicy {
        per_try_idle_timeout: None,
        ..policy(1)
    };
    let of_cluster = [
        brief("/time/brief", None),
        brief("/time/each-brief", Some(again)),
    ];
    [
        of("/time/idle", &|action| action.idle_timeout = ms(60)),
        of("/time/longest", &|action| {
            action.max_stream_duration = longest(ms(60));
        }),
        of("/time/soon", &|action| {
            action.max_stream_duration = longest(ms(60));
            action.timeout = ms(20);
        }),
        of("/time/try", &|action| action.retry_policy = Some(policy(0))),
        of("/time/again", &|action| {
            action.retry_policy = Some(policy(1));
        }),
    ]
    .into_iter()
    .flatten()
    .chain(of_cluster)
    .collect()
}

fn time_cases(add: Add<'_>) {
    for origin in ["", "/h2"] {
        let of = |name: &str| format!("time-{name}{}", origin.replace('/', "-to-"));
        for path in ["idle", "longest", "try", "again"] {
            add(
                &of(path),
                &["rules"],
                get(&format!("{origin}/time/{path}"), ""),
            );
        }
        let longest = get(&format!("{origin}/time/longest"), "");
        add(&of("longest"), &["rules_gateway"], longest);
    }
    add("time-soon", &["rules"], get("/time/soon", ""));
    // It counts from the beginning, however fast the answer to something else was.
    add("time-of-all", &["rules_timed"], get("/time/of-all", ""));
    add("time-unused", &["rules_timed"], get("/exact", ""));
    for path in ["brief", "each-brief"] {
        add(
            &format!("time-{path}"),
            &["rules"],
            get(&format!("/time/{path}"), ""),
        );
    }
    for (name, field) in [
        ("retries", "x-envoy-max-retries: many"),
        ("retries-right", "x-envoy-max-retries: 0"),
        ("timeout", "x-envoy-upstream-rq-timeout-ms: 1s"),
        ("on", "x-envoy-retry-on: 5xx,sometimes"),
        ("on-grpc", "x-envoy-retry-on: unavailable"),
        ("grpc", "x-envoy-retry-grpc-on: 5xx"),
    ] {
        let request = get("/exact", &format!("{field}\n"));
        add(&format!("strict-{name}"), &["rules_timed"], request);
    }
}

/// What a client of HTTP/2 cannot say.
pub(crate) fn of_http1() -> Vec<Case> {
    let part = |path: &str| get(path, "content-length: 5\n").replace("GET ", "POST ") + "he";
    [
        ("part-timed", "rules_timed", part("/exact")),
        ("part-idle", "rules", part("/time/idle")),
        ("part-longest", "rules", part("/time/longest")),
    ]
    .map(|(name, listener, request)| {
        let name = format!("{name}@{listener}");
        Case {
            request: request.replace("CASE", &name),
            name,
            listener,
            http2: false,
            copies: 0,
        }
    })
    .into()
}

/// The connection manager's own times.
pub(crate) fn with_times(mut manager: HttpConnectionManager) -> HttpConnectionManager {
    manager.request_timeout = ms(100);
    manager.common_http_protocol_options = Some(HttpProtocolOptions {
        max_stream_duration: ms(150),
        ..Default::default()
    });
    let strict = Router {
        strict_check_headers: [
            "x-envoy-max-retries",
            "x-envoy-upstream-rq-timeout-ms",
            "x-envoy-retry-on",
            "x-envoy-retry-grpc-on",
        ]
        .map(str::to_owned)
        .into(),
        ..Default::default()
    };
    manager.http_filters.pop();
    let router = filter("envoy.filters.http.router", strict);
    manager.http_filters.push(router);
    manager
}

/// The most time of each attempt.
pub(crate) fn briefly() -> Option<HttpProtocolOptions> {
    Some(HttpProtocolOptions {
        max_stream_duration: ms(60),
        ..Default::default()
    })
}

fn bucket(most: u32) -> Option<TokenBucket> {
    Some(TokenBucket {
        max_tokens: most,
        tokens_per_fill: None,
        fill_interval: Some(Duration {
            seconds: 3600,
            nanos: 0,
        }),
    })
}

fn field(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What a filter says in headers that the router checks, by the last part of the path.
const STRICT: [(&str, &str, &str); 6] = [
    ("retries", "x-envoy-max-retries", "many"),
    ("valid", "x-envoy-max-retries", "1"),
    ("on", "x-envoy-retry-on", "5xx,sometimes"),
    ("grpc", "x-envoy-retry-grpc-on", "5xx"),
    ("time", "x-envoy-upstream-rq-timeout-ms", "10s"),
    // Nobody checks it.
    ("try", "x-envoy-upstream-rq-per-try-timeout-ms", "10s"),
];

pub(crate) fn limits() -> Vec<route::Route> {
    let of = |path: &str, limit: LocalRateLimit| {
        let mut made = a_route(path_prefix(path), to_cluster("origin"));
        let limit = pack_any(limit);
        made.typed_per_filter_config.insert(LIMIT.to_owned(), limit);
        made
    };
    let limit = || LocalRateLimit {
        stat_prefix: "route".to_owned(),
        token_bucket: bucket(3),
        filter_enabled: share(100),
        filter_enforced: share(100),
        ..Default::default()
    };
    let descriptor = |entries: &[(&str, &str)], most| LocalRateLimitDescriptor {
        entries: entries
            .iter()
            .map(|(key, value)| Entry {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
        token_bucket: bucket(most),
        ..Default::default()
    };
    let user = ActionSpecifier::RequestHeaders(action::RequestHeaders {
        header_name: "x-user".to_owned(),
        descriptor_key: "user".to_owned(),
        skip_if_absent: false,
    });
    let fixed = ActionSpecifier::GenericKey(action::GenericKey {
        descriptor_value: "all".to_owned(),
        ..Default::default()
    });
    let premium = ActionSpecifier::HeaderValueMatch(action::HeaderValueMatch {
        descriptor_value: "premium".to_owned(),
        headers: vec![route::HeaderMatcher {
            name: "x-premium".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    });
    let client = ActionSpecifier::RemoteAddress(action::RemoteAddress {});
    let to = ActionSpecifier::DestinationCluster(action::DestinationCluster {});
    let rule = |stage, actions: &[&ActionSpecifier]| route::RateLimit {
        stage: Some(UInt32Value { value: stage }),
        actions: actions
            .iter()
            .map(|specifier| Action {
                action_specifier: Some((*specifier).clone()),
            })
            .collect(),
        ..Default::default()
    };
    let mut by = of(
        "/limit/by",
        LocalRateLimit {
            token_bucket: bucket(1000),
            descriptors: vec![
                descriptor(&[("user", "bob")], 1),
                descriptor(&[("generic_key", "all"), ("header_match", "premium")], 2),
                descriptor(
                    &[
                        ("remote_address", "10.9.9.9"),
                        ("destination_cluster", "origin"),
                    ],
                    1,
                ),
            ],
            enable_x_ratelimit_headers: 1,
            always_consume_default_token_bucket: flag(false),
            ..limit()
        },
    );
    let mut action = to_cluster("origin");
    action.rate_limits = vec![
        rule(0, &[&user]),
        rule(0, &[&fixed, &premium]),
        rule(0, &[&client, &to]),
        rule(1, &[&fixed]),
    ];
    by.action = Some(route::route::Action::Route(action));
    let mut of_any = of(
        "/limit/any",
        LocalRateLimit {
            token_bucket: bucket(1000),
            descriptors: vec![
                descriptor(&[("user", "")], 1),
                descriptor(&[("user", "bob")], 2),
            ],
            enable_x_ratelimit_headers: 1,
            max_dynamic_descriptors: Some(UInt32Value { value: 2 }),
            ..limit()
        },
    );
    let mut action = to_cluster("origin");
    action.rate_limits = vec![rule(0, &[&user])];
    of_any.action = Some(route::route::Action::Route(action));
    let strict = STRICT.map(|(name, header, value)| {
        let limit = LocalRateLimit {
            filter_enforced: share(0),
            request_headers_to_add_when_not_enforced: vec![field(header, value)],
            token_bucket: bucket(1),
            ..limit()
        };
        of(&format!("/limit/strict/{name}"), limit)
    });
    let mut all = vec![
        of(
            "/limit/plain",
            LocalRateLimit {
                response_headers_to_add: vec![field("x-limited", "yes")],
                enable_x_ratelimit_headers: 1,
                ..limit()
            },
        ),
        of(
            "/limit/shadow",
            LocalRateLimit {
                filter_enforced: share(0),
                request_headers_to_add_when_not_enforced: vec![field("x-shadow", "yes")],
                token_bucket: bucket(1),
                ..limit()
            },
        ),
        of(
            "/limit/grpc",
            LocalRateLimit {
                token_bucket: bucket(1),
                status: Some(HttpStatus { code: 503 }),
                rate_limited_as_resource_exhausted: true,
                ..limit()
            },
        ),
        of(
            "/limit/off",
            LocalRateLimit {
                filter_enabled: share(0),
                token_bucket: bucket(1),
                ..limit()
            },
        ),
        by,
        of_any,
    ];
    all.extend(strict);
    all
}

fn limit_cases(add: Add<'_>) {
    for (path, headers) in [
        ("plain", ""),
        ("shadow", ""),
        ("grpc", ""),
        ("grpc", "content-type: application/grpc\nte: trailers\n"),
        ("off", ""),
        ("by", "x-user: bob\n"),
        ("by", "x-user: alice\n"),
        ("by", "x-user: alice\nx-premium: 1\n"),
        ("by", "x-forwarded-for: 10.9.9.9\n"),
    ] {
        let kind: String = headers
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        for number in 0..2 {
            let name = format!("limit-{path}-{kind}-{number}");
            add(&name, &["rules"], get(&format!("/limit/{path}"), headers));
        }
    }
    // Of two values there is a bucket: ada's is a new one in the end.
    for (number, user) in ["ada", "ada", "bob", "bob", "bob", "eve", "kim", "ada"]
        .iter()
        .enumerate()
    {
        let request = get("/limit/any", &format!("x-user: {user}\n"));
        add(&format!("limit-any-{number}"), &["rules"], request);
    }
    for (path, ..) in STRICT {
        // What the client says is none of it.
        let request = get(
            &format!("/limit/strict/{path}"),
            "x-envoy-max-retries: few\nx-envoy-retry-on: never\n",
        );
        for number in 0..2 {
            let name = format!("limit-strict-{path}-{number}");
            add(&name, &["rules_timed"], request.clone());
        }
    }
}

pub(crate) fn routes() -> Vec<route::Route> {
    let mut all = cors();
    let mut of_all = to_cluster("origin");
    of_all.prefix_rewrite = "/slow".to_owned();
    all.push(a_route(path_prefix("/time/of-all"), of_all));
    all.extend(times());
    all.extend(limits());
    all.extend(mirrors());
    all.extend(sessions::routes());
    all
}

pub(crate) fn cases(add: Add<'_>) {
    cors_cases(add);
    health_cases(add);
    mirror_cases(add);
    time_cases(add);
    limit_cases(add);
    sessions::cases(add);
}
