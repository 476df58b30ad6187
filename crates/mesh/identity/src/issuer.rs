//! Tokens that somebody else has issued: another cluster, or a provider of OpenID Connect, as Istio's `JWT_RULE` and
//! `TOKEN_ISSUER` name them.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Notify;

use crate::jwt::{Keys, Problem, Token};
use crate::spiffe::ServiceAccount;
use crate::standing::Standing;
use crate::token::{AUDIENCE, LEEWAY, TokenError, seconds};

/// What accounts are called in tokens of Kubernetes, before namespace and name.
const SUBJECT: &str = "system:serviceaccount:";

/// Who issues tokens, and the newest of its keys.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    audiences: Vec<String>,
    published: Published,
    keys: RwLock<Option<Arc<Keys>>>,
    standing: Mutex<Standing>,
    /// A token asks for a key that is not there.
    wanted: Notify,
}

/// Where its keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// `jwks`: in the rule itself.
    Here,
    /// `jwks_uri`: at a URL, of `http://`, `https://` or `file://`.
    At(String),
    /// Where `/.well-known/openid-configuration` of the issuer says (OpenID Connect Discovery §4).
    Discovered,
}

/// Why a rule is none.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// It is not in Istio's form.
    #[error(
        "it is no rule of tokens, write {{\"issuer\": \"…\", \"jwks_uri\": \"…\", \"audiences\": [\"…\"]}}"
    )]
    Form(#[from] serde_json::Error),
    /// Tokens would be everybody's.
    #[error("`issuer` is empty")]
    NoIssuer,
    /// There are two places of keys.
    #[error("give `jwks` or `jwks_uri` of {0}, not both")]
    Two(String),
    /// Keys would come from who knows where.
    #[error(
        "`{0}` is no URL of http://, https:// or file://: give it as `jwks_uri`, or as an `issuer` that can be asked"
    )]
    Place(String),
    /// The keys in it.
    #[error("`jwks` of {issuer}: {problem}")]
    Keys {
        /// Whose.
        issuer: String,
        /// What is wrong.
        problem: String,
    },
}

/// Istio's `JWTRule`, of which other fields are about requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default, alias = "jwksUri")]
    jwks_uri: Option<String>,
    #[serde(default)]
    jwks: Option<Jwks>,
}

/// As Istio has it, a text; or what would be in the text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Jwks {
    Text(String),
    Set(Value),
}

