//! Changes of a target's query.

/// The target with these parameters set and those removed, all in the order of their names, as Envoy has them.
pub(super) fn rewritten(target: &str, set: &[(String, String)], removed: &[String]) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = |part: &str| part.split('=').next().unwrap_or_default().to_owned();
    let mut parts: Vec<String> = query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    for (key, value) in set {
        let is_it = |part: &String| name(part) == *key;
        let at = parts.iter().position(is_it).unwrap_or(parts.len());
        parts.retain(|part| !is_it(part));
        parts.insert(at, format!("{key}={value}"));
    }
    parts.retain(|part| !removed.contains(&name(part)));
    parts.sort_by_key(|part| name(part));
    match parts.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", parts.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_and_removed() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            all.iter().map(pair).collect()
        };
        for (target, set, removed, expected) in [
            ("/", &[][..], &[][..], "/"),
            ("/a?x=1&y=2", &[("y", "3")], &[], "/a?x=1&y=3"),
            ("/a?x=1&x=2&y=3", &[("x", "9")], &[], "/a?x=9&y=3"),
            ("/a?z=1&y=2", &[("x", "3")], &[], "/a?x=3&y=2&z=1"),
            ("/a?x=1&y=3", &[], &["x"], "/a?y=3"),
            ("/a?x=1", &[], &["x"], "/a"),
            ("/a", &[("b", "c d")], &["x"], "/a?b=c d"),
        ] {
            let removed: Vec<_> = removed.iter().map(|one: &&str| (*one).to_owned()).collect();
            assert_eq!(
                rewritten(target, &pairs(set), &removed),
                expected,
                "{target}"
            );
        }
    }
}
