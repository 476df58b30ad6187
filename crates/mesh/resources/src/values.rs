//! Values that go to proxies as they are written. A proxy refuses all of a listener, or all routes of a port, for one of
//! them that it does not take: so they are checked where they are read.

use periplus_cel::re2::translated;
use regex::Regex;
use regex::bytes::RegexBuilder;

/// The longest regular expression, as in Istio.
const MAX_REGEX_BYTES: usize = 1024;

/// The most memory that a proxy gives one expression.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

/// How messages are framed, and where they go.
const UNCHANGED: [&str; 9] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "te",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

/// What may stand between two `%` in the value of a header.
const COMMANDS: [&str; 20] = [
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_HOST",
    "UPSTREAM_CLUSTER",
    "PROTOCOL",
    "ROUTE_NAME",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_LOCAL_URI_SAN",
];

/// Those that name something in parentheses.
const COMMANDS_OF_NAMES: [&str; 3] = ["REQ", "RESP", "ENVIRONMENT"];

/// Whether a text can be the name of a header or a cookie: a token (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(valid)
}

pub(crate) fn check_header_name(name: &str) -> Result<(), String> {
    match is_token(name) {
        true => Ok(()),
        false => Err(format!("`{name}` is no header name")),
    }
}

/// The name of a header that may be set, added or removed.
pub(crate) fn check_changed_header(name: &str) -> Result<(), String> {
    check_header_name(name)?;
    let mut unchanged = UNCHANGED.iter();
    match unchanged.find(|one| one.eq_ignore_ascii_case(name)) {
        Some(&"host") => Err(format!(
            "`{name}` says where a request goes: it can be `set` for requests only"
        )),
        Some(_) => Err(format!(
            "`{name}` is about one connection or the length of a body, and cannot be changed"
        )),
        None => Ok(()),
    }
}

/// The value of a header, with Envoy's commands in it.
pub(crate) fn check_format(value: &str) -> Result<(), String> {
    if value.contains(['\r', '\n', '\0']) {
        return Err("the value of a header has no line breaks".to_owned());
    }
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            continue;
        }
        let end = after.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        let (name, mut tail) = after.split_at(end.unwrap_or(after.len()));
        let incomplete = || {
            format!(
                "`{value}`: a `%` begins a command such as `%REQ(x-name)%`; write `%%` for the character"
            )
        };
        let mut argument = None;
        if let Some(inner) = tail.strip_prefix('(') {
            let (inside, after) = inner.split_once(')').ok_or_else(incomplete)?;
            argument = Some(inside);
            tail = after;
        }
        if let Some(after) = tail.strip_prefix(':') {
            let (digits, _) = after.split_once('%').ok_or_else(incomplete)?;
            if digits.parse::<usize>().is_err() {
                return Err(incomplete());
            }
            tail = &after[digits.len()..];
        }
        rest = tail.strip_prefix('%').ok_or_else(incomplete)?;
        let of_name = COMMANDS_OF_NAMES.contains(&name);
        match argument {
            Some("") | None if of_name && name != "ENVIRONMENT" => {
                return Err(format!("`{value}`: `%{name}%` needs the name of a header"));
            }
            None if COMMANDS.contains(&name) => {}
            _ if of_name => {}
            _ => {
                return Err(format!(
                    "`{value}`: the command `%{name}%` is not supported"
                ));
            }
        }
    }
    Ok(())
}

/// The value of a header that is the same for each request.
pub(crate) fn check_fixed_value(value: &str) -> Result<(), String> {
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    if value.bytes().any(is_control) {
        return Err("the value of a header has no control characters".to_owned());
    }
    match value.contains('%') {
        true => Err(format!(
            "`{value}`: this header is the same for each request, and has no `%`"
        )),
        false => Ok(()),
    }
}

