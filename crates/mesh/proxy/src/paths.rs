//! Paths in one form, before routes and policies look at them (RFC 3986 §6.2.2): whoever spells a path in another
//! way must not get around what is said of it.
//!
//! As in Envoy: escaped slashes come first, then dot segments and the escapes of characters that need none, then
//! slashes that follow each other. Most paths need nothing, which one look at their bytes tells.

use std::borrow::Cow;

use crate::call::Call;
use crate::exchange::Exchange;
use crate::reply::Reply;
use crate::snapshot::{EscapedSlashes, Paths};

/// What becomes of a path that is not in its form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Formed {
    /// Nothing: it is.
    AsItIs,
    /// The request has this one, query included.
    Goes(Vec<u8>),
    /// The client is to ask for this one.
    Elsewhere(Vec<u8>),
    /// There is none that it could stand for.
    Refused,
}

/// A byte that may have to be changed wherever it stands.
const ODD: u8 = 1;
/// One that may have to be changed behind a slash: a dot, or another slash.
const BEHIND_SLASH: u8 = 2;
/// The path ends here.
const END: u8 = 4;

/// What may have to be done about each byte.
const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    // What RFC 3986 §2 has no place for, and what begins an escape.
    let odd = b"%\\\"<>^`{|}";
    let mut i = 0;
    while i < odd.len() {
        table[odd[i] as usize] = ODD;
        i += 1;
    }
    table[b'.' as usize] = BEHIND_SLASH;
    table[b'/' as usize] = BEHIND_SLASH;
    table[b'?' as usize] = END;
    table
};

impl Call {
    /// Brings the path into the form that the connection manager wants: an answer, if the request does not go on.
    #[inline]
    pub(crate) fn form_path(&mut self, exchange: &mut Exchange) -> Option<Reply<'static>> {
        let paths = self.view.manager.paths;
        if paths == Paths::default() || is_plain(self.request.target.path.get(self.buffer.head())) {
            return None;
        }
        self.form_odd_path(exchange, paths)
    }

    #[cold]
    fn form_odd_path(&mut self, exchange: &mut Exchange, paths: Paths) -> Option<Reply<'static>> {
        let http = self.view.http.clone();
        match form(self.request.target.path.get(self.buffer.head()), paths) {
            Formed::AsItIs => None,
            Formed::Goes(path) if self.retarget(&path) => None,
            // A gRPC client follows no redirect.
            Formed::Elsewhere(path) if !exchange.is_grpc => {
                http.rq_redirected_path.increment();
                exchange.rare().details = Some(DETAILS.into());
                Some(Reply {
                    // It is ASCII, as all targets are.
                    location: Some(String::from_utf8_lossy(&path).into()),
                    ..Reply::new(307, "")
                })
            }
            Formed::Goes(_) | Formed::Elsewhere(_) | Formed::Refused => {
                http.rq_failed_path.increment();
                exchange.rare().details = Some(DETAILS.into());
                Some(Reply::new(400, ""))
            }
        }
    }
}

/// Envoy's word for both.
const DETAILS: &str = "path_normalization_failed";

/// Whether nothing is to be done about a path whatever is wanted.
#[inline]
fn is_plain(target: &[u8]) -> bool {
    for (at, byte) in target.iter().enumerate() {
        // Most bytes are nothing to look at twice.
        match BYTES[usize::from(*byte)] {
            0 => {}
            BEHIND_SLASH if at == 0 || target[at - 1] != b'/' => {}
            END => return true,
            _ => return false,
        }
    }
    true
}

