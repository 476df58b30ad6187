//! New hosts and paths.

use super::{Head, set, set_path};
use crate::exchange::Exchange;
use crate::http1::edit::append_field;
use crate::snapshot::{HostRewrite, MirrorHost, PathRewrite, Rewrite};

/// Gives a copy of a request its host.
pub(super) fn mirror_host(host: &MirrorHost, out: &mut Vec<u8>, from: usize) {
    match host {
        MirrorHost::Kept => {}
        MirrorHost::Literal(host) => set(out, from, "host", host.as_bytes()),
        MirrorHost::Suffixed => {
            let asked = Head(&out[from..])
                .field("host")
                .unwrap_or_default()
                .to_vec();
            let end = match asked.strip_prefix(b"[") {
                Some(_) => memchr::memchr(b']', &asked).map_or(asked.len(), |at| at + 1),
                None => memchr::memchr(b':', &asked).unwrap_or(asked.len()),
            };
            let (name, port) = asked.split_at(end);
            set(out, from, "host", &[name, b"-shadow", port].concat());
        }
    }
}

/// The host that a request names, without a port that would not fit.
pub(super) fn host_of<'a>(
    asked: &'a str,
    (before, after): (&str, &str),
    has_port: bool,
) -> &'a str {
    let end = match asked.strip_prefix('[') {
        Some(_) => asked.rfind("]:").map(|at| at + 1),
        None => asked.rfind(':'),
    };
    let Some(end) = end else {
        return asked;
    };
    let is_default = match &asked[end..] {
        ":443" => before.eq_ignore_ascii_case("https"),
        ":80" => before.eq_ignore_ascii_case("http"),
        _ => false,
    };
    let is_default = is_default && before != after;
    if has_port || is_default {
        &asked[..end]
    } else {
        asked
    }
}

/// The path of a request, and the query with its question mark.
pub(super) fn path_of(head: &[u8]) -> (&[u8], &[u8]) {
    let target = Head(head).word(1);
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    target.split_at(end)
}

pub(super) fn rewrite_path(rewrite: &PathRewrite, matched: usize, out: &mut Vec<u8>, from: usize) {
    let (path, query) = path_of(&out[from..]);
    let before = [path, query].concat();
    let mut after = match rewrite {
        PathRewrite::Matched(text) => {
            let rest = path.get(matched..).unwrap_or_default();
            [text.as_bytes(), rest].concat()
        }
        PathRewrite::Regex(regex) => regex.apply(path),
    };
    after.extend_from_slice(query);
    set_path(out, from, &after);
    set(out, from, "x-envoy-original-path", &before);
}

pub(super) fn rewrite_host(rewrite: &Rewrite, exchange: &Exchange, out: &mut Vec<u8>, from: usize) {
    let head = Head(&out[from..]);
    let host: Vec<u8> = match &rewrite.host {
        None => return,
        Some(HostRewrite::Literal(host)) => host.as_bytes().to_vec(),
        Some(HostRewrite::Header(name)) => {
            let asked = head.asked(name, "").unwrap_or_default();
            // What a client says is not a host is none.
            let is_host = crate::http1::target::host_length(asked).is_some();
            asked.iter().copied().filter(|_| is_host).collect()
        }
        Some(HostRewrite::PathRegex(regex)) => regex.apply(path_of(head.0).0),
        Some(HostRewrite::Endpoint) => endpoint_host(exchange).unwrap_or_default(),
    };
    if host.is_empty() {
        return;
    }
    let before = head.field("host").unwrap_or_default().to_vec();
    if rewrite.appends_forwarded_host && !before.is_empty() {
        let known = head.field("x-forwarded-host").unwrap_or_default();
        let last = known.rsplit(|byte| *byte == b',').next();
        if known.is_empty() {
            append_field(out, "x-forwarded-host", &before);
        } else if last != Some(&before) {
            let all = [known, b",", &before].concat();
            set(out, from, "x-forwarded-host", &all);
        }
    }
    set(out, from, "x-envoy-original-host", &before);
    set(out, from, "host", &host);
}

/// The host name of the endpoint, if it has one.
fn endpoint_host(exchange: &Exchange) -> Option<Vec<u8>> {
    let address = exchange.attempt.as_ref()?.address.address;
    let endpoints = &exchange.cluster.as_ref()?.cluster.endpoints;
    let endpoint = endpoints.iter().find(|one| one.address == address)?;
    (!endpoint.hostname.is_empty()).then(|| endpoint.hostname.clone().into_bytes())
}
