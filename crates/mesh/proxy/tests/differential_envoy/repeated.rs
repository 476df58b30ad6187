//! Headers that come several times: what conditions on them make of that, in routes and in rules.

use std::collections::HashMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac as Rules, permission, principal, rbac,
};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use envoy_types::util::pack_any;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::envoy;
use crate::pair::Pair;
use crate::xds_support::resources::{
    eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
};
use crate::xds_support::{PATIENCE, free_address};

/// The lines of the header that a request has.
const LINES: [&[&str]; 12] = [
    &[],
    &[""],
    &["a"],
    &["b"],
    &["a", "b"],
    &["b", "a"],
    &["a", "a"],
    &["a,b"],
    &["", "a"],
    &["20", "5"],
    &["5", "20"],
    &["c", "d"],
];

fn text(pattern: MatchPattern, ignore_case: bool) -> HeaderMatchSpecifier {
    HeaderMatchSpecifier::StringMatch(StringMatcher {
        match_pattern: Some(pattern),
        ignore_case,
    })
}

/// Conditions on the header, each as it is and inverted, and with a missing header taken for an empty one.
fn conditions() -> Vec<route::HeaderMatcher> {
    let exact = |value: &str| MatchPattern::Exact(value.to_owned());
    let regex = RegexMatcher {
        regex: "[ab]".to_owned(),
        ..Default::default()
    };
    let of_value = [
        text(exact("a"), false),
        text(exact("A"), true),
        text(exact("a,b"), false),
        text(exact(""), false),
        text(MatchPattern::Prefix("a".to_owned()), false),
        text(MatchPattern::Suffix("b".to_owned()), false),
        text(MatchPattern::Contains(",".to_owned()), false),
        text(MatchPattern::SafeRegex(regex), false),
        HeaderMatchSpecifier::RangeMatch(Int64Range { start: 1, end: 10 }),
        HeaderMatchSpecifier::PresentMatch(true),
    ];
    let one = |specifier: &HeaderMatchSpecifier, invert, missing| route::HeaderMatcher {
        name: "x-role".to_owned(),
        header_match_specifier: Some(specifier.clone()),
        invert_match: invert,
        treat_missing_header_as_empty: missing,
    };
    let each = |specifier| {
        [(false, false), (true, false), (false, true), (true, true)]
            .map(|(invert, missing)| one(specifier, invert, missing))
    };
    of_value.iter().flat_map(each).collect()
}

fn answer(prefix: &str, header: Option<&route::HeaderMatcher>, status: u32) -> route::Route {
    route::Route {
        r#match: Some(route::RouteMatch {
            headers: header.cloned().into_iter().collect(),
            ..path_prefix(prefix)
        }),
        action: Some(route::route::Action::DirectResponse(
            route::DirectResponseAction {
                status,
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// The condition of each number, of a route below `/route` and of a rule that denies below `/rule`.
fn snapshot(at: SocketAddr) -> Snapshot {
    let conditions = conditions();
    let mut routes = Vec::new();
    let mut policies = HashMap::new();
    for (number, header) in conditions.iter().enumerate() {
        routes.push(answer(&format!("/route/{number}/"), Some(header), 201));
        let all = [
            permission::Rule::UrlPath(envoy_types::pb::envoy::r#type::matcher::v3::PathMatcher {
                rule: Some(
                    envoy_types::pb::envoy::r#type::matcher::v3::path_matcher::Rule::Path(
                        StringMatcher {
                            match_pattern: Some(MatchPattern::Prefix(format!("/rule/{number}/"))),
                            ignore_case: false,
                        },
                    ),
                ),
            }),
            permission::Rule::Header(header.clone()),
        ];
        let rules = all.map(|rule| Permission { rule: Some(rule) }).into();
        let policy = Policy {
            permissions: vec![Permission {
                rule: Some(permission::Rule::AndRules(permission::Set { rules })),
            }],
            principals: vec![Principal {
                identifier: Some(principal::Identifier::Any(true)),
            }],
            ..Default::default()
        };
        policies.insert(format!("{number}"), policy);
    }
    routes.push(answer("/", None, 200));
    let rbac = Rbac {
        rules: Some(Rules {
            action: rbac::Action::Deny as i32,
            policies,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut manager = manager("routes");
    manager.http_filters.insert(
        0,
        hcm::HttpFilter {
            name: "envoy.filters.http.rbac".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(rbac))),
            ..Default::default()
        },
    );
    let listener = listener("http", at, TrafficDirection::Outbound, manager);
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    Snapshot::default()
        .with(CLUSTER, only(eds_cluster("unused", |_| ())))
        .with(ENDPOINT, only(endpoints("unused", &[])))
        .with(LISTENER, only(Resource::new("http", &listener)))
        .with(ROUTE, only(route_configuration("routes", routes)))
}

/// The status of the answer to a request; the connection stays.
async fn status(stream: &mut TcpStream, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().expect("a number"));
            if body.len() == length {
                let status = head.split(' ').nth(1).expect("a status");
                return status.parse().expect("a number");
            }
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
        assert!(matches!(read, Ok(Ok(1..))), "{read:?} after {answer:?}");
    }
}

async fn statuses(at: SocketAddr) -> Vec<String> {
    let mut stream = TcpStream::connect(at).await.expect("connects");
    let mut lines = Vec::new();
    for (number, condition) in conditions().iter().enumerate() {
        for of in ["route", "rule"] {
            let mut statuses = Vec::new();
            for values in LINES {
                let fields: String = values
                    .iter()
                    .map(|value| format!("x-role: {value}\r\n"))
                    .collect();
                let request = format!("GET /{of}/{number}/ HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
                let status = status(&mut stream, &request).await;
                statuses.push((values, status != 200));
            }
            let met: Vec<_> = statuses
                .iter()
                .filter(|(_, met)| *met)
                .map(|(values, _)| values)
                .collect();
            lines.push(format!(
                "{of} {:?} inverted {} missing-as-empty {}: {met:?}",
                condition.header_match_specifier,
                condition.invert_match,
                condition.treat_missing_header_as_empty
            ));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_come_several_times_meet_conditions_as_in_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let at = [free_address().await, free_address().await];
    let _pair = Pair::start(&binary, at.map(snapshot)).await;
    let (ours, envoys) = tokio::join!(statuses(at[0]), statuses(at[1]));
    let differences: Vec<_> = ours.iter().zip(&envoys).filter(|(a, b)| a != b).collect();
    assert!(
        differences.is_empty(),
        "ours, and Envoy's: {differences:#?}"
    );
}
