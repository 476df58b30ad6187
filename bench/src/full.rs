//! Everything that a mesh asks of a proxy at once: routes that ask about headers, retries, 20 rules about who may do what,
//! Istio's metrics, its access log in JSON, and a span for each request. Ours and Envoy are told the same;
//! Istio's metrics are a program of Istio's in its Envoy, so that the Envoy here does without them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::core::v3::{
    CidrRange, SubstitutionFormatString, TrafficDirection, substitution_format_string,
};
use envoy_types::pb::envoy::config::rbac::v3::permission::{self, Rule};
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac, rbac};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as rbac_filter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    PathMatcher, RegexMatcher, StringMatcher, path_matcher,
};
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value, value};
use envoy_types::util::pack_any;
use periplus_xds::Snapshot;

use crate::mesh;

/// What is on, beside routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct On {
    pub(crate) spans: bool,
    /// By the node's metadata: only ours counts them.
    pub(crate) metrics: bool,
    pub(crate) log: bool,
    pub(crate) rbac: bool,
    pub(crate) routes: Routes,
}

/// The routes of the host that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Routes {
    /// A dozen, most of which ask about headers; the last one is for what is asked.
    Headers,
    /// So many, each with a prefix of its own.
    Paths(u16),
}

impl On {
    pub(crate) const EVERYTHING: Self = Self {
        spans: true,
        metrics: true,
        log: true,
        rbac: true,
        routes: Routes::Headers,
    };
    pub(crate) const NOTHING: Self = Self {
        spans: false,
        metrics: false,
        log: false,
        rbac: false,
        routes: Routes::Headers,
    };
}

/// As Istio calls the clusters of services.
const CLUSTER: &str = "outbound|9080||origin.default.svc.cluster.local";

/// What is asked for where each route has a path: that of the last one.
pub(crate) const PATH: &str = "/asked/for";

/// Where a proxy listens, and what stands around it.
pub(crate) struct Around<'a> {
    pub(crate) at: SocketAddr,
    pub(crate) host: &'a str,
    pub(crate) origin: SocketAddr,
    pub(crate) sink: SocketAddr,
    pub(crate) log: &'a Path,
}

/// What a proxy is told.
pub(crate) fn world(on: On, around: &Around<'_>) -> Snapshot {
    let routes = match on.routes {
        Routes::Headers => by_headers(),
        Routes::Paths(count) => by_paths(count),
    };
    let mut hosts: Vec<_> = (0..10)
        .map(|n| {
            let name = format!("other-{n}.default.svc.cluster.local:9080");
            let route = mesh::forward(mesh::prefix("/"), CLUSTER);
            mesh::host(&name, &name, vec![route])
        })
        .collect();
    hosts.push(mesh::host("origin", around.host, routes));
    let mut manager = mesh::manager(hosts);
    manager.tracing = on.spans.then(mesh::tracing);
    if on.log {
        manager.access_log = vec![json_log(around.log)];
    }
    if on.rbac {
        manager.http_filters.insert(0, rbac());
    }
    let listener = mesh::http_of(around.at, TrafficDirection::Outbound, manager);
    let clusters = [
        mesh::cluster(CLUSTER, around.origin),
        mesh::cluster("sink", around.sink),
    ];
    mesh::world(&[listener], &clusters)
}

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

fn exact(value: &str) -> StringMatcher {
    text(MatchPattern::Exact(value.to_owned()))
}

