//! Where a request has its tokens.

use std::borrow::Cow;

use crate::http1::request::RequestHead;

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
                let pairs = query.unwrap_or_default().split('&');
                let pairs = pairs.filter_map(|pair| pair.split_once('='));
                let found = pairs.filter(|(key, _)| key == name);
                found
                    .map(|(_, value)| Cow::Borrowed(value))
                    .take(1)
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

/// The token in the value of a header: behind the prefix, from its first character on.
fn in_header<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let behind = &value[value.find(prefix)? + prefix.len()..];
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(behind.find(is_of_token).map_or(value, |at| &behind[at..]))
}
