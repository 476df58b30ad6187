//! Request targets and the authority (RFC 9112 §3.2, RFC 3986 §3.2).

use crate::http1::head::{Fields, Refused, Slice};
use crate::http1::name::Name;

/// Where a request goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    /// Host and port: of an absolute target, or of the `Host` field. Empty only with HTTP/1.0.
    pub(crate) authority: Slice,
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
    if host.is_some_and(|host| !is_authority(host)) {
        return Err(Refused::bad("the host field is not host and port"));
    }
    if method.get(head) == b"CONNECT" {
        return Err(Refused::new(501, "CONNECT is not supported"));
    }
    let authority = fields
        .first(Name::Host)
        .map_or(Slice::EMPTY, |field| field.value);
    let target = raw.get(head);
    if target.first() == Some(&b'/') {
        check_path(target)?;
        return Ok(Target {
            authority,
            path: raw,
            absolute: false,
        });
    }
    if target == b"*" && method.get(head) == b"OPTIONS" {
        return Ok(Target {
            authority,
            path: raw,
            absolute: false,
        });
    }
    absolute(head, method, raw)
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
    if authority.is_empty() || !is_authority(authority) {
        return Err(Refused::bad("the request target has no valid authority"));
    }
    let authority = Slice::of(head, authority);
    if path.first() == Some(&b'/') {
        check_path(path)?;
        return Ok(Target {
            authority,
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

/// Whether this is `host [":" port]`, without user information.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    if text.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', text) else {
            return false;
        };
        return end > 2
            && text[1..end]
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            && is_port(&text[end + 1..]);
    }
    let end = memchr::memchr(b':', text).unwrap_or(text.len());
    let (host, port) = text.split_at(end);
    (!host.is_empty() || port.is_empty())
        && host.iter().all(|byte| HOST[usize::from(*byte)])
        && is_port(port)
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

/// The characters of a `reg-name`.
const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"-._~%!$&'()*+,;=0123456789";
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

/// Host and port of an authority: `("reviews", "9080")`, the brackets of an address kept.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
    let from = memchr::memrchr(b']', authority).unwrap_or(0);
    match memchr::memchr(b':', &authority[from..]) {
        Some(colon) => &authority[..from + colon],
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in [
            "h",
            "h:80",
            "h:",
            "1.2.3.4:65535",
            "[::1]",
            "[::1]:80",
            "a-b_c.d%20",
            "",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "h:x", "h:65536", "h:123456", ":80", "u@h", "a b", "a/b", "[::1", "[]", "[::1]x",
            "[g]", "a\"b", "h:80:80", "\u{e4}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn ports_are_taken_off() {
        for (authority, host) in [
            ("h:80", "h"),
            ("h", "h"),
            ("h:", "h"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(authority.as_bytes()), host.as_bytes());
        }
    }
}