fn has(name: &str, specifier: HeaderMatchSpecifier) -> route::HeaderMatcher {
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

fn is(name: &str, value: StringMatcher) -> route::HeaderMatcher {
    has(name, HeaderMatchSpecifier::StringMatch(value))
}

/// As Istio's default has it.
fn retried(mut made: route::Route) -> route::Route {
    if let Some(route::route::Action::Route(action)) = &mut made.action {
        action.retry_policy = Some(route::RetryPolicy {
            retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
                .to_owned(),
            num_retries: Some(UInt32Value { value: 2 }),
            retriable_status_codes: vec![503],
            ..Default::default()
        });
    }
    made
}

fn by_headers() -> Vec<route::Route> {
    let regex = RegexMatcher {
        regex: "^(.*?;)?(user=jason)(;.*)?$".to_owned(),
        ..Default::default()
    };
    let conditions = [
        is("end-user", exact("jason")),
        is("cookie", text(MatchPattern::SafeRegex(regex))),
        has("x-canary", HeaderMatchSpecifier::PresentMatch(true)),
        is(
            "user-agent",
            text(MatchPattern::Prefix("Mobile/".to_owned())),
        ),
        is("accept", exact("application/x-of-tests")),
    ];
    let by_header = conditions.into_iter().map(|condition| {
        let mut of = mesh::prefix("/");
        of.headers.push(condition);
        mesh::forward(of, CLUSTER)
    });
    let by_both = (0..6).map(|n| {
        let mut of = mesh::prefix(&format!("/api/v{n}/"));
        of.headers.push(is("x-version", exact(&n.to_string())));
        mesh::forward(of, CLUSTER)
    });
    let last = mesh::forward(mesh::prefix("/"), CLUSTER);
    by_header
        .chain(by_both)
        .chain([last])
        .map(retried)
        .collect()
}

fn by_paths(count: u16) -> Vec<route::Route> {
    let others = (1..count).map(|n| format!("/service-{n}/"));
    let all = others.chain(["/asked/".to_owned()]);
    all.map(|prefix| retried(mesh::forward(mesh::prefix(&prefix), CLUSTER)))
        .collect()
}

fn rule(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn any(rules: Vec<Permission>) -> Permission {
    rule(Rule::OrRules(permission::Set { rules }))
}

fn path(value: StringMatcher) -> Permission {
    rule(Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(value)),
    }))
}

fn method(value: &str) -> Permission {
    rule(Rule::Header(is(":method", exact(value))))
}

/// Twenty rules in the shape of Istio's, of which the last one allows what is asked: of the others half
/// are for other paths, and half for other callers.
fn rbac() -> hcm::HttpFilter {
    let policies = (0..20).map(|n| {
        let is_last = n == 19;
        let paths = match n % 2 == 0 {
            true => vec![path(exact(&format!("/admin/{n}")))],
            false => vec![path(text(MatchPattern::Prefix("/".to_owned())))],
        };
        let operation = rule(Rule::AndRules(permission::Set {
            rules: vec![any(paths), any(vec![method("GET"), method("HEAD")])],
        }));
        let caller = match n % 3 {
            _ if is_last => Identifier::Any(true),
            0 => Identifier::Authenticated(Authenticated {
                principal_name: Some(exact(&format!("spiffe://cluster.local/ns/other/sa/{n}"))),
            }),
            1 => Identifier::RemoteIp(CidrRange {
                address_prefix: format!("10.{n}.0.0"),
                prefix_len: Some(UInt32Value { value: 16 }),
            }),
            _ => Identifier::Header(is("x-team", exact(&format!("team-{n}")))),
        };
        let policy = Policy {
            permissions: vec![operation],
            principals: vec![Principal {
                identifier: Some(caller),
            }],
            ..Default::default()
        };
        // Envoy goes through them in the order of their names.
        (format!("ns[default]-policy[bench]-rule[{n:02}]"), policy)
    });
    let rules = Rbac {
        action: rbac::Action::Allow as i32,
        policies: policies.collect::<HashMap<_, _>>(),
        ..Default::default()
    };
    let config = rbac_filter::Rbac {
        rules: Some(rules),
        ..Default::default()
    };
    hcm::HttpFilter {
        name: "envoy.filters.http.rbac".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(config))),
        ..Default::default()
    }
}

/// Istio's default fields.
const FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

fn json_log(file: &Path) -> AccessLog {
    let field = |(name, format): (&str, &str)| {
        let kind = value::Kind::StringValue(format.to_owned());
        (name.to_owned(), Value { kind: Some(kind) })
    };
    let fields = FIELDS.into_iter().map(field).collect();
    let format = SubstitutionFormatString {
        format: Some(substitution_format_string::Format::JsonFormat(Struct {
            fields,
        })),
        ..Default::default()
    };
    let log = FileAccessLog {
        path: file.display().to_string(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
    };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_any(log))),
        ..Default::default()
    }
}
