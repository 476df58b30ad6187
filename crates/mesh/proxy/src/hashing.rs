//! What a route's hash policies make of a request: the number that consistent hashing chooses by.

use std::net::IpAddr;
use std::num::NonZeroU64;

use smallvec::SmallVec;

use crate::balance::xxh64;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::http1::name::Name;
use crate::snapshot::{Cookie, HashPolicy, HashSource};
use crate::tcp::Session;

impl Call {
    /// Notes the hash of the request, and the cookies that will bring the client back.
    #[cold]
    pub(crate) fn hash_request(&self, exchange: &mut Exchange, policies: &[HashPolicy]) {
        let mut cookies = String::new();
        let mut known: Option<u64> = None;
        for policy in policies {
            if let Some(hash) = self.hash_of(&policy.source, &mut cookies) {
                // Turned, so that two equal parts do not cancel each other out.
                let before = known.map_or(0, |hash| hash.rotate_left(1));
                known = Some(before ^ hash);
            }
            if policy.is_terminal && known.is_some() {
                break;
            }
        }
        // One of 2^64 is not worth the room that it takes.
        exchange.hash = known.and_then(NonZeroU64::new);
        if !cookies.is_empty() {
            exchange.rare().cookies = cookies;
        }
    }

    fn hash_of(&self, source: &HashSource, cookies: &mut String) -> Option<u64> {
        let head = self.buffer.head();
        match source {
            HashSource::Header(name) => hash_of_values(self.values_of(name)),
            HashSource::RewrittenHeader(name, rewrite) => {
                let values = self.values_of(name);
                hash_of_values(values.iter().map(|value| rewrite.apply(value)).collect())
            }
            HashSource::Cookie(cookie) => match self.cookie(&cookie.name) {
                Some(value) => Some(xxh64(value, 0)),
                None => self.hash_of_new_cookie(cookie, cookies),
            },
            HashSource::SourceIp => {
                let address = self.client_address().to_string();
                Some(xxh64(address.as_bytes(), 0))
            }
            HashSource::QueryParameter(name) => {
                let target = self.request.target.path.get(head);
                let query = &target[memchr::memchr(b'?', target)? + 1..];
                parameter(query, name.as_bytes()).map(|value| xxh64(value, 0))
            }
        }
    }

    fn values_of(&self, name: &str) -> SmallVec<[&[u8]; 4]> {
        let head = self.buffer.head();
        let request = &self.request;
        match name {
            ":method" => [request.method(head)].into_iter().collect(),
            ":path" => [request.target.path.get(head)].into_iter().collect(),
            ":authority" | "host" => [request.target.authority.get(head)].into_iter().collect(),
            name => request.fields.all_by_text(name, head).collect(),
        }
    }

    /// The value of a cookie of the request, unless it is empty.
    pub(crate) fn cookie(&self, name: &str) -> Option<&[u8]> {
        let head = self.buffer.head();
        let pairs = self.request.fields.all_by_text("cookie", head);
        let mut pairs = pairs.flat_map(|value| value.split(|byte| *byte == b';'));
        pairs.find_map(|pair| {
            let (known, value) = split(pair.trim_ascii(), b'=')?;
            let unquoted = value
                .strip_prefix(b"\"")
                .and_then(|v| v.strip_suffix(b"\""));
            let value = unquoted.unwrap_or(value);
            (known == name.as_bytes() && !value.is_empty()).then_some(value)
        })
    }

    /// The client gets a cookie that belongs to its connection, if the policy wants that.
    fn hash_of_new_cookie(&self, cookie: &Cookie, cookies: &mut String) -> Option<u64> {
        cookie.ttl?;
        let ends = format!("{}{}", self.client.peer, self.view.manager.stat_prefix);
        let value = format!("{:016x}", xxh64(ends.as_bytes(), 0));
        cookie.append_line(&value, cookies);
        Some(xxh64(value.as_bytes(), 0))
    }

    /// The client's address: for an edge proxy its peer's, else what the proxies before this one say.
    pub(crate) fn client_address(&self) -> IpAddr {
        let peer = self.client.peer.ip().to_canonical();
        if self.view.manager.use_remote_address {
            return peer;
        }
        let head = self.buffer.head();
        let told = self.request.fields.all(Name::XForwardedFor, head).last();
        let last = told.and_then(|list| list.rsplit(|byte| *byte == b',').next());
        let last = last.and_then(|last| std::str::from_utf8(last.trim_ascii()).ok());
        last.and_then(|last| last.parse().ok()).unwrap_or(peer)
    }
}

impl Session {
    /// What consistent hashing chooses by: the client's address, if the configuration says so.
    pub(crate) fn hash(&self) -> Option<u64> {
        let address = self.hashed_peer()?.ip().to_canonical().to_string();
        Some(xxh64(address.as_bytes(), 0))
    }
}

/// Several fields of one name count in any order.
fn hash_of_values<V: AsRef<[u8]> + Ord>(mut values: SmallVec<[V; 4]>) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable();
    let hash = |hash, value: &V| xxh64(value.as_ref(), hash);
    Some(values.iter().fold(0, hash))
}

/// The first value of a parameter, as it is written.
pub(crate) fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let (known, value) = split(pair, b'=').unwrap_or((pair, b""));
        (known == name).then_some(value)
    })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = memchr::memchr(at, text)?;
    Some((&text[..position], &text[position + 1..]))
}
