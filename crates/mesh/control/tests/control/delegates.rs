//! VirtualServices that leave rules to others.

use periplus_control::Index;

use crate::connections::sidecar;
use crate::generate::{made, problems};
use crate::semantics::{errors, index, resource};
use crate::support::render::routing;

/// The routes to the web at a sidecar.
fn routes(index: &Index) -> Vec<String> {
    let text = routing(&made(index, &sidecar("client")));
    let lines = text.lines().map(str::trim);
    let own = lines.skip_while(|line| !line.starts_with("web.default"));
    let own = own.skip(1).take_while(|line| line.contains(" -> "));
    own.map(|line| line.replace(".default.svc.cluster.local", ""))
        .collect()
}

#[test]
fn delegates_say_what_roots_leave_unsaid() {
    let to = "route: [{destination: {host: other}}]";
    for (root, delegate, expected) in [
        // Either alone, and both.
        ("", format!("[{{{to}}}]"), vec!["/* +0 (root"]),
        (
            "match: [{uri: {prefix: /a}}], ",
            format!("[{{{to}}}]"),
            vec!["/a* +0 (root"],
        ),
        (
            "",
            format!("[{{name: own, match: [{{uri: {{exact: /b}}}}], {to}}}]"),
            vec!["/b +0 (root-own"],
        ),
        (
            "match: [{uri: {prefix: /a}, headers: {x: {exact: y}}}], ",
            format!("[{{match: [{{uri: {{prefix: /a/b}}}}, {{method: {{exact: GET}}}}], {to}}}]"),
            vec!["/a/b* +1 (root", "/a* +2 (root"],
        ),
        // Each condition must be within one of the root's; the others of the delegate stay.
        (
            "match: [{uri: {prefix: /a}}], ",
            format!(
                "[{{match: [{{uri: {{prefix: /b}}}}], {to}}}, {{match: [{{uri: {{exact: /a/c}}}}], {to}}}]"
            ),
            vec!["/a/c +0 (root"],
        ),
        (
            "match: [{uri: {regex: '/a.*'}}], ",
            format!("[{{match: [{{uri: {{exact: /abc}}}}], {to}}}, {{name: rest, {to}}}]"),
            vec!["~/a.* +0 (root-rest"],
        ),
        (
            "match: [{uri: {exact: /a}}], ",
            format!("[{{match: [{{uri: {{prefix: /a}}}}], {to}}}]"),
            vec![],
        ),
        (
            "match: [{headers: {x: {}}}], ",
            format!("[{{match: [{{headers: {{x: {{exact: y}}}}}}], {to}}}]"),
            vec!["/* +1 (root"],
        ),
    ] {
        let text = resource(
            "VirtualService",
            "root",
            &format!(
                "{{hosts: [web], http: [{{name: root, {root}timeout: 7s, retries: {{attempts: 0}}, delegate: {{name: leaf}}}}, \
                 {{name: last, route: [{{destination: {{host: web}}}}]}}]}}"
            ),
        ) + &resource("VirtualService", "leaf", &format!("{{http: {delegate}}}"));
        let index = index(&text);
        let mut found = routes(&index);
        // Behind a rule that takes all there is nothing more.
        if !expected.iter().any(|line| line.starts_with("/* +0")) {
            let last = found.pop().unwrap_or_default();
            assert!(
                last.starts_with("/* +0 -> outbound|80||web (last"),
                "{last}"
            );
        }
        let short = |line: &String| {
            let line = line.replace(" -> outbound|80||other", "");
            line.split_once(',')
                .map_or(line.clone(), |(line, _)| line.to_owned())
        };
        assert_eq!(
            found.iter().map(short).collect::<Vec<_>>(),
            expected,
            "{root}{delegate}"
        );
        // What the delegate does not say is the root's.
        let made = format!("{:?}", made(&index, &sidecar("client")).routes);
        assert_eq!(made.contains("seconds: 7"), !expected.is_empty());
        let told = problems(&index);
        let dropped = told.contains("takes nothing of what VirtualService default/root");
        let is_narrower =
            root.contains("regex") || root.contains("exact: /a}") || delegate.contains("/a/c");
        assert_eq!(dropped, is_narrower, "{told}");
    }
    // Its own goes before the root's.
    let text = resource(
        "VirtualService",
        "root",
        "{hosts: [web], http: [{timeout: 7s, headers: {request: {set: {a: root}}}, delegate: {name: leaf, namespace: default}}]}",
    ) + &resource(
        "VirtualService",
        "leaf",
        "{http: [{timeout: 0s, headers: {request: {set: {a: leaf}}}, route: [{destination: {host: other}}]}]}",
    );
    let text = format!("{:?}", made(&index(&text), &sidecar("client")).routes);
    assert!(
        text.contains("\"leaf\"") && !text.contains("\"root\"") && !text.contains("seconds: 7")
    );
}

#[test]
fn delegates_that_are_not_to_be_had_are_told() {
    let root = |to: &str| {
        resource(
            "VirtualService",
            "root",
            &format!(
                "{{hosts: [web], http: [{{delegate: {{{to}}}}}, {{route: [{{destination: {{host: other}}}}]}}]}}"
            ),
        )
    };
    let hidden = resource(
        "VirtualService",
        "leaf",
        "{http: [{route: [{destination: {host: web}}]}]}",
    )
    .replace("{name: leaf}", "{name: leaf, namespace: shop}")
    .replace("{http", "{exportTo: ['.'], http");
    for (text, expected) in [
        (
            root("name: nowhere"),
            "there is no VirtualService default/nowhere without `hosts`",
        ),
        (
            root("name: leaf, namespace: shop") + &hidden,
            "VirtualService shop/leaf is not exported to default",
        ),
        (
            root("name: root"),
            "there is no VirtualService default/root without `hosts`",
        ),
        (
            hidden,
            "VirtualService shop/leaf has no `hosts`, and no VirtualService delegates to it",
        ),
    ] {
        let index = index(&text);
        let told = problems(&index);
        assert!(told.contains(expected), "{expected}\n{told}");
        if text.contains("name: root") {
            let rest = routes(&index);
            assert!(rest.len() == 1 && rest[0].contains("||other"), "{rest:?}");
        }
    }
    for (spec, expected) in [
        ("{http: [{delegate: {name: a}}]}", "delegates nothing"),
        (
            "{gateways: [a], http: [{route: [{destination: {host: a}}]}]}",
            "without `hosts` it is a delegate",
        ),
        (
            "{hosts: [a], http: [{delegate: {name: a}, route: [{destination: {host: a}}]}]}",
            "exclude each other",
        ),
        (
            "{hosts: [a], http: [{delegate: {nam: a}}]}",
            "unknown field `nam`",
        ),
        (
            "{hosts: [a], http: [{redirect: {prefixRewrite: /a, uri: /b}}]}",
            "`uri` and `prefixRewrite` exclude each other",
        ),
        (
            "{hosts: [a], http: [{match: [{headers: {'@request.auth.claims.a': {exact: b}}}], route: [{destination: {host: a}}]}]}",
            "only gateways route by what tokens say",
        ),
        (
            "{hosts: [a], gateways: [g], http: [{match: [{headers: {'@request.auth.claims[a': {exact: b}}}], route: [{destination: {host: a}}]}]}",
            "asked for as `@request.auth.claims[NAME]`",
        ),
    ] {
        let errors = errors(&resource("VirtualService", "a", spec));
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{spec}: {errors:?}"
        );
    }
}
