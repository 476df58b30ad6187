//! Who may do what: tenants by header, bearer tokens with scopes.
//!
//! A [`Guard`] stands before the routers of all tenants: it decides from a request's head alone,
//! then hands the request to the router of its tenant, which knows nothing of others.

mod config;
mod guard;
mod login;
mod quota;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use config::{AccessConfig, InvalidAccess, Quota, TenantsConfig, TokenConfig};
pub use guard::{Guard, Need, Needs, Routers};
pub use quota::{QuotaStats, WithQuota};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To ask.
    Read,
    /// To send spans, or to change what is kept.
    Write,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The name of a tenant: 1 to 63 lower-case letters, digits, `-`, `_` and `.`, the first a letter
/// or a digit, so that it is a directory's name as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(String);

impl Tenant {
    /// The name, if it is one.
    pub fn new(name: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let rest = |byte: u8| fits(byte) || matches!(byte, b'-' | b'_' | b'.');
        let (&first, others) = name.as_bytes().split_first()?;
        (fits(first) && others.len() < 63 && others.iter().all(|&byte| rest(byte)))
            .then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may do what, checked and ready.
#[derive(Debug, Default)]
pub struct Access {
    tenants: Option<Tenants>,
    tokens: Vec<Token>,
    denied: DeniedCounts,
}

#[derive(Debug)]
struct Tenants {
    header: http::HeaderName,
    /// Those that there are; none: any name is one.
    known: Vec<Tenant>,
}

struct Token {
    name: String,
    secret: Box<[u8]>,
    tenant: Option<Tenant>,
    scopes: Vec<Scope>,
}

/// Without the secret: it must not reach a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Requests that went no further, by [`Denied::KINDS`].
#[derive(Debug, Default)]
struct DeniedCounts([AtomicU64; Denied::KINDS.len()]);

impl DeniedCounts {
    fn add(&self, kind: usize) {
        self.0[kind].fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a request goes no further. The texts about tenants are Jaeger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    NoToken,
    UnknownToken,
    LacksScope(String, Scope),
    NoTenant,
    UnknownTenant,
    ExtraTenant,
    ForeignTenant(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str(
                "missing token: send 'Authorization: Bearer TOKEN'; in a browser, open the page \
                 once with ?token=TOKEN",
            ),
            Self::UnknownToken => f.write_str("unknown token"),
            Self::LacksScope(name, scope) => {
                write!(f, "token '{name}' lacks the scope '{}'", scope.as_str())
            }
            Self::NoTenant => f.write_str("missing tenant header"),
            Self::UnknownTenant => f.write_str("unknown tenant"),
            Self::ExtraTenant => f.write_str("extra tenant header"),
            Self::ForeignTenant(name) => write!(f, "token '{name}' belongs to another tenant"),
        }
    }
}

impl Denied {
    /// What each is called in metrics.
    const KINDS: [&str; 7] = [
        "no_token",
        "unknown_token",
        "lacks_scope",
        "no_tenant",
        "unknown_tenant",
        "extra_tenant",
        "foreign_tenant",
    ];

    /// Its place in [`Self::KINDS`].
    const fn kind(&self) -> usize {
        match self {
            Self::NoToken => 0,
            Self::UnknownToken => 1,
            Self::LacksScope(..) => 2,
            Self::NoTenant => 3,
            Self::UnknownTenant => 4,
            Self::ExtraTenant => 5,
            Self::ForeignTenant(_) => 6,
        }
    }
}

impl Access {
    /// Whether everybody may do everything, and there are no tenants.
    pub fn is_open(&self) -> bool {
        self.tenants.is_none() && self.tokens.is_empty()
    }

    /// Whether spans lie apart by tenant.
    pub fn has_tenants(&self) -> bool {
        self.tenants.is_some()
    }

    /// The header that names the tenant, where there are tenants.
    pub fn tenant_header(&self) -> Option<&http::HeaderName> {
        self.tenants.as_ref().map(|tenants| &tenants.header)
    }

    /// Requests that were denied since the start, by reason.
    pub fn denied(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.denied.0.iter();
        Denied::KINDS
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    /// Whether a request with these headers may do what needs `scope`, and for which tenant: `None`
    /// if there are no tenants.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Option<Tenant>, Denied> {
        let token = self.token(headers, Some(scope))?;
        match &self.tenants {
            None => Ok(None),
            Some(tenants) => tenants.of(headers, token).map(Some),
        }
    }

    /// Whether a request with these headers may see what is of no tenant and no secret, such as
    /// strategies of sampling.
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Denied> {
        self.token(headers, None).map(|_| ())
    }

    /// Whether a request with these headers may see what is of no tenant, such as the server's own
    /// metrics.
    pub(crate) fn check_operator(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self.token(headers, Some(Scope::Read))? {
            Some(Token {
                name,
                tenant: Some(_),
                ..
            }) if self.tenants.is_some() => Err(Denied::ForeignTenant(name.clone())),
            _ => Ok(()),
        }
    }

    fn token(&self, headers: &HeaderMap, scope: Option<Scope>) -> Result<Option<&Token>, Denied> {
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let given = bearer(headers).or_else(|| login::cookie(headers));
        let token = self.find(given.ok_or(Denied::NoToken)?);
        let token = token.ok_or(Denied::UnknownToken)?;
        match scope {
            Some(scope) if !token.scopes.contains(&scope) => {
                Err(Denied::LacksScope(token.name.clone(), scope))
            }
            _ => Ok(Some(token)),
        }
    }

    fn find(&self, secret: &[u8]) -> Option<&Token> {
        // All of them are looked at, so that the time says nothing about which one was close.
        let mut found = None;
        for token in &self.tokens {
            if is_equal(&token.secret, secret) {
                found = Some(token);
            }
        }
        found
    }
}

impl Tenants {
    fn of(&self, headers: &HeaderMap, token: Option<&Token>) -> Result<Tenant, Denied> {
        let mut values = headers.get_all(&self.header).iter();
        let value = values.next();
        if values.next().is_some() {
            return Err(Denied::ExtraTenant);
        }
        let named = match value {
            None => None,
            Some(value) => {
                let name = value.to_str().ok().and_then(Tenant::new);
                let name = name.ok_or(Denied::UnknownTenant)?;
                if !self.known.is_empty() && !self.known.contains(&name) {
                    return Err(Denied::UnknownTenant);
                }
                Some(name)
            }
        };
        match (
            named,
            token.and_then(|token| Some((token, token.tenant.as_ref()?))),
        ) {
            (None, None) => Err(Denied::NoTenant),
            (Some(named), None) => Ok(named),
            (None, Some((_, own))) => Ok(own.clone()),
            (Some(named), Some((_, own))) if named == *own => Ok(named),
            (Some(_), Some((token, _))) => Err(Denied::ForeignTenant(token.name.clone())),
        }
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