impl Issuer {
    /// Reads a rule. Without `audiences` tokens must be for `istio-ca`.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn read(rule: &str) -> Result<Self, IssuerError> {
        let rule: Rule = serde_json::from_str(rule)?;
        let name = rule.issuer;
        if name.is_empty() {
            return Err(IssuerError::NoIssuer);
        }
        let is_place = |url: &str| {
            let known = ["http://", "https://", "file:///"];
            known.iter().any(|scheme| url.starts_with(scheme))
        };
        let (published, keys) = match (rule.jwks_uri, rule.jwks) {
            (Some(_), Some(_)) => return Err(IssuerError::Two(name)),
            (Some(url), None) if is_place(&url) => (Published::At(url), None),
            (None, None) if name.starts_with("http") && is_place(&name) => {
                (Published::Discovered, None)
            }
            (Some(other), None) => return Err(IssuerError::Place(other)),
            (None, None) => return Err(IssuerError::Place(name)),
            (None, Some(set)) => {
                let text = match set {
                    Jwks::Text(text) => text,
                    Jwks::Set(set) => set.to_string(),
                };
                let keys = Keys::parse(text.as_bytes()).map_err(|problem| IssuerError::Keys {
                    issuer: name.clone(),
                    problem,
                })?;
                (Published::Here, Some(Arc::new(keys)))
            }
        };
        Ok(Self {
            name,
            audiences: match rule.audiences.is_empty() {
                true => vec![AUDIENCE.to_owned()],
                false => rule.audiences,
            },
            published,
            keys: RwLock::new(keys),
            standing: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    /// `iss` of its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys are.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Uses these keys from now on, or says why there are none; then those before stay.
    pub fn take(&self, outcome: Result<Keys, String>) {
        let (keys, trouble) = match outcome {
            Ok(keys) => (Some(Arc::new(keys)), None),
            Err(trouble) => (None, Some(trouble)),
        };
        if keys.is_some() {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.note(trouble, SystemTime::now());
    }

    /// How it goes with getting its keys.
    pub fn standing(&self) -> Standing {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.clone()
    }

    /// Until a token asks for a key that is not there: it may be a new one.
    pub async fn wants_others(&self) {
        self.wanted.notified().await;
    }

    /// Whom a token of this issuer names, if it holds now.
    pub(crate) fn verify(
        &self,
        token: &Token,
        text: &str,
        now: SystemTime,
    ) -> Result<ServiceAccount, TokenError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = keys.clone() else {
            self.wanted.notify_one();
            return Err(TokenError::NoKeys(self.name.clone()));
        };
        keys.verify(token, text).map_err(|problem| {
            if problem == Problem::NO_KEY {
                self.wanted.notify_one();
            }
            TokenError::Issuer(self.name.clone(), problem.text())
        })?;
        let is_meant = |audience: &String| self.audiences.contains(audience);
        if !token.audiences.iter().any(is_meant) {
            return Err(TokenError::ForIssuer(self.audiences.join("` or `")));
        }
        let (now, leeway) = (seconds(now), LEEWAY.as_secs());
        match token.expires {
            None => return Err(TokenError::Malformed("it does not say when it expires")),
            Some(end) if end <= now => return Err(TokenError::Expired(now - end)),
            Some(_) => {}
        }
        if token.not_before.is_some_and(|from| from > now + leeway) {
            return Err(TokenError::NotYet);
        }
        let subject = token.payload.get("sub").and_then(Value::as_str);
        let account = subject.and_then(|subject| subject.strip_prefix(SUBJECT));
        match account.and_then(|account| account.split_once(':')) {
            Some((namespace, name)) => Ok(ServiceAccount::new(namespace, name)?),
            None => Err(TokenError::Malformed(
                "its subject is not system:serviceaccount:NAMESPACE:ACCOUNT",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    const NAME: &str = "https://issuer.example";
    const NOW: u64 = 1_000_000;

    /// A key of an issuer elsewhere.
    struct Signer(EcdsaKeyPair, &'static str);

    impl Signer {
        fn new(id: &'static str) -> Self {
            let made = rcgen::KeyPair::generate().unwrap();
            let der = made.serialized_der();
            Self(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).unwrap(),
                id,
            )
        }

        fn public(&self) -> Value {
            let point = self.0.public_key().as_ref();
            let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "EC", "crv": "P-256", "kid": self.1, "x": part(&point[1..33]), "y": part(&point[33..])})
        }

        fn sign(&self, claims: &Value) -> String {
            let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
            let header = json!({"alg": "ES256", "kid": self.1});
            let signed = format!("{}.{}", part(&header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
            format!(
                "{signed}.{}",
                BASE64_URL_SAFE_NO_PAD.encode(signature.unwrap())
            )
        }
    }

    fn claims(more: &Value) -> Value {
        let mut all = json!({
            "iss": NAME,
            "sub": "system:serviceaccount:shop:cart",
            "aud": ["istio-ca"],
            "exp": NOW + 60,
        });
        let more = more.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        all
    }

    #[test]
    fn tokens_of_an_issuer_name_accounts_as_in_istio() {
        let (one, two, other) = (Signer::new("1"), Signer::new("2"), Signer::new("1"));
        let rule = json!({"issuer": NAME, "jwks": {"keys": [one.public()]}});
        let issuer = Issuer::read(&rule.to_string()).unwrap();
        let at = UNIX_EPOCH + Duration::from_secs(NOW);
        let verify = |signer: &Signer, more: &Value| {
            let text = signer.sign(&claims(more));
            issuer.verify(&Token::parse(&text).unwrap(), &text, at)
        };
        let cart = ServiceAccount::new("shop", "cart").unwrap();
        for good in [
            json!({}),
            json!({"aud": "istio-ca"}),
            json!({"aud": ["a", "istio-ca"]}),
            json!({"nbf": NOW + 5}),
        ] {
            assert_eq!(verify(&one, &good), Ok(cart.clone()), "{good}");
        }
        let holds_not = |text| TokenError::Issuer(NAME.to_owned(), text);
        const SUBJECT: TokenError =
            TokenError::Malformed("its subject is not system:serviceaccount:NAMESPACE:ACCOUNT");
        for (signer, more, expected) in [
            (&other, json!({}), holds_not("Jwt verification fails")),
            (
                &two,
                json!({}),
                holds_not("Jwks doesn't have key to match kid or alg from Jwt"),
            ),
            (
                &one,
                json!({"aud": ["vault"]}),
                TokenError::ForIssuer("istio-ca".into()),
            ),
            (
                &one,
                json!({"aud": []}),
                TokenError::ForIssuer("istio-ca".into()),
            ),
            (&one, json!({"exp": NOW}), TokenError::Expired(0)),
            (&one, json!({"nbf": NOW + 60}), TokenError::NotYet),
            (
                &one,
                json!({"exp": 0}),
                TokenError::Malformed("it does not say when it expires"),
            ),
            (&one, json!({"sub": "jane@example"}), SUBJECT),
            (&one, json!({"sub": "system:serviceaccount:shop"}), SUBJECT),
        ] {
            assert_eq!(verify(signer, &more), Err(expected), "{more}");
        }
        let named = verify(&one, &json!({"sub": "system:serviceaccount:shop:cart:x"}));
        assert!(matches!(named, Err(TokenError::Name(_))), "{named:?}");

        // Other keys count at once, in place of those before.
        let keys = json!({"keys": [two.public()]}).to_string();
        issuer.take(Keys::parse(keys.as_bytes()));
        assert_eq!(verify(&two, &json!({})), Ok(cart.clone()));
        assert!(verify(&one, &json!({})).is_err());
        // And stay where no others come.
        let since = issuer.standing().since;
        issuer.take(Err("nobody answers".into()));
        let trouble = Some("nobody answers".to_owned());
        assert_eq!(issuer.standing(), Standing { since, trouble });
        assert_eq!(verify(&two, &json!({})), Ok(cart));
        let rule = json!({"issuer": NAME});
        let unknown = Issuer::read(&rule.to_string()).unwrap();
        let text = two.sign(&claims(&json!({})));
        let verified = unknown.verify(&Token::parse(&text).unwrap(), &text, at);
        assert_eq!(verified, Err(TokenError::NoKeys(NAME.to_owned())));
    }

    #[test]
    fn rules_are_those_of_istio() {
        let read = |rule: &str| Issuer::read(rule).map(|issuer| issuer.published);
        let at = |url: &str| Published::At(url.to_owned());
        for (rule, expected) in [
            (
                r#"{"issuer": "foo", "jwks_uri": "https://a/keys", "audiences": ["a"]}"#,
                at("https://a/keys"),
            ),
            (
                r#"{"issuer": "foo", "jwksUri": "file:///keys.json"}"#,
                at("file:///keys.json"),
            ),
            (r#"{"issuer": "https://a"}"#, Published::Discovered),
        ] {
            assert_eq!(read(rule).unwrap(), expected, "{rule}");
        }
        for (rule, expected) in [
            ("{}", "it is no rule of tokens"),
            (r#"{"issuer": "", "jwks_uri": "https://a"}"#, "is empty"),
            (
                r#"{"issuer": "foo"}"#,
                "`foo` is no URL of http://, https:// or file://",
            ),
            (
                r#"{"issuer": "foo", "jwks_uri": "/keys"}"#,
                "`/keys` is no URL",
            ),
            (
                r#"{"issuer": "foo", "jwks": "{\"keys\": []}"}"#,
                "`jwks` of foo: it has no public key",
            ),
            (
                r#"{"issuer": "foo", "jwks": "", "jwks_uri": "https://a"}"#,
                "not both",
            ),
            (r#"{"issuer": "foo", "fromHeaders": []}"#, "it is no rule"),
        ] {
            let error = read(rule).unwrap_err().to_string();
            assert!(error.contains(expected), "{rule}: {error}");
        }
    }
}
