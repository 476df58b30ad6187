//! Keys (RFC 7517, RFC 7518 §6) and signatures (RFC 7518 §3, RFC 8037, RFC 8812 §3).

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use serde_json::Value;

use super::Problem;
use super::token::{Token, URL_SAFE};

/// The most keys of a set.
const MOST_KEYS: usize = 100;

/// `alg` of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm(usize);

/// By name: six of RSA keys, four of curves, that of Ed25519, and three of secrets.
const NAMES: [&str; 14] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K",
    "EdDSA", "HS256", "HS384", "HS512",
];
const OF_RSA: [&RsaParameters; 6] = [
    &RSA_PKCS1_2048_8192_SHA256,
    &RSA_PKCS1_2048_8192_SHA384,
    &RSA_PKCS1_2048_8192_SHA512,
    &RSA_PSS_2048_8192_SHA256,
    &RSA_PSS_2048_8192_SHA384,
    &RSA_PSS_2048_8192_SHA512,
];
/// The curves of `ES256`, `ES384`, `ES512` and `ES256K`, with the bytes of a coordinate.
const CURVES: [(&str, &EcdsaVerificationAlgorithm, usize); 4] = [
    ("P-256", &ECDSA_P256_SHA256_FIXED, 32),
    ("P-384", &ECDSA_P384_SHA384_FIXED, 48),
    ("P-521", &ECDSA_P521_SHA512_FIXED, 66),
    ("secp256k1", &ECDSA_P256K1_SHA256_FIXED, 32),
];
const EDDSA: usize = OF_RSA.len() + CURVES.len();
const OF_SECRETS: [hmac::Algorithm; 3] = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512];

impl Algorithm {
    /// The algorithm of a name; none if it is not supported.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }
}

/// A set of keys.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    /// The only algorithm that it is for, if it says so.
    only: Option<String>,
    /// By algorithm: the key ready for it. No kind of key has one of another kind's algorithms, so that nobody signs
    /// with what is public.
    ready: Vec<(Algorithm, Ready)>,
}

/// Its `Debug` does not show secrets.
#[derive(Debug)]
enum Ready {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl Ready {
    fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(text, signature).is_ok(),
            Self::Secret(key) => hmac::verify(key, text, signature).is_ok(),
        }
    }
}

impl Keys {
    /// Reads a JWK set. Keys of other kinds, and secrets, are passed over.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::read(&json(bytes)?)
    }

    /// The same of what was decoded already.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn read(set: &Value) -> Result<Self, String> {
        let keys = Self::select(set, |key| key.get("kty") != Some(&"oct".into()))?;
        let kinds = "it has no public key of RSA (2048 bits and more), EC or Ed25519";
        keys.ok_or_else(|| kinds.to_owned())
    }

    /// The same with secrets (`oct`) that the issuer shares with whoever checks its tokens. Those with fewer bytes than
    /// the hash are passed over (RFC 7518 §3.2).
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse_with_secrets(bytes: &[u8]) -> Result<Self, String> {
        let keys = Self::select(&json(bytes)?, |_| true)?;
        let kinds =
            "it has no key of RSA (2048 bits and more), EC, Ed25519 or HMAC (32 bytes and more)";
        keys.ok_or_else(|| kinds.to_owned())
    }

    /// None if there are none.
    fn select(set: &Value, is_wanted: impl Fn(&Value) -> bool) -> Result<Option<Self>, String> {
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("it has no array \"keys\"".to_owned());
        };
        if keys.len() > MOST_KEYS {
            let count = keys.len();
            return Err(format!(
                "it has {count} keys, at most {MOST_KEYS} are supported"
            ));
        }
        let wanted = keys.iter().filter(|key| is_wanted(key));
        let keys: Vec<_> = wanted.filter_map(Key::read).collect();
        Ok((!keys.is_empty()).then_some(Self(keys)))
    }

    /// Checks the signature of a token that was read from this text.
    ///
    /// # Errors
    ///
    /// There is no such key, or it has not signed this.
    pub fn verify(&self, token: &Token, text: &str) -> Result<(), Problem> {
        let name = NAMES[token.algorithm.0];
        let fits = |key: &&Key| {
            let other_id = !key.id.is_empty() && !token.key_id.is_empty() && key.id != token.key_id;
            !other_id && key.only.as_deref().is_none_or(|only| only == name)
        };
        let mut problem = Problem::NO_KEY;
        for key in self.0.iter().filter(fits) {
            problem = Problem::WRONG_SIGNATURE;
            let mut ready = key.ready.iter();
            let ready = ready.find(|(algorithm, _)| *algorithm == token.algorithm);
            let signed = token.signed(text).as_bytes();
            if ready.is_some_and(|(_, key)| key.has_signed(signed, &token.signature)) {
                return Ok(());
            }
        }
        Err(problem)
    }
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE.decode(text(name)?).ok();
        let mut ready = match text("kty")? {
            "RSA" => rsa(&bytes("n")?, &bytes("e")?),
            "EC" => {
                let curve = text("crv")?;
                let at = CURVES.iter().position(|(name, ..)| *name == curve)?;
                let (_, parameters, length) = CURVES[at];
                let mut point = vec![4];
                for coordinate in [bytes("x")?, bytes("y")?] {
                    // Leading zeros may be missing.
                    point.extend(vec![0; length.checked_sub(coordinate.len())?]);
                    point.extend(coordinate);
                }
                let key = ParsedPublicKey::new(parameters, point).ok()?;
                vec![(Algorithm(OF_RSA.len() + at), Ready::Public(key))]
            }
            "OKP" if text("crv") == Some("Ed25519") => {
                let key = ParsedPublicKey::new(&ED25519, bytes("x")?).ok()?;
                vec![(Algorithm(EDDSA), Ready::Public(key))]
            }
            "oct" => secret(&bytes("k")?),
            _ => return None,
        };
        let only = text("alg").filter(|only| !only.is_empty());
        ready.retain(|(algorithm, _)| only.is_none_or(|only| only == NAMES[algorithm.0]));
        (!ready.is_empty()).then(|| Self {
            id: text("kid").unwrap_or_default().to_owned(),
            only: only.map(str::to_owned),
            ready,
        })
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Vec<(Algorithm, Ready)> {
    let start = n.iter().position(|byte| *byte != 0).unwrap_or(n.len());
    let components = RsaPublicKeyComponents { n: &n[start..], e };
    let parameters = OF_RSA.iter().enumerate();
    parameters
        .filter_map(|(at, parameters)| {
            let key = components.to_parsed_public_key(parameters).ok()?;
            Some((Algorithm(at), Ready::Public(key)))
        })
        .collect()
}

