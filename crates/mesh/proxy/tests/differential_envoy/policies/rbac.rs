//! Policies, and the requests that are held against each of them.

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use envoy_types::pb::envoy::config::rbac::v3::permission::Rule;
use envoy_types::pb::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac};
use envoy_types::pb::envoy::config::rbac::v3::{permission, principal};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as filter;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::path_matcher::Rule as PathRule;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use envoy_types::util::pack_any;

fn rule(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

pub(super) fn who(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

fn anybody() -> Principal {
    who(Identifier::Any(true))
}

pub(super) fn anything() -> Permission {
    rule(Rule::Any(true))
}

fn text(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case,
    }
}

pub(super) fn exact(value: &str) -> StringMatcher {
    text(MatchPattern::Exact(value.to_owned()), false)
}

fn prefix(value: &str) -> StringMatcher {
    text(MatchPattern::Prefix(value.to_owned()), false)
}

fn path(matcher: StringMatcher) -> PathMatcher {
    PathMatcher {
        rule: Some(PathRule::Path(matcher)),
    }
}

pub(super) fn header(name: &str, specifier: HeaderMatchSpecifier) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

fn is(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    header(name, HeaderMatchSpecifier::StringMatch(matcher))
}

fn block(prefix: &str, length: u32) -> CidrRange {
    CidrRange {
        address_prefix: prefix.to_owned(),
        prefix_len: Some(UInt32Value { value: length }),
    }
}

fn template(path_template: &str) -> Permission {
    let config = UriTemplateMatchConfig {
        path_template: path_template.to_owned(),
    };
    rule(Rule::UriTemplate(TypedExtensionConfig {
        name: "envoy.path.match.uri_template.uri_template_matcher".to_owned(),
        typed_config: Some(pack_any(config)),
    }))
}

fn all(rules: Vec<Permission>) -> Permission {
    rule(Rule::AndRules(permission::Set { rules }))
}

fn any(rules: Vec<Permission>) -> Permission {
    rule(Rule::OrRules(permission::Set { rules }))
}

fn not(inner: Permission) -> Permission {
    rule(Rule::NotRule(Box::new(inner)))
}

fn header_rule(matcher: HeaderMatcher) -> Permission {
    rule(Rule::Header(matcher))
}

pub(super) type Named = (&'static str, Vec<Permission>, Vec<Principal>);

fn rules(action: Action, policies: Vec<Named>) -> Rbac {
    let policy = |(name, permissions, principals): Named| {
        let policy = Policy {
            permissions,
            principals,
            ..Default::default()
        };
        (name.to_owned(), policy)
    };
    Rbac {
        action: action as i32,
        policies: policies.into_iter().map(policy).collect(),
        ..Default::default()
    }
}

pub(super) fn enforced(action: Action, policies: Vec<Named>) -> filter::Rbac {
    filter::Rbac {
        rules: Some(rules(action, policies)),
        track_per_rule_stats: true,
        ..Default::default()
    }
}

/// A policy of one permission for anybody.
fn allow(permission: Permission) -> filter::Rbac {
    enforced(
        Action::Allow,
        vec![("only", vec![permission], vec![anybody()])],
    )
}

/// A policy of anything for one principal.
pub(super) fn allow_whom(principal: Principal) -> filter::Rbac {
    enforced(
        Action::Allow,
        vec![("whom", vec![anything()], vec![principal])],
    )
}

fn invert(mut matcher: HeaderMatcher) -> HeaderMatcher {
    matcher.invert_match = true;
    matcher
}

#[expect(deprecated, reason = "the direct one is another")]
fn source_ip(block: CidrRange) -> Identifier {
    Identifier::SourceIp(block)
}

/// Filters of all kinds, one after the other.
pub(super) fn several() -> Vec<filter::Rbac> {
    let alice = || who(Identifier::Header(is("x-user", exact("alice"))));
    let policy = |action, name, whom| rules(action, vec![(name, vec![anything()], vec![whom])]);
    let tried = |prefix: &str, rules| filter::Rbac {
        shadow_rules: Some(rules),
        shadow_rules_stat_prefix: prefix.to_owned(),
        ..Default::default()
    };
    let in_force = |rules| filter::Rbac {
        rules: Some(rules),
        ..Default::default()
    };
    vec![
        in_force(policy(Action::Log, "alice", alice())),
        tried("deny_", policy(Action::Deny, "no alice", alice())),
        tried("allow_", policy(Action::Allow, "anybody", anybody())),
        tried(
            "istio_ext_authz_",
            policy(Action::Deny, "istio-ext-authz-p-ns[x]", anybody()),
        ),
        in_force(policy(Action::Allow, "anybody", anybody())),
    ]
}

/// The policies by name.
pub(crate) fn policies() -> Vec<(&'static str, filter::Rbac)> {
    let present = || header("x-user", HeaderMatchSpecifier::PresentMatch(true));
    let regex = RegexMatcher {
        regex: "/api/v[0-9]+/.*".to_owned(),
        ..Default::default()
    };
    let regex = text(MatchPattern::SafeRegex(regex), false);
    let get = || header_rule(is(":method", exact("GET")));
    let either = |ids| who(Identifier::OrIds(principal::Set { ids }));
    let both = |ids| who(Identifier::AndIds(principal::Set { ids }));
    let alice = || who(Identifier::Header(is("x-user", exact("alice"))));
    let from_path = who(Identifier::UrlPath(path(prefix("/api/"))));
    let mut missing_is_empty = is("x-user", exact(""));
    missing_is_empty.treat_missing_header_as_empty = true;
    let ports = |start, end| rule(Rule::DestinationPortRange(Int32Range { start, end }));
    let mut policies = vec![
        ("allow-nothing", enforced(Action::Allow, vec![])),
        ("deny-nothing", enforced(Action::Deny, vec![])),
        ("allow-all", allow(anything())),
        (
            "log",
            enforced(Action::Log, vec![("l", vec![get()], vec![anybody()])]),
        ),
        ("no-rules", filter::Rbac::default()),
        ("get-only", allow(get())),
        ("path-exact", allow(rule(Rule::UrlPath(path(exact("/ok")))))),
        (
            "path-prefix",
            allow(rule(Rule::UrlPath(path(prefix("/api"))))),
        ),
        ("path-regex", allow(rule(Rule::UrlPath(path(regex))))),
        (
            "path-any-case",
            allow(rule(Rule::UrlPath(path(text(
                MatchPattern::Exact("/OK".to_owned()),
                true,
            ))))),
        ),
        (
            "path-header",
            allow(header_rule(is(":path", prefix("/ok?case=")))),
        ),
        ("template", allow(template("/api/*/items"))),
        ("template-rest", allow(template("/api/**"))),
        (
            "host",
            allow(header_rule(is(
                ":authority",
                text(MatchPattern::Prefix("SHOP.".to_owned()), true),
            ))),
        ),
        (
            "host-suffix",
            allow(header_rule(is(
                ":authority",
                text(MatchPattern::Suffix(".Example".to_owned()), true),
            ))),
        ),
        ("scheme", allow(header_rule(is(":scheme", exact("http"))))),
        ("present", allow(header_rule(present()))),
        ("absent", allow(header_rule(invert(present())))),
        (
            "not-present",
            allow(header_rule(header(
                "x-user",
                HeaderMatchSpecifier::PresentMatch(false),
            ))),
        ),
        (
            "not-alice",
            allow(header_rule(invert(is("x-user", exact("alice"))))),
        ),
        (
            "not-rule",
            allow(not(header_rule(is("x-user", exact("alice"))))),
        ),
        (
            "joined",
            allow(header_rule(is("x-user", exact("alice,bob")))),
        ),
        (
            "contains",
            allow(header_rule(is(
                "x-user",
                text(MatchPattern::Contains("LIC".to_owned()), true),
            ))),
        ),
        (
            "range",
            allow(header_rule(header(
                "x-number",
                HeaderMatchSpecifier::RangeMatch(envoy_types::pb::envoy::r#type::v3::Int64Range {
                    start: -1,
                    end: 10,
                }),
            ))),
        ),
        ("missing-is-empty", allow(header_rule(missing_is_empty))),
        (
            "and-or-not",
            allow(all(vec![
                any(vec![get(), header_rule(is(":method", exact("POST")))]),
                not(rule(Rule::UrlPath(path(prefix("/api"))))),
                header_rule(present()),
            ])),
        ),
        ("alice", allow_whom(alice())),
        (
            "either",
            allow_whom(either(vec![alice(), from_path.clone()])),
        ),
        ("both", allow_whom(both(vec![alice(), from_path]))),
        (
            "not-id",
            allow_whom(who(Identifier::NotId(Box::new(alice())))),
        ),
        (
            "authenticated",
            allow_whom(who(Identifier::Authenticated(Authenticated::default()))),
        ),
        (
            "two-policies",
            enforced(
                Action::Allow,
                vec![
                    ("b second", vec![get()], vec![anybody()]),
                    ("a first", vec![anything()], vec![alice()]),
                ],
            ),
        ),
        (
            "deny-alice",
            enforced(
                Action::Deny,
                vec![(
                    "ns[x]-policy[no alice]-rule[0]",
                    vec![anything()],
                    vec![alice()],
                )],
            ),
        ),
        (
            "from-loopback",
            allow_whom(who(Identifier::DirectRemoteIp(block("127.0.0.0", 8)))),
        ),
        (
            "from-elsewhere",
            allow_whom(who(Identifier::DirectRemoteIp(block("10.0.0.0", 8)))),
        ),
        // The client speaks for another address, with a header of the PROXY protocol.
        (
            "proxied-direct",
            allow_whom(who(Identifier::DirectRemoteIp(block("127.0.0.0", 8)))),
        ),
        (
            "proxied-source",
            allow_whom(who(source_ip(block("10.0.0.0", 8)))),
        ),
        (
            "proxied-remote",
            allow_whom(who(Identifier::RemoteIp(block("10.0.0.0", 8)))),
        ),
        (
            "client-in-10",
            allow_whom(who(Identifier::RemoteIp(block("10.0.0.0", 8)))),
        ),
        (
            "to-loopback",
            allow(rule(Rule::DestinationIp(block("127.0.0.1", 32)))),
        ),
        ("to-port-1", allow(rule(Rule::DestinationPort(1)))),
        ("to-ports", allow(ports(10_000, 65_535))),
        ("to-other-ports", allow(ports(1, 1000))),
        (
            "server-name",
            allow(rule(Rule::RequestedServerName(exact("x")))),
        ),
        (
            "no-server-name",
            allow(rule(Rule::RequestedServerName(exact("")))),
        ),
    ];
    let shadow = filter::Rbac {
        rules: Some(rules(
            Action::Deny,
            vec![("enforced", vec![anything()], vec![alice()])],
        )),
        shadow_rules: Some(rules(
            Action::Allow,
            vec![("shadow", vec![get()], vec![anybody()])],
        )),
        rules_stat_prefix: "own_".to_owned(),
        shadow_rules_stat_prefix: "istio_dry_run_allow_".to_owned(),
        track_per_rule_stats: true,
        ..Default::default()
    };
    policies.push(("shadow", shadow));
    policies
}

/// The requests by name. `CASE` stands for the name of the case.
pub(super) fn requests() -> Vec<(&'static str, String)> {
    let request = |line: &str, headers: &str| {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let headers = headers.replace('\n', "\r\n");
        let host = if headers.contains("host:") {
            ""
        } else {
            "host: test\r\n"
        };
        format!("{method} {path}?case=CASE. HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n")
    };
    [
        ("plain", "GET /ok", ""),
        ("post", "POST /ok", "content-length: 0\n"),
        ("alice", "GET /ok", "x-user: alice\n"),
        ("alice-and-bob", "GET /ok", "x-user: alice\nx-user: bob\n"),
        ("empty-user", "GET /ok", "x-user:\n"),
        ("api", "GET /api/v1/items", "x-user: bob\nx-number: 9\n"),
        ("api-deep", "GET /api/v1/x/items", "x-number: 10\n"),
        ("api-slash", "DELETE /api/", "x-number: -1\n"),
        ("shop", "GET /ok", "host: shop.example\n"),
        (
            "forwarded",
            "GET /ok",
            "x-forwarded-for: 1.2.3.4, 10.1.2.3\n",
        ),
        (
            "forwarded-elsewhere",
            "GET /ok",
            "x-forwarded-for: 10.1.2.3, 1.2.3.4\n",
        ),
        ("nowhere", "GET /nothing", "x-user: alice\n"),
        // What concerns the connection alone is nothing to decide by.
        (
            "nominated",
            "GET /ok",
            "x-user: alice\nx-number: 9\nconnection: x-user, X-Number\n",
        ),
        ("open-route", "GET /ok/open", ""),
        ("closed-route", "GET /ok/closed", "x-user: alice\n"),
    ]
    .into_iter()
    .map(|(name, line, headers)| (name, request(line, headers)))
    .collect()
}

/// What routes say of the filter, by path.
pub(crate) fn by_route() -> Vec<(&'static str, Any)> {
    let all = enforced(
        Action::Deny,
        vec![("all", vec![anything()], vec![anybody()])],
    );
    let closed = filter::RbacPerRoute { rbac: Some(all) };
    vec![
        ("/ok/open", pack_any(filter::RbacPerRoute::default())),
        ("/ok/closed", pack_any(closed)),
    ]
}
