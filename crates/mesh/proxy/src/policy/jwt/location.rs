//! Where a request has its tokens.

use std::borrow::Cow;

use crate::http1::request::RequestHead;
use crate::paths::unescaped;
use crate::policy::query::rewritten;

/// A place to look for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a header of this name, lower case, behind this text.
    Header { name: String, prefix: String },
    /// In a parameter of the query.
    Parameter(String),
    /// In a cookie.
    Cookie(String),
}

impl Location {
    /// The tokens that are there.
    pub(crate) fn tokens<'a>(&self, request: &RequestHead, head: &'a [u8]) -> Vec<Cow<'a, str>> {
        match self {
            Self::Header { name, prefix } => request
                .fields
                .all_by_text(name, head)
                .filter_map(|value| in_header(std::str::from_utf8(value).ok()?, prefix))
                .map(Cow::Borrowed)
                .collect(),
            Self::Parameter(name) => {
                let target = request.target.path.get(head);
                let query = memchr::memchr(b'?', target).map(|at| &target[at + 1..]);
                let query = query.and_then(|query| std::str::from_utf8(query).ok());
                let mut pairs = pairs(query.unwrap_or_default());
                let found = pairs.find(|(key, _)| unescaped(key) == **name);
                found
                    .map(|(_, value)| unescaped(value))
                    .into_iter()
                    .collect()
            }
            Self::Cookie(name) => {
                let lines = request.fields.all_by_text("cookie", head);
                let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
                let pairs = lines.flat_map(|line| line.split(';'));
                let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
                let found = pairs.filter(|(key, _)| key == name);
                let unquoted = found.map(|(_, value)| value.trim_matches('"'));
                unquoted.map(Cow::Borrowed).take(1).collect()
            }
        }
    }
}

/// The parameters of a query.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The target without the parameters of these names, however they are written.
pub(crate) fn without_parameters(target: &str, names: &[String]) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let keys = pairs(query).map(|(key, _)| key);
    let is_gone = |key: &&str| names.iter().any(|name| unescaped(key) == **name);
    let gone: Vec<_> = keys.filter(is_gone).map(str::to_owned).collect();
    rewritten(target, &[], &gone)
}

/// The token in the value of a header: behind the prefix, from its first character on.
fn in_header<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let behind = &value[value.find(prefix)? + prefix.len()..];
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(behind.find(is_of_token).map_or(value, |at| &behind[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_go_however_they_are_written() {
        let names = ["token".to_owned()];
        for (target, left) in [
            ("/a?token=x", "/a"),
            ("/a?token=x&b=1&a=%41&%74oken=y", "/a?a=%41&b=1"),
            ("/a?tokens=x", "/a?tokens=x"),
            ("/a", "/a"),
        ] {
            assert_eq!(without_parameters(target, &names), left, "{target}");
        }
    }
}
