use std::time::Duration;

use crate::jwks;
use crate::meta::Labels;
use crate::secret::Private;
use crate::target::{Target, read_target};
use crate::values::check_authority;
use crate::view::{Object, Shape, View};

/// Whose tokens are believed at the workloads with some labels. A request without a token passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// The workloads' labels; none is all of the namespace, and of the mesh in its root namespace.
    pub selector: Labels,
    /// The Gateways whose workloads it is for, in place of labels.
    pub targets: Vec<Target>,
    /// The issuers.
    pub rules: Vec<JwtRule>,
}

/// `jwtRules[]`: an issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRule {
    /// `iss`.
    pub issuer: String,
    /// `aud`: one of them, if there are some.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: JwksSource,
    /// The headers that tokens are in.
    pub from_headers: Vec<TokenHeader>,
    /// The parameters of the query that they are in.
    pub from_params: Vec<String>,
    /// The cookies that they are in.
    pub from_cookies: Vec<String>,
    /// The header that the workload finds the payload in, in base64url.
    pub payload_header: Option<String>,
    /// The headers that it finds claims in: their names, and those of the claims.
    pub claim_headers: Vec<(String, String)>,
    /// The token goes on to the workload.
    pub forwards: bool,
    /// Claims that are lists of words besides `scope` and `permission`.
    pub lists: Vec<String>,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// Here, as JSON (RFC 7517). They may be secrets that the issuer shares with whoever checks its tokens.
    Inline(Private),
    /// Published at a host of the mesh or, over TLS, at any.
    Remote {
        /// Over TLS, with a certificate that the system's authorities have signed.
        is_tls: bool,
        /// Their address.
        uri: String,
        /// Its host,
        host: String,
        /// and its port.
        port: u16,
        /// How long it takes to fetch them at the most.
        timeout: Duration,
    },
    /// Where `/.well-known/openid-configuration` of the issuer says (OpenID Connect Discovery §4).
    Discovered {
        /// How long it takes to fetch each of the two at the most.
        timeout: Duration,
    },
}

/// `fromHeaders[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    /// Its name, in lower case.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

const AUTHENTICATION: Shape = Shape {
    known: &["selector", "targetRef", "targetRefs", "jwtRules"],
    refused: &[],
};
const RULE: Shape = Shape {
    known: &[
        "issuer",
        "audiences",
        "jwks",
        "jwksUri",
        "fromHeaders",
        "fromParams",
        "fromCookies",
        "outputPayloadToHeader",
        "outputClaimToHeaders",
        "forwardOriginalToken",
        "spaceDelimitedClaims",
        "timeout",
    ],
    refused: &[],
};
const HEADER: Shape = Shape {
    known: &["name", "prefix"],
    refused: &[],
};
const CLAIM: Shape = Shape {
    known: &["header", "claim"],
    refused: &[],
};

/// How long a fetch of keys takes at the most, if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

impl RequestAuthentication {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&AUTHENTICATION)?;
        let rules = object.items("jwtRules");
        let (selector, targets) = read_target(&object, namespace)?;
        Some(Self {
            selector,
            targets,
            rules: rules.iter().filter_map(JwtRule::read).collect(),
        })
    }
}

impl JwtRule {
    fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&RULE)?;
        let issuer = object.require("issuer")?.some_text()?;
        let keys = JwksSource::read(&object, &issuer)?;
        let headers = object.items("fromHeaders");
        let header = |view: &View<'_>| {
            let object = view.object(&HEADER)?;
            Some(TokenHeader {
                // Unless the token is forwarded, it is removed.
                name: object.require("name")?.changed_header()?,
                prefix: object.optional("prefix", View::text)?.unwrap_or_default(),
            })
        };
        let claims = object.items("outputClaimToHeaders");
        let claim = |view: &View<'_>| {
            let object = view.object(&CLAIM)?;
            let header = object.require("header")?.changed_header()?;
            Some((header, object.require("claim")?.some_text()?))
        };
        Some(Self {
            issuer,
            audiences: texts(&object, "audiences")?,
            keys,
            from_headers: headers.iter().map(header).collect::<Option<_>>()?,
            from_params: texts(&object, "fromParams")?,
            from_cookies: texts(&object, "fromCookies")?,
            payload_header: object.optional("outputPayloadToHeader", View::changed_header)?,
            claim_headers: claims.iter().map(claim).collect::<Option<_>>()?,
            forwards: object
                .optional("forwardOriginalToken", View::bool)?
                .unwrap_or(false),
            lists: texts(&object, "spaceDelimitedClaims")?,
        })
    }
}

impl JwksSource {
    fn read(object: &Object<'_>, issuer: &str) -> Option<Self> {
        let timeout = object.optional("timeout", View::duration)?;
        match object.present(&["jwks", "jwksUri"]).as_slice() {
            ["jwks"] => {
                let view = object.get("jwks")?;
                let text = view.checked(view.some_text()?, jwks::check)?;
                Some(Self::Inline(Private::new(text)))
            }
            ["jwksUri"] => {
                let view = object.get("jwksUri")?;
                Self::remote(view, timeout.unwrap_or(TIMEOUT))
            }
            [] if is_url(issuer) => Some(Self::Discovered {
                timeout: timeout.unwrap_or(TIMEOUT),
            }),
            [] => {
                object.fail(format!(
                    "the issuer's keys are missing, and `{issuer}` is no URL at which they could be looked up: \
                     write `jwks` or `jwksUri`"
                ));
                None
            }
            _ => {
                object.fail("`jwks` and `jwksUri` exclude each other");
                None
            }
        }
    }

    fn remote(view: &View<'_>, timeout: Duration) -> Option<Self> {
        let uri = view.checked(view.some_text()?, check_uri)?;
        let schemes = [("http://", 80, false), ("https://", 443, true)];
        let of_scheme = schemes
            .into_iter()
            .find_map(|(scheme, port, is_tls)| Some((uri.strip_prefix(scheme)?, port, is_tls)));
        let Some((rest, usual, is_tls)) = of_scheme else {
            view.fail(format!("`{uri}`: expected `http://` or `https://`"));
            return None;
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, Some(usual)),
        };
        let is_host = check_authority(authority).is_ok() && !host.is_empty();
        let Some(port) = port.filter(|port| *port > 0 && is_host) else {
            view.fail(format!("`{uri}` has no host, or no good port"));
            return None;
        };
        Some(Self::Remote {
            is_tls,
            host: host.to_ascii_lowercase(),
            port,
            timeout,
            uri,
        })
    }
}

/// The characters of URIs (RFC 3986 §2).
fn check_uri(text: &str) -> Result<(), String> {
    let valid =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    match text.bytes().all(valid) {
        true => Ok(()),
        false => Err(format!("`{text}` has characters that no URI has")),
    }
}

/// Whether an issuer can be asked where its keys are.
fn is_url(issuer: &str) -> bool {
    let rest = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| issuer.strip_prefix(scheme));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', ':']).next();
        host.is_some_and(|host| !host.is_empty()) && !rest.contains(['?', '#', ' '])
    })
}

fn texts(object: &Object<'_>, name: &str) -> Option<Vec<String>> {
    object.items(name).iter().map(View::some_text).collect()
}
