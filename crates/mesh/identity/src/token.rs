//! Tokens of workloads: JWTs (RFC 7519) in the form of Kubernetes' service account tokens, signed with ES256
//! (RFC 7518 §3.4) by the control plane where there is no Kubernetes.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::private::{self, FileError};
use crate::spiffe::{NameError, ServiceAccount};

/// `aud` of tokens for the certificate authority, as Istio's.
pub const AUDIENCE: &str = "istio-ca";
/// `iss` of the tokens that are signed here.
const ISSUER: &str = "https://periplus.istio-system.svc";
/// A longer token is none.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_KEY_BYTES: u64 = 64 * 1024;
/// As much may clocks differ.
pub(crate) const LEEWAY: Duration = Duration::from_secs(10);

/// The key that tokens are signed with.
pub struct TokenKey {
    key: EcdsaKeyPair,
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish()
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error("{0} has no private key of ECDSA P-256 in PKCS #8")]
    Form(String),
    /// No key could be made.
    #[error("cannot make a key")]
    Make(#[from] rcgen::Error),
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is none.
    #[error("the token is no JWT of a service account: {0}")]
    Malformed(&'static str),
    /// It was not signed here, or was changed.
    #[error("the token is not signed by this control plane")]
    Signature,
    /// It names an issuer, and that has not signed it.
    #[error("the token of {0} does not hold: {1}")]
    Issuer(String, &'static str),
    /// It is one of an issuer whose keys have not come yet.
    #[error("the keys of {0} are not here yet, try again")]
    NoKeys(String),
    /// It is one of an issuer, for somebody else.
    #[error("the token is for another audience than `{0}`")]
    ForIssuer(String),
    /// It is for somebody else.
    #[error("the token is for another audience than {AUDIENCE}")]
    Audience,
    /// It is too old.
    #[error("the token has expired {0} seconds ago")]
    Expired(u64),
    /// It is too young.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its account has no name that could be certified.
    #[error(transparent)]
    Name(#[from] NameError),
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Serialize, Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Named,
    serviceaccount: Named,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
}

/// Whom a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The account.
    pub account: ServiceAccount,
    /// The workload that it was made for.
    pub workload: String,
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl TokenKey {
    /// A key of its own.
    pub fn generate() -> Result<Self, KeyError> {
        let made = KeyPair::generate()?;
        Self::from_pkcs8(made.serialized_der(), "the new key")
    }

    /// Reads the key of a file, which is made if it is not there.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if !path.exists() {
            // Another program may make one at the same time: the first counts.
            private::create(path, &KeyPair::generate()?.serialize_pem())?;
        }
        let pem = private::read_secret(path, MAX_KEY_BYTES)?;
        let place = path.display().to_string();
        let key = KeyPair::from_pem(&pem).map_err(|_| KeyError::Form(place.clone()))?;
        Self::from_pkcs8(key.serialized_der(), &place)
    }

    fn from_pkcs8(der: &[u8], place: &str) -> Result<Self, KeyError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| KeyError::Form(place.to_owned()))?;
        let hash = digest(&SHA256, key.public_key().as_ref());
        let id = BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]);
        Ok(Self { key, id })
    }

    /// A token for a workload.
    pub fn issue(
        &self,
        bearer: &Bearer,
        audience: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> String {
        let now = seconds(now);
        let Bearer { account, workload } = bearer;
        let named = |name: &str| Named {
            name: name.to_owned(),
        };
        let header = Header {
            alg: "ES256".to_owned(),
            kid: self.id.clone(),
            typ: None,
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: format!(
                "system:serviceaccount:{}:{}",
                account.namespace(),
                account.name()
            ),
            aud: vec![audience.to_owned()],
            exp: now.saturating_add(lifetime.as_secs()),
            nbf: now,
            iat: now,
            jti: format!("{:032x}", fastrand::u128(..)),
            kubernetes: Kubernetes {
                namespace: account.namespace().to_owned(),
                pod: named(workload),
                serviceaccount: named(account.name()),
            },
        };
        let part = |json: serde_json::Result<Vec<u8>>| {
            BASE64_URL_SAFE_NO_PAD.encode(json.expect("texts and numbers are JSON"))
        };
        let signed = format!(
            "{}.{}",
            part(serde_json::to_vec(&header)),
            part(serde_json::to_vec(&claims))
        );
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a key that was read can sign");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whom a token names, if it was signed with this key, for the certificate authority, and holds now.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenError> {
        const PARTS: TokenError = TokenError::Malformed("it has not three parts");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(PARTS)?;
        let (header, claims) = signed.split_once('.').ok_or(PARTS)?;
        let decode = |part: &str| {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
            decoded.map_err(|_| TokenError::Malformed("it is not base64url"))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| TokenError::Malformed("its header is not known"))?;
        // Nothing else is believed, whatever the header asks for.
        if header.alg != "ES256" || header.kid != self.id {
            return Err(TokenError::Signature);
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?)
            .map_err(|_| TokenError::Malformed("its claims are not those of a service account"))?;
        if !claims.aud.iter().any(|audience| audience == AUDIENCE) {
            return Err(TokenError::Audience);
        }
        let now = seconds(now);
        let leeway = LEEWAY.as_secs();
        if claims.exp <= now {
            return Err(TokenError::Expired(now - claims.exp));
        }
        if claims.nbf > now + leeway {
            return Err(TokenError::NotYet);
        }
        let Kubernetes {
            namespace,
            pod,
            serviceaccount,
        } = claims.kubernetes;
        let account = ServiceAccount::new(&namespace, &serviceaccount.name)?;
        if claims.sub != format!("system:serviceaccount:{namespace}:{}", account.name()) {
            return Err(TokenError::Malformed("its subject is another account"));
        }
        Ok(Bearer {
            account,
            workload: pod.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn bearer() -> Bearer {
        Bearer {
            account: ServiceAccount::new("default", "bookinfo-reviews").unwrap(),
            workload: "reviews-v1".to_owned(),
        }
    }

    #[test]
    fn tokens_name_their_bearers_for_a_time() {
        let key = TokenKey::generate().unwrap();
        let now = UNIX_EPOCH + HOUR * 100_000;
        let token = key.issue(&bearer(), AUDIENCE, HOUR, now);
        let at = |time| key.verify(&token, time);
        assert_eq!(at(now), Ok(bearer()));
        assert_eq!(at(now + HOUR - Duration::from_secs(1)), Ok(bearer()));
        assert_eq!(at(now + HOUR * 2), Err(TokenError::Expired(3600)));
        assert_eq!(at(now - Duration::from_secs(5)), Ok(bearer()));
        assert_eq!(at(now - HOUR), Err(TokenError::NotYet));
        let claims = token.split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(
            claims["sub"],
            "system:serviceaccount:default:bookinfo-reviews"
        );
        assert_eq!(claims["kubernetes.io"]["pod"]["name"], "reviews-v1");
    }

    #[test]
    fn other_tokens_are_refused() {
        let key = TokenKey::generate().unwrap();
        let now = SystemTime::now();
        let good = key.issue(&bearer(), AUDIENCE, HOUR, now);
        let foreign = TokenKey::generate().unwrap();
        let foreign = foreign.issue(&bearer(), AUDIENCE, HOUR, now);
        let parts: Vec<&str> = good.split('.').collect();
        let other: Vec<&str> = foreign.split('.').collect();
        let unsigned =
            BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"{}"}}"#, key.id));
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        for (token, error) in [
            (foreign.clone(), TokenError::Signature),
            (
                format!("{}.{}.{}", parts[0], other[1], parts[2]),
                TokenError::Signature,
            ),
            (
                format!("{}.{}.{}", parts[0], parts[1], other[2]),
                TokenError::Signature,
            ),
            (format!("{unsigned}.{}.", parts[1]), TokenError::Signature),
            (
                key.issue(&bearer(), "https://kubernetes.default.svc", HOUR, now),
                TokenError::Audience,
            ),
            (
                String::new(),
                TokenError::Malformed("it has not three parts"),
            ),
            (
                "a.b".to_owned(),
                TokenError::Malformed("it has not three parts"),
            ),
            (
                format!("ä.{}.{}", parts[1], parts[2]),
                TokenError::Malformed("it is not base64url"),
            ),
            (long, TokenError::Malformed("it is too long")),
        ] {
            assert_eq!(key.verify(&token, now), Err(error), "{token}");
        }
    }

    #[test]
    fn the_key_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token-key.pem");
        let token = TokenKey::load_or_create(&path).unwrap().issue(
            &bearer(),
            AUDIENCE,
            HOUR,
            SystemTime::now(),
        );
        let again = TokenKey::load_or_create(&path).unwrap();
        assert_eq!(again.verify(&token, SystemTime::now()), Ok(bearer()));
    }
}
