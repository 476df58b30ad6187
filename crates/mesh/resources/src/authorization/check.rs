//! The values of a policy, and whether they can match anything.

use std::net::IpAddr;

use super::Values;
use crate::view::{Object, View};

/// What is wrong with a value.
pub(super) type Check = fn(&str) -> Result<(), String>;

impl Values {
    pub(super) fn read(
        object: &Object<'_>,
        [one_of, none_of]: [&'static str; 2],
        check: Check,
    ) -> Self {
        let read = |name| {
            let items = object.items(name);
            if object.get(name).is_some() && items.is_empty() {
                object.fail(format!("`{name}` is empty, leave it out"));
            }
            let value = |view: &View<'_>| {
                let text = view.some_text()?;
                match check(&text) {
                    Ok(()) => Some(text),
                    Err(reason) => {
                        view.fail(reason);
                        None
                    }
                }
            };
            items.iter().filter_map(value).collect()
        };
        Self {
            one_of: read(one_of),
            none_of: read(none_of),
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.one_of.is_empty() && self.none_of.is_empty()
    }
}

pub(super) fn check_nothing(_: &str) -> Result<(), String> {
    Ok(())
}

/// `*` stands at one end only.
pub(super) fn check_wildcard(text: &str) -> Result<(), String> {
    let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*'));
    match inner.unwrap_or(text).contains('*') {
        true => Err(format!(
            "`{text}`: `*` may stand at the beginning or at the end only"
        )),
        false => Ok(()),
    }
}

pub(super) fn check_trust_domain(text: &str) -> Result<(), String> {
    match text.contains('/') {
        true => Err(format!(
            "`{text}` is more than a trust domain: write what stands before the first `/`"
        )),
        false => check_wildcard(text),
    }
}

/// The longest template of a path.
const MAX_TEMPLATE_BYTES: usize = 1024;

pub(super) fn check_path(text: &str) -> Result<(), String> {
    if !text.contains(['{', '}']) {
        return check_wildcard(text);
    }
    let refused = |reason: &str| Err(format!("`{text}`: {reason}"));
    if text.len() > MAX_TEMPLATE_BYTES {
        return refused(&format!(
            "a template has at most {MAX_TEMPLATE_BYTES} bytes"
        ));
    }
    let rest = text.replace("{*}", "x").replace("{**}", "x");
    if rest.contains(['{', '}', '*']) {
        return refused("a template has only `{*}` and `{**}`, and no `*` besides");
    }
    let Some(path) = text.strip_prefix('/') else {
        return refused("a template begins with `/`");
    };
    let last = text.find("{**}").map(|at| &text[at + 4..]);
    if last.is_some_and(|after| after.contains(['/', '{'])) {
        return refused("`{**}` must be the last part");
    }
    for segment in path.split('/') {
        let suffix = segment.strip_prefix("{**}");
        let suffix = suffix.or(segment.strip_prefix("{*}")).unwrap_or(segment);
        if suffix.contains('{') {
            return refused("`{*}` and `{**}` stand where a segment begins, and once in each");
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || "._~%!$&'()+,;:@=-".contains(c);
        if let Some(other) = suffix.chars().find(|c| !valid(*c)) {
            return refused(&format!(
                "no path has `{other}`, write it as `%` and two digits"
            ));
        }
    }
    Ok(())
}

pub(super) fn check_account(text: &str) -> Result<(), String> {
    let parts: Vec<_> = text.split('/').collect();
    match parts.len() <= 2 && !text.contains('*') && parts.iter().all(|part| !part.is_empty()) {
        true => Ok(()),
        false => Err(format!("`{text}` is no ACCOUNT or NAMESPACE/ACCOUNT")),
    }
}

pub(super) fn check_port(text: &str) -> Result<(), String> {
    match text.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("`{text}` is no port from 1 to 65535")),
    }
}

pub(super) fn check_block(text: &str) -> Result<(), String> {
    match parse_block(text) {
        Some(_) => Ok(()),
        None => Err(format!(
            "`{text}` is no address, and no block of addresses such as `10.0.0.0/8`"
        )),
    }
}

/// Reads an address or a block of addresses: its first address, and how many bits all have in common.
pub fn parse_block(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then_some((address, length))
}