/// A host that a request may name, with a port or without.
pub(crate) fn check_authority(text: &str) -> Result<(), String> {
    let is_port = |port: &str| {
        let digits = port.strip_prefix(':');
        let is_number = |digits: &str| {
            digits.len() <= 5
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        };
        port.is_empty() || digits.is_some_and(is_number)
    };
    let is_host = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port)
        }),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !name.is_empty() && name.bytes().all(valid) && is_port(port)
        }
    };
    match is_host {
        true => Ok(()),
        false => Err(format!("`{text}` is no `HOST` or `HOST:PORT`")),
    }
}

/// A part of an URI, as it stands in a head.
pub(crate) fn check_graphic(text: &str) -> Result<(), String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("may hold printable ASCII characters only, and no blanks".to_owned()),
    }
}

/// A regular expression of RE2's syntax: no look-around, no references back.
pub(crate) fn check_regex(text: &str) -> Result<(), String> {
    if text.len() > MAX_REGEX_BYTES {
        return Err(format!(
            "the regular expression is longer than {MAX_REGEX_BYTES} bytes"
        ));
    }
    // By itself first: with the anchors around it `a)(b` would be one.
    let compiled = Regex::new(text).and_then(|_| {
        let whole = translated(text).map_err(regex::Error::Syntax)?;
        RegexBuilder::new(&format!(r"\A(?:{whole})\z"))
            .size_limit(MAX_COMPILED_BYTES)
            .build()
    });
    match compiled {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!(
            "`{text}` takes more memory than proxies give an expression: repeat less in it"
        )),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            Err(format!("`{text}` is no regular expression: {reason}"))
        }
    }
}

/// What becomes of what an expression has matched, in RE2's notation: `\1` is its first group, `\\` a backslash.
pub(crate) fn check_substitution(pattern: &str, text: &str) -> Result<(), String> {
    let groups = Regex::new(pattern).map_or(0, |compiled| compiled.captures_len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            continue;
        }
        match rest.next() {
            Some('\\') => {}
            Some(digit @ '0'..='9') if (digit as usize - '0' as usize) < groups => {}
            Some(digit @ '0'..='9') => {
                return Err(format!(
                    "`{text}`: `{pattern}` has no group {digit}, put one in parentheses"
                ));
            }
            _ => {
                return Err(format!(
                    "`{text}`: a backslash is followed by the number of a group, or by another backslash"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for value in [
            "",
            "a%%b",
            "%REQ(X-A?:path):5%",
            "%ENVIRONMENT(HOME)%",
            "%UPSTREAM_HOST%:%UPSTREAM_CLUSTER%",
            "%DOWNSTREAM_LOCAL_URI_SAN%",
        ] {
            assert_eq!(check_format(value), Ok(()), "{value}");
        }
        for value in [
            "50%",
            "%START_TIME%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a%",
            "%REQ(a):x%",
            "%PROTOCOL(a)%",
            "%PROTOCOL_PORT%",
            "a\nb",
        ] {
            assert!(check_format(value).is_err(), "{value}");
        }
    }

    #[test]
    fn authorities() {
        for text in ["a", "a.b:80", "a:", "[::1]:80", "10.0.0.1"] {
            assert_eq!(check_authority(text), Ok(()), "{text}");
        }
        for text in [
            "", ":80", "http://x", "a b", "a/b", "a:80:80", "a:70000", "50%",
        ] {
            assert!(check_authority(text).is_err(), "{text}");
        }
    }

    #[test]
    fn expressions_and_what_becomes_of_matches() {
        assert_eq!(check_regex("/a(b)?"), Ok(()));
        for text in ["(", "a)(b", "(a{1000}){1000}", "(?-u:\\xff)"] {
            assert!(check_regex(text).is_err(), "{text}");
        }
        assert_eq!(check_substitution("(a)", r"\0\1\\"), Ok(()));
        for text in [r"\2", r"\x", r"\"] {
            assert!(check_substitution("(a)", text).is_err(), "{text}");
        }
    }
}