fn secret(k: &[u8]) -> Vec<(Algorithm, Ready)> {
    let algorithms = OF_SECRETS.iter().enumerate();
    algorithms
        .filter(|(_, algorithm)| k.len() >= algorithm.tag_len())
        .map(|(at, algorithm)| {
            let key = Box::new(hmac::Key::new(*algorithm, k));
            (Algorithm(EDDSA + 1 + at), Ready::Secret(key))
        })
        .collect()
}

/// Whether a JWK set, as a text, has nothing that must not be shown; no if that cannot be told.
pub fn is_public(set: &[u8]) -> bool {
    /// RFC 7518 §6.2.2, §6.3.2 and §6.4, RFC 8037 §2.
    const PRIVATE: [&str; 8] = ["k", "d", "p", "q", "dp", "dq", "qi", "oth"];
    let is_public = |key: &Value| PRIVATE.iter().all(|member| key.get(member).is_none());
    match serde_json::from_slice::<Value>(set) {
        Ok(set) => match set.get("keys") {
            Some(Value::Array(keys)) => keys.iter().all(is_public),
            _ => false,
        },
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _,
    };
    use serde_json::json;

    use super::*;

    fn text(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE.encode(bytes)
    }

    fn token(algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let header = json!({ "alg": algorithm });
        let signed = format!("{}.{}", text(header.to_string()), text(r#"{"iss":"me"}"#));
        format!("{signed}.{}", text(sign(signed.as_bytes())))
    }

    fn by_secret(algorithm: &str, secret: &[u8]) -> String {
        let at = NAMES.iter().position(|name| *name == algorithm).unwrap();
        let key = hmac::Key::new(OF_SECRETS[at - EDDSA - 1], secret);
        token(algorithm, |signed| hmac::sign(&key, signed).as_ref().into())
    }

    fn by_curve(algorithm: &str, key: &EcdsaKeyPair) -> String {
        let sign = |signed: &[u8]| key.sign(&SystemRandom::new(), signed).unwrap();
        token(algorithm, |signed| sign(signed).as_ref().to_vec())
    }

    fn curve(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        EcdsaKeyPair::generate(algorithm).unwrap()
    }

    /// The public half, as a JWK.
    fn public(name: &str, key: &EcdsaKeyPair) -> Value {
        let point = key.public_key().as_ref();
        json!({"kty": "EC", "crv": name, "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    fn verify(key: &Value, token: &str) -> Result<(), Problem> {
        let set = json!({ "keys": [key] }).to_string();
        let keys = Keys::parse_with_secrets(set.as_bytes()).unwrap();
        keys.verify(&Token::parse(token)?, token)
    }

    #[test]
    fn secrets_are_for_hashes_that_are_not_longer() {
        let whole = [7; 64];
        for (length, algorithm, expected) in [
            (64, "HS256", Ok(())),
            (64, "HS384", Ok(())),
            (64, "HS512", Ok(())),
            (32, "HS256", Ok(())),
            (32, "HS384", Err(Problem::WRONG_SIGNATURE)),
            (63, "HS512", Err(Problem::WRONG_SIGNATURE)),
        ] {
            let secret = &whole[..length];
            let key = json!({"kty": "oct", "k": text(secret)});
            let outcome = verify(&key, &by_secret(algorithm, secret));
            assert_eq!(outcome, expected, "{length} {algorithm}");
        }
        let key = json!({"kty": "oct", "alg": "HS384", "k": text(whole)});
        let outcome = verify(&key, &by_secret("HS256", &whole));
        assert_eq!(outcome, Err(Problem::NO_KEY));
        let outcome = verify(&key, &by_secret("HS384", &[8; 64]));
        assert_eq!(outcome, Err(Problem::WRONG_SIGNATURE));
        let cut = by_secret("HS384", &whole);
        let outcome = verify(&key, &cut[..cut.len() - 4]);
        assert_eq!(outcome, Err(Problem::WRONG_SIGNATURE));
        for useless in [
            json!({"kty": "oct", "k": text(&whole[..31])}),
            json!({"kty": "oct", "k": ""}),
            json!({"kty": "oct", "alg": "RS256", "k": text(whole)}),
            json!({"kty": "oct", "alg": "HS512", "k": text(&whole[..32])}),
        ] {
            let set = json!({ "keys": [useless] }).to_string();
            Keys::parse_with_secrets(set.as_bytes()).expect_err(&set);
        }
    }

    /// Whoever knows a public key has no secret to sign with, and a secret is no public key.
    #[test]
    fn no_key_is_taken_for_one_of_another_kind() {
        let pair = curve(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let key = public("P-256", &pair);
        assert_eq!(verify(&key, &by_curve("ES256", &pair)), Ok(()));
        let wrong = Err(Problem::WRONG_SIGNATURE);
        let point = pair.public_key().as_ref();
        let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
        for known in [
            point,
            &point[1..],
            &point[1..33],
            key.to_string().as_bytes(),
        ] {
            let forged = by_secret("HS256", known);
            assert_eq!(verify(&key, &forged), wrong);
        }
        let rsa = json!({"kty": "RSA", "n": text([0xff; 256]), "e": "AQAB"});
        for known in [&[0xff; 256][..], pem.as_bytes(), rsa.to_string().as_bytes()] {
            for algorithm in ["HS256", "HS384", "HS512"] {
                assert_eq!(verify(&rsa, &by_secret(algorithm, known)), wrong);
            }
        }
        let secret = json!({"kty": "oct", "k": text(point)});
        assert_eq!(verify(&secret, &by_curve("ES256", &pair)), wrong);
        // A signature of the right kind under the name of another one.
        assert_eq!(verify(&key, &by_curve("HS256", &pair)), wrong);
        let key = hmac::Key::new(hmac::HMAC_SHA256, point);
        let renamed = token("RS256", |signed| hmac::sign(&key, signed).as_ref().into());
        assert_eq!(verify(&secret, &renamed), wrong);
    }

    #[test]
    fn secp256k1_is_a_curve_like_others() {
        let pair = curve(&ECDSA_P256K1_SHA256_FIXED_SIGNING);
        let key = public("secp256k1", &pair);
        assert_eq!(verify(&key, &by_curve("ES256K", &pair)), Ok(()));
        let other = by_curve("ES256K", &curve(&ECDSA_P256K1_SHA256_FIXED_SIGNING));
        assert_eq!(verify(&key, &other), Err(Problem::WRONG_SIGNATURE));
        let renamed = by_curve("ES256", &pair);
        assert_eq!(verify(&key, &renamed), Err(Problem::WRONG_SIGNATURE));
        let mut elsewhere = key;
        elsewhere["crv"] = "P-256".into();
        let set = json!({ "keys": [elsewhere] }).to_string();
        Keys::parse_with_secrets(set.as_bytes()).expect_err("a point of another curve");
    }

    /// What everybody can read is no secret.
    #[test]
    fn secrets_are_wanted_or_passed_over() {
        let secret = json!({"kty": "oct", "k": text([7; 32])});
        let pair = curve(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let set = json!({"keys": [secret, public("P-256", &pair)]});
        let token = by_secret("HS256", &[7; 32]);
        let parsed = Token::parse(&token).unwrap();
        let keys = Keys::read(&set).unwrap();
        let wrong = Err(Problem::WRONG_SIGNATURE);
        assert_eq!(keys.verify(&parsed, &token), wrong);
        let keys = Keys::parse_with_secrets(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.verify(&parsed, &token), Ok(()));
        let shown = format!("{keys:?}");
        assert!(!shown.contains(&text([7; 32])) && !shown.contains("7, 7"));
        Keys::read(&json!({"keys": [secret]})).expect_err("no public key");

        assert!(!is_public(set.to_string().as_bytes()));
        assert!(is_public(
            json!({"keys": [set["keys"][1]]}).to_string().as_bytes()
        ));
        assert!(!is_public(br#"{"keys": [{"kty": "oct", "k": "BwcH""#));
    }
}
