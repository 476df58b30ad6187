use std::borrow::Cow;

use crate::go::{self, ParseError};

/// The parameters of a query string, read as Go's `net/http` reads a form: `+` is a space, a pair
/// with a broken escape or a semicolon is skipped, of a repeated parameter the first one counts.
#[derive(Debug)]
pub(crate) struct Params<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Params<'a> {
    pub(crate) fn of(query: Option<&'a str>) -> Self {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((unescape(key)?, unescape(value)?))
            })
            .collect();
        Self { pairs }
    }

    /// The first value; empty if there is none.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value.as_ref())
    }

    /// All values.
    pub(crate) fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_ref())
    }

    /// The first value read by `parse`; `None` if it is empty or absent.
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, String> {
        match self.first(name) {
            "" => Ok(None),
            text => parse(text)
                .map(Some)
                .map_err(|error| format!("unable to parse param '{name}': {error}")),
        }
    }

    /// A boolean; `false` if absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, String> {
        self.parse(name, go::parse_bool)
            .map(Option::unwrap_or_default)
    }
}

/// Undoes the escaping of a query string, or of a path segment that was escaped like one. `None`
/// if an escape is broken. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = (bytes.next()? as char).to_digit(16)?;
                let low = (bytes.next()? as char).to_digit(16)?;
                (high << 4 | low) as u8
            }
            other => other,
        });
    }
    Some(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_go_reads_it() {
        let params = Params::of(Some(
            "service=a+b%2Fc&tag=x:1&tag=y%3A2&bad=%zz&a;b=1&flag&x=ä",
        ));
        assert_eq!(params.first("service"), "a b/c");
        assert_eq!(params.all("tag").collect::<Vec<_>>(), ["x:1", "y:2"]);
        assert_eq!(params.first("bad"), "");
        assert_eq!(params.first("b"), "");
        assert_eq!(params.all("flag").count(), 1);
        assert_eq!(params.first("x"), "ä");
        assert_eq!(params.first("none"), "");
        assert_eq!(unescape("%"), None);
        assert_eq!(unescape("%ff").as_deref(), Some("\u{fffd}"));
    }
}
