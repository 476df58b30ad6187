//! Request targets and the authority (RFC 9112 §3.2, RFC 3986 §3.2).

use crate::http1::head::{Fields, Refused, Slice};
use crate::http1::name::Name;

/// Where a request goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    /// Host and port: of an absolute target, or of the `Host` field. Empty only with HTTP/1.0.
    pub(crate) authority: Slice,
    /// The authority without its port; an address keeps its brackets.
    pub(crate) host: Slice,
    /// Path and query, or `*`.
    pub(crate) path: Slice,
    /// The target came in absolute form.
    pub(crate) absolute: bool,
}

impl Target {
    /// The target as it stands in the request line.
    pub(crate) fn raw(path: Slice) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }
}

/// Checks the target and `Host`, and brings absolute form into origin form, in place.
pub(crate) fn resolve(
    head: &mut [u8],
    method: Slice,
    raw: Slice,
    fields: &Fields,
    minor_version: u8,
) -> Result<Target, Refused> {
    let host = fields.single(Name::Host, head, "two host fields")?;
    if host.is_none() && minor_version == 1 {
        return Err(Refused::bad("no host field"));
    }
    let host_length = host.map_or(Some(0), host_length);
    let host_length = host_length.ok_or(Refused::bad("the host field is not host and port"))?;
    if method.get(head) == b"CONNECT" {
        return authority_form(head, raw);
    }
    let authority = fields
        .first(Name::Host)
        .map_or(Slice::EMPTY, |field| field.value);
    let host = Slice::new(authority.start(), host_length);
    let target = raw.get(head);
    if target.first() == Some(&b'/') {
        check_path(target)?;
        return Ok(Target {
            authority,
            host,
            path: raw,
            absolute: false,
        });
    }
    if target == b"*" && method.get(head) == b"OPTIONS" {
        return Ok(Target {
            authority,
            host,
            path: raw,
            absolute: false,
        });
    }
    absolute(head, method, raw)
}

/// `host:port`, the form of CONNECT alone: it replaces `Host` (RFC 9112 §3.2.3).
fn authority_form(head: &[u8], raw: Slice) -> Result<Target, Refused> {
    let target = raw.get(head);
    let length = host_length(target).filter(|length| *length > 0 && target.len() > length + 1);
    let length = length.ok_or(Refused::bad("the target of CONNECT is not host and port"))?;
    Ok(Target {
        authority: raw,
        host: Slice::new(raw.start(), length),
        path: Slice::EMPTY,
        absolute: true,
    })
}

/// `http://authority/path?query`: the authority replaces `Host` (RFC 9112 §3.2.2).
fn absolute(head: &mut [u8], method: Slice, raw: Slice) -> Result<Target, Refused> {
    let target = raw.get(head);
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .ok_or(Refused::bad("the request target has no valid form"))?;
    let rest = &target[scheme.len()..];
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host_length = host_length(authority)
        .filter(|_| !authority.is_empty())
        .ok_or(Refused::bad("the request target has no valid authority"))?;
    let authority = Slice::of(head, authority);
    if path.first() == Some(&b'/') {
        check_path(path)?;
        return Ok(Target {
            authority,
            host: Slice::new(authority.start(), host_length),
            path: Slice::of(head, path),
            absolute: true,
        });
    }
    if path.first() == Some(&b'#') {
        return Err(FRAGMENT);
    }
    check_path(path)?;
    let path = Slice::new(authority.end(), path.len());
    // No path: make room for one in front of the query, at the scheme's cost. An `OPTIONS` without
    // a path means `*` (RFC 9112 §3.2.4).
    let lead = if path.is_empty() && method.get(head) == b"OPTIONS" {
        b'*'
    } else {
        b'/'
    };
    let (start, end) = (authority.start(), authority.end());
    head.copy_within(start..end, start - 1);
    head[end - 1] = lead;
    Ok(Target {
        authority: Slice::new(start - 1, end - start),
        host: Slice::new(start - 1, host_length),
        path: Slice::new(end - 1, path.end() - end + 1),
        absolute: true,
    })
}

const FRAGMENT: Refused = Refused::bad("the request target has a fragment");

/// A target is ASCII without controls and blanks; `httparse` lets bytes over 127 pass.
fn check_path(path: &[u8]) -> Result<(), Refused> {
    if !path.is_ascii() {
        return Err(Refused::bad("the request target is not ASCII"));
    }
    if memchr::memchr(b'#', path).is_some() {
        return Err(FRAGMENT);
    }
    Ok(())
}

/// How long the host of a `host [":" port]` is; none if this is something else, or has user
/// information.
#[inline]
pub(crate) fn host_length(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'[') {
        return literal_length(text);
    }
    let length = text
        .iter()
        .position(|byte| !HOST[usize::from(*byte)])
        .unwrap_or(text.len());
    let port = &text[length..];
    ((length > 0 || port.is_empty()) && is_port(port)).then_some(length)
}

/// The same for an address in brackets.
#[cold]
fn literal_length(text: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b']', text)?;
    let is_literal = end > 2
        && text[1..end]
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        && is_port(&text[end + 1..]);
    is_literal.then_some(end + 1)
}

/// Nothing, or a colon and a port number; the number may be left out.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits
                    .iter()
                    .try_fold(0u32, |port, byte| {
                        byte.is_ascii_digit()
                            .then(|| port * 10 + u32::from(byte - b'0'))
                    })
                    .is_some_and(|port| port <= 65_535)
        }
        _ => false,
    }
}

/// The characters of a `reg-name`, but for `%`: nobody escapes a name of the DNS, and who did would
/// reach a route by another spelling of its host.
const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"-._~!$&'()*+,;=0123456789";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    let mut letter = b'a';
    while letter <= b'z' {
        table[letter as usize] = true;
        table[(letter - 32) as usize] = true;
        letter += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_authority() {
        for (good, host) in [
            ("h", "h"),
            ("h:80", "h"),
            ("h:", "h"),
            ("1.2.3.4:65535", "1.2.3.4"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("a-b_c.d", "a-b_c.d"),
            ("", ""),
        ] {
            assert_eq!(host_length(good.as_bytes()), Some(host.len()), "{good}");
        }
        for bad in [
            "h:x", "h:65536", "h:123456", ":80", "u@h", "a b", "a/b", "[::1", "[]", "[::1]x",
            "[g]", "a\"b", "a%20", "%0h", "h:80:80", "\u{e4}",
        ] {
            assert_eq!(host_length(bad.as_bytes()), None, "{bad}");
        }
    }
}
