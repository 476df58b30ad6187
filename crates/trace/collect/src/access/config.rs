use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Access, Scope, Tenant, Tenants, Token};

/// The header that names the tenant, as Jaeger's default.
const TENANT_HEADER: &str = "x-tenant";

/// Secrets shorter than this can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// More tenants than this are not kept apart: each has a store of its own.
const MOST_TENANTS: usize = 1_000;

/// Who may do what, as it is written down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessConfig {
    /// Spans lie apart by tenant; absent: there is one store for all.
    pub tenants: Option<TenantsConfig>,
    /// Who has one of these may do what its scopes say; none: everybody may do everything.
    #[serde(default)]
    pub tokens: Vec<TokenConfig>,
}

/// Which tenants there are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TenantsConfig {
    /// The header that names the tenant.
    #[serde(default = "tenant_header")]
    pub header: String,
    /// The tenants by name; none: each name is one, up to `max`.
    #[serde(default)]
    pub known: BTreeMap<String, Quota>,
    /// What each tenant may take that is not named in `known`.
    #[serde(default)]
    pub default_quota: Quota,
    /// The most tenants at a time where none are known by name.
    #[serde(default = "max_tenants")]
    pub max: usize,
}

/// What one tenant may take. Absent: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quota {
    /// Spans a second; twice as many may come at once.
    pub spans_per_second: Option<u64>,
    /// Bytes on the disk; the oldest spans go first.
    pub max_disk_bytes: Option<u64>,
}

/// A bearer token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenConfig {
    /// What it is called in messages.
    pub name: String,
    /// The secret itself, or
    pub token: Option<String>,
    /// the file that it is in, without the line's end.
    pub token_file: Option<PathBuf>,
    /// The one tenant that it is for; absent: for all of them.
    pub tenant: Option<String>,
    /// What it is good for.
    pub scopes: Vec<Scope>,
}

/// Without the secret: it must not reach a log.
impl fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenConfig")
            .field("name", &self.name)
            .field("token_file", &self.token_file)
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a configuration of access.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAccess {
    /// A name that cannot be a tenant's.
    #[error(
        "'{0}' cannot name a tenant: use 1 to 63 lower-case letters, digits, '-', '_' and '.', \
         beginning with a letter or a digit"
    )]
    Tenant(String),
    /// No header has this name.
    #[error("'{0}' cannot be the name of a header")]
    Header(String),
    /// A token has no secret, or two.
    #[error("token '{0}' needs either 'token' or 'token-file'")]
    Secret(String),
    /// A secret is too short.
    #[error(
        "the secret of token '{0}' is shorter than {SHORTEST_TOKEN} bytes: `openssl rand -hex 32` \
         makes a good one"
    )]
    Short(String),
    /// A secret has a character that a header, a cookie or an address would change.
    #[error(
        "the secret of token '{0}' has a character that is none of RFC 6750's: use letters, \
         digits, '-', '.', '_', '~', '+', '/' and, at the end, '='"
    )]
    Characters(String),
    /// There are none, or more than can be kept apart.
    #[error("'max' of the tenants is {0}: use 1 to {MOST_TENANTS}")]
    Max(usize),
    /// Two tokens are the same.
    #[error("tokens '{0}' and '{1}' have the same secret")]
    Same(String, String),
    /// A token can do nothing.
    #[error("token '{0}' has no scopes: use [read], [write] or [read, write]")]
    Scopes(String),
    /// A token's tenant is none.
    #[error("token '{token}' is for the tenant '{tenant}', which is not among the known ones")]
    ForeignTenant {
        /// The token.
        token: String,
        /// Its tenant.
        tenant: String,
    },
    /// The file of a secret cannot be read.
    #[error("cannot read the secret of token '{token}' from {}", path.display())]
    Read {
        /// The token.
        token: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn tenant_header() -> String {
    TENANT_HEADER.to_owned()
}

const fn max_tenants() -> usize {
    32
}

impl TenantsConfig {
    /// Tenants of these names, without quotas; without any, each name is one.
    pub fn new(header: Option<String>, names: impl IntoIterator<Item = String>) -> Self {
        Self {
            header: header.unwrap_or_else(tenant_header),
            known: (names.into_iter())
                .map(|name| (name, Quota::default()))
                .collect(),
            default_quota: Quota::default(),
            max: max_tenants(),
        }
    }

    /// The most tenants at a time.
    pub fn most(&self) -> usize {
        match self.known.len() {
            0 => self.max,
            known => known,
        }
    }

    /// What this tenant may take.
    pub fn quota(&self, tenant: &Tenant) -> Quota {
        let own = self.known.get(tenant.as_str());
        own.copied().unwrap_or(self.default_quota)
    }
}

impl Access {
    /// Checks what is written down, and reads the files that it names.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn new(config: &AccessConfig) -> Result<Self, InvalidAccess> {
        let tenants = match &config.tenants {
            None => None,
            Some(tenants) if !(1..=MOST_TENANTS).contains(&tenants.most()) => {
                return Err(InvalidAccess::Max(tenants.most()));
            }
            Some(tenants) => Some(Tenants {
                header: (tenants.header.parse())
                    .map_err(|_| InvalidAccess::Header(tenants.header.clone()))?,
                known: (tenants.known.keys())
                    .map(|name| tenant(name))
                    .collect::<Result<_, _>>()?,
            }),
        };
        let mut tokens: Vec<Token> = Vec::with_capacity(config.tokens.len());
        for config in &config.tokens {
            let token = token(config, tenants.as_ref())?;
            if let Some(other) = tokens.iter().find(|other| other.secret == token.secret) {
                return Err(InvalidAccess::Same(other.name.clone(), token.name));
            }
            tokens.push(token);
        }
        Ok(Self {
            tenants,
            tokens,
            ..Self::default()
        })
    }
}

fn tenant(name: &str) -> Result<Tenant, InvalidAccess> {
    Tenant::new(name).ok_or_else(|| InvalidAccess::Tenant(name.to_owned()))
}

fn token(config: &TokenConfig, tenants: Option<&Tenants>) -> Result<Token, InvalidAccess> {
    let name = config.name.clone();
    let secret = match (&config.token, &config.token_file) {
        (Some(secret), None) => secret.clone(),
        (None, Some(path)) => fs::read_to_string(path).map_err(|source| InvalidAccess::Read {
            token: name.clone(),
            path: path.clone(),
            source,
        })?,
        _ => return Err(InvalidAccess::Secret(name)),
    };
    let secret = secret.trim();
    if secret.len() < SHORTEST_TOKEN {
        return Err(InvalidAccess::Short(name));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if !secret.trim_end_matches('=').bytes().all(plain) {
        return Err(InvalidAccess::Characters(name));
    }
    if config.scopes.is_empty() {
        return Err(InvalidAccess::Scopes(name));
    }
    let tenant = config.tenant.as_deref().map(tenant).transpose()?;
    if let Some(tenant) = &tenant {
        let known = tenants.is_some_and(|all| all.known.is_empty() || all.known.contains(tenant));
        if !known {
            return Err(InvalidAccess::ForeignTenant {
                token: name,
                tenant: tenant.to_string(),
            });
        }
    }
    Ok(Token {
        name,
        secret: secret.as_bytes().into(),
        tenant,
        scopes: config.scopes.clone(),
    })
}
