//! Paths in one form: which one the endpoint gets, and that nobody gets around a policy by another spelling.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};

use super::{Filters, Pair, Side, filter};
use crate::world;
use crate::xds_support::http::exchange;

/// The listeners, each with another way to deal with paths; all of them keep `/secret` to themselves.
const WAYS: [&str; 7] = [
    "paths_kept",
    "paths_base",
    "paths_merged",
    "paths_decoded",
    "paths_rejected",
    "paths_redirected",
    "paths_unescaped",
];

/// What a listener of this name does with paths.
pub(super) fn shape(name: &str, manager: &mut HttpConnectionManager) {
    use PathWithEscapedSlashesAction::{RejectRequest, UnescapeAndForward, UnescapeAndRedirect};
    let (normalizes, merges, action) = match name {
        "paths_base" => (true, false, None),
        "paths_merged" => (true, true, None),
        "paths_decoded" => (true, true, Some(UnescapeAndForward)),
        "paths_rejected" => (true, false, Some(RejectRequest)),
        "paths_redirected" => (true, false, Some(UnescapeAndRedirect)),
        "paths_unescaped" => (false, false, Some(UnescapeAndForward)),
        _ => return,
    };
    manager.normalize_path = if normalizes { world::yes() } else { None };
    manager.merge_slashes = merges;
    if let Some(action) = action {
        manager.path_with_escaped_slashes_action = action.into();
    }
}

/// Whoever asks for `/secret`, or what is below it, is refused.
fn no_secrets() -> Filters {
    let path = StringMatcher {
        match_pattern: Some(MatchPattern::Prefix("/ok/secret".to_owned())),
        ..Default::default()
    };
    let path = PathMatcher {
        rule: Some(path_matcher::Rule::Path(path)),
    };
    let policy = pb::Policy {
        permissions: vec![pb::Permission {
            rule: Some(pb::permission::Rule::UrlPath(path)),
        }],
        principals: vec![pb::Principal {
            identifier: Some(pb::principal::Identifier::Any(true)),
        }],
        ..Default::default()
    };
    let rules = pb::Rbac {
        action: pb::rbac::Action::Deny.into(),
        policies: [("no secrets".to_owned(), policy)].into(),
        ..Default::default()
    };
    let rbac = Rbac {
        rules: Some(rules),
        ..Default::default()
    };
    vec![filter("envoy.filters.http.rbac", rbac)]
}

const PATHS: &[&str] = &[
    "/ok/a?b=/../c//d%2fe",
    "/x/../ok/a?b=/../c//d%2fe",
    "/ok/./a",
    "/ok/a/..",
    "/ok/a/.",
    "/../../ok",
    "/ok/%2e%2E/ok/a",
    "/ok//a",
    "//ok/a",
    "//",
    "/ok/a//../b",
    "/x/..//ok",
    "/ok/a%2Fb",
    "/ok/a%5cb",
    "/ok/a\\b",
    "/ok/a\\..\\b",
    "/x%2f..%2fok",
    "/ok/%41%7e%2d",
    "/ok/%21%c3%a4%7f%0d",
    "/ok/%zz%",
    "/ok/...",
    "/ok/a/..;x=y/b",
    "/ok/;/b",
    "/ok/%252e%252e/a",
    "/ok/<>\"{}|^`",
    "/ok/'()*!$&+,;=:@-._~[]",
    "/ok/a%00",
    "/ok/a%2f%00",
    "http://h/x/../ok/a",
    "/ok/secret",
    "/ok/x/../secret",
    "/ok/%2e/secret",
    "/ok/secre%74",
    "/ok//secret",
    "/ok%2fsecret",
    "/ok/x%2f..%5csecret",
];

/// What came of a request: the answer, and what the endpoint was asked for.
async fn run(side: &Side, listener: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    let answer = exchange(side.listeners[listener], &request).await;
    let answer = answer.expect("an answer");
    let location = answer.header("location").unwrap_or_default();
    let mut text = format!("{} {location}", answer.status());
    for request in side.origin.take() {
        // Writing to a string cannot fail.
        let _ = write!(text, " {}", request.line);
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_have_the_form_that_envoy_gives_them() {
    let filters = WAYS.map(|way| (way, no_secrets()));
    let Some(pair) = Pair::start(&filters, &[]).await else {
        return;
    };
    let mut differing = Vec::new();
    let mut secrets = BTreeMap::<&str, Vec<&str>>::new();
    for way in WAYS {
        for path in PATHS {
            let (ours, envoys) =
                tokio::join!(run(&pair.ours, way, path), run(&pair.envoys, way, path));
            if ours != envoys {
                differing.push(format!("{way} {path}: ours {ours}, Envoy's {envoys}"));
            }
            if path.ends_with("secret") && ours.starts_with("200") {
                secrets.entry(way).or_default().push(path);
            }
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    // Without any form each other spelling gets around the policy, with all of it none does.
    assert_eq!(secrets["paths_kept"].len(), 5, "{secrets:?}");
    let left = ["/ok//secret", "/ok%2fsecret", "/ok/x%2f..%5csecret"];
    assert_eq!(secrets["paths_base"], left);
    assert!(!secrets.contains_key("paths_decoded"), "{secrets:?}");
    let [ours, envoys] = pair.counts("path").await;
    let is_about_form = |(name, _): &(&String, &String)| name.contains("normaliz");
    let of = |counts: &BTreeMap<String, String>| -> Vec<_> {
        let counts = counts.iter().filter(is_about_form);
        counts
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    assert_eq!(of(&ours), of(&envoys), "ours, and Envoy's");
    assert!(!of(&ours).is_empty());
    pair.agent.shutdown(std::time::Duration::from_secs(1)).await;
}