fn form(target: &[u8], paths: Paths) -> Formed {
    if target.first() != Some(&b'/') {
        // `*`, which is no path.
        return Formed::AsItIs;
    }
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let mut formed = path.to_vec();
    let mut is_redirected = false;
    if paths.escaped_slashes != EscapedSlashes::Keep && unescape_slashes(&mut formed) {
        match paths.escaped_slashes {
            EscapedSlashes::Reject => return Formed::Refused,
            EscapedSlashes::Redirect => is_redirected = true,
            EscapedSlashes::Keep | EscapedSlashes::Forward => {}
        }
    }
    if paths.normalizes {
        match normalize(&formed) {
            Some(normal) => formed = normal,
            None => return Formed::Refused,
        }
    }
    // As in Envoy, two slashes that are all of it stay.
    if paths.merges_slashes && formed != b"//" {
        formed.dedup_by(|next, before| *next == b'/' && *before == b'/');
    }
    if formed == path {
        return Formed::AsItIs;
    }
    formed.extend_from_slice(query);
    match is_redirected {
        true => Formed::Elsewhere(formed),
        false => Formed::Goes(formed),
    }
}

/// The character of an escape at the beginning of a text.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A part of a query without its escapes; what is none stays.
pub(crate) fn unescaped(part: &str) -> Cow<'_, str> {
    if !part.contains('%') {
        return Cow::Borrowed(part);
    }
    let mut rest = part.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, behind)) = rest.split_first() {
        let byte = escaped(rest);
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { behind };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there were any.
fn unescape_slashes(path: &mut Vec<u8>) -> bool {
    let before = path.len();
    let mut to = 0;
    let mut from = 0;
    while from < before {
        let slash = escaped(&path[from..]).filter(|byte| matches!(byte, b'/' | b'\\'));
        path[to] = slash.unwrap_or(path[from]);
        to += 1;
        from += if slash.is_some() { 3 } else { 1 };
    }
    path.truncate(to);
    to < before
}

/// The path without dot segments, each character in its own spelling; none if there is a NUL in it.
fn normalize(path: &[u8]) -> Option<Vec<u8>> {
    let mut normal = Vec::with_capacity(path.len());
    normal.push(b'/');
    let mut rest = path.get(1..).unwrap_or_default();
    loop {
        let begin = normal.len();
        let end = memchr::memchr2(b'/', b'\\', rest).unwrap_or(rest.len());
        append_segment(&rest[..end], &mut normal)?;
        let has_next = end < rest.len();
        // Some servers take what follows a semicolon for no part of the name.
        let name = normal[begin..].split(|byte| *byte == b';').next();
        match name.unwrap_or_default() {
            b"." => normal.truncate(begin),
            b".." => {
                // To behind the slash before the last one, if there is one.
                let before = memchr::memrchr(b'/', &normal[..begin - 1]);
                normal.truncate(before.map_or(1, |at| at + 1));
            }
            _ if has_next => normal.push(b'/'),
            _ => {}
        }
        if !has_next {
            return Some(normal);
        }
        rest = &rest[end + 1..];
    }
}

/// Appends a segment: nothing that needs no escape has one (RFC 3986 §2.4), and what needs one has it.
fn append_segment(segment: &[u8], out: &mut Vec<u8>) -> Option<()> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = segment;
    while let [byte, tail @ ..] = rest {
        match escaped(rest) {
            Some(0) => return None,
            Some(plain) if is_unreserved(plain) => {
                out.push(plain);
                rest = &tail[2..];
                continue;
            }
            _ => {}
        }
        match byte {
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
                out.push(b'%');
                out.extend_from_slice(&digits);
            }
            other => out.push(*other),
        }
        rest = tail;
    }
    Some(())
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Paths = Paths {
        normalizes: true,
        merges_slashes: true,
        escaped_slashes: EscapedSlashes::Forward,
    };
    const BASE: Paths = Paths {
        merges_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        ..ALL
    };

    fn text(target: &str, paths: Paths) -> String {
        match form(target.as_bytes(), paths) {
            Formed::AsItIs => target.to_owned(),
            Formed::Goes(path) => String::from_utf8(path).expect("text"),
            Formed::Elsewhere(path) => format!("307 {}", String::from_utf8(path).expect("text")),
            Formed::Refused => "400".to_owned(),
        }
    }

    #[test]
    fn escapes_of_a_query() {
        for (part, plain) in [
            ("a.b", "a.b"),
            ("%61%2Eb", "a.b"),
            ("a%2", "a%2"),
            ("%%41%zz", "%A%zz"),
        ] {
            assert_eq!(unescaped(part), plain, "{part}");
        }
    }

    #[test]
    fn one_form_for_each_path() {
        for (given, base, all) in [
            ("/a/b?c=/../d", "/a/b?c=/../d", "/a/b?c=/../d"),
            (
                "/a/../b?c=/../d//e%2f",
                "/b?c=/../d//e%2f",
                "/b?c=/../d//e%2f",
            ),
            ("/..", "/", "/"),
            ("/a/..", "/", "/"),
            ("/a/.", "/a/", "/a/"),
            ("/a/../..", "/", "/"),
            ("/a/b/../../../c/", "/c/", "/c/"),
            ("/a//../b", "/a/b", "/a/b"),
            ("/a/..//b", "//b", "/b"),
            ("/a/.%2E/b", "/b", "/b"),
            ("/a\\..\\b", "/b", "/b"),
            ("/...", "/...", "/..."),
            ("/a/..b", "/a/..b", "/a/..b"),
            ("/a/..;x=y/b", "/b", "/b"),
            ("/a/%2e;x/b", "/a/b", "/a/b"),
            ("/%7E/%2d%41", "/~/-A", "/~/-A"),
            ("/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a"),
            ("/%c3%a4%7f", "/%c3%a4%7f", "/%c3%a4%7f"),
            ("/%zz/%/%2", "/%zz/%/%2", "/%zz/%/%2"),
            (
                "/<\"{|}^`>",
                "/%3C%22%7B%7C%7D%5E%60%3E",
                "/%3C%22%7B%7C%7D%5E%60%3E",
            ),
            ("/a%00", "400", "400"),
            ("/x%%0000", "400", "400"),
            ("/a%2f..%5Cb", "/a%2f..%5Cb", "/b"),
            ("//", "//", "//"),
            ("///a//", "///a//", "/a/"),
            ("*", "*", "*"),
        ] {
            assert_eq!(text(given, BASE), base, "{given}");
            assert_eq!(text(given, ALL), all, "{given} with slashes");
        }
    }

    #[test]
    fn escaped_slashes() {
        let of = |escaped_slashes, normalizes| Paths {
            escaped_slashes,
            normalizes,
            merges_slashes: false,
        };
        for (given, paths, expected) in [
            ("/a%2Fb?c%2Fd", of(EscapedSlashes::Reject, false), "400"),
            ("/a?c%2Fd", of(EscapedSlashes::Reject, false), "/a?c%2Fd"),
            (
                "/a%2fb?c%2Fd",
                of(EscapedSlashes::Redirect, false),
                "307 /a/b?c%2Fd",
            ),
            ("/a%2f..%2fb", of(EscapedSlashes::Redirect, true), "307 /b"),
            ("/a/../b", of(EscapedSlashes::Redirect, true), "/b"),
            ("/a%2f%00", of(EscapedSlashes::Redirect, true), "400"),
            ("/a%5cb", of(EscapedSlashes::Forward, false), "/a\\b"),
            ("/a%5cb", of(EscapedSlashes::Forward, true), "/a/b"),
        ] {
            assert_eq!(text(given, paths), expected, "{given} {paths:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What has been brought into its form is in it, whatever it was, and has no way up; what is passed over
        /// would not have been changed.
        #[test]
        fn there_is_one_form(path in "(/|\\\\|\\.|%2e|%2f|%5C|%41|;|a|\\?|%|<){0,12}") {
            let path = format!("/{path}");
            for paths in [BASE, Paths { merges_slashes: true, ..BASE }, ALL] {
                if is_plain(path.as_bytes()) {
                    prop_assert_eq!(form(path.as_bytes(), paths), Formed::AsItIs);
                }
                let once = text(&path, paths);
                let end = once.find('?').unwrap_or(once.len());
                let mut names = once[..end].split('/').map(|name| name.split(';').next());
                prop_assert!(!names.any(|name| matches!(name, Some("." | ".."))), "{}", once);
                prop_assert_eq!(text(&once, BASE), once);
            }
        }
    }
}
