use super::*;
use crate::snapshot::PathRewrite;

const HEAD: &str = "GET /a/b?c HTTP/1.1\r\nHost: h:80\r\nx-a: 1\r\nX-A: 2\r\nx-ab: 3\r\n";

fn edited(edit: impl FnOnce(&mut Vec<u8>, usize)) -> String {
    let before = b"before\r\n\r\n";
    let mut out = [before, HEAD.as_bytes()].concat();
    edit(&mut out, before.len());
    assert!(out.starts_with(before));
    String::from_utf8(out.split_off(before.len())).expect("text")
}

#[test]
fn fields_are_removed_and_added() {
    let field = |name, action| Field {
        name,
        value: Cow::Borrowed(b"n"),
        action,
    };
    let first = "GET /a/b?c HTTP/1.1\r\nHost: h:80\r\n";
    for (name, action, rest) in [
        (
            "x-a",
            AppendAction::Append,
            "x-a: 1\r\nX-A: 2\r\nx-ab: 3\r\nx-a: n\r\n",
        ),
        (
            "x-a",
            AppendAction::AddIfAbsent,
            "x-a: 1\r\nX-A: 2\r\nx-ab: 3\r\n",
        ),
        (
            "x-c",
            AppendAction::AddIfAbsent,
            "x-a: 1\r\nX-A: 2\r\nx-ab: 3\r\nx-c: n\r\n",
        ),
        ("x-a", AppendAction::Overwrite, "x-ab: 3\r\nx-a: n\r\n"),
        (
            "x-a",
            AppendAction::OverwriteIfExists,
            "x-ab: 3\r\nx-a: n\r\n",
        ),
        (
            "x-c",
            AppendAction::OverwriteIfExists,
            "x-a: 1\r\nX-A: 2\r\nx-ab: 3\r\n",
        ),
    ] {
        let made = edited(|out, from| add(out, from, &[field(name, action)]));
        assert_eq!(made, format!("{first}{rest}"), "{name} {action:?}");
    }
    let made = edited(|out, from| remove(out, from, "host"));
    assert_eq!(made, HEAD.replace("Host: h:80\r\n", ""));
}

#[test]
fn paths_are_rewritten_without_their_query() {
    for (rewrite, matched, path) in [
        (PathRewrite::Matched("/new".into()), 2, "/new/b?c"),
        (PathRewrite::Matched("/".into()), 4, "/?c"),
    ] {
        let made = edited(|out, from| rewrite_path(&rewrite, matched, out, from));
        assert!(
            made.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{made}"
        );
        assert!(
            made.ends_with("x-envoy-original-path: /a/b?c\r\n"),
            "{made}"
        );
    }
}

#[test]
fn ports_of_redirected_hosts() {
    for (asked, schemes, has_port, host) in [
        ("h", ("http", "https"), false, "h"),
        ("h:80", ("http", "https"), false, "h"),
        ("h:80", ("http", "http"), false, "h:80"),
        ("h:8080", ("http", "https"), false, "h:8080"),
        ("h:8080", ("http", "http"), true, "h"),
        ("h:443", ("https", "http"), false, "h"),
        ("[::1]:80", ("http", "https"), false, "[::1]"),
        ("[::1]", ("http", "https"), true, "[::1]"),
    ] {
        assert_eq!(host_of(asked, schemes, has_port), host, "{asked}");
    }
}
