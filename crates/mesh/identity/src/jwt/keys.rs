//! Public keys (RFC 7517, RFC 7518 §6) and signatures (RFC 7518 §3, RFC 8037).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
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

/// By name; the first six are of RSA keys.
const NAMES: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];
const OF_RSA: [&RsaParameters; 6] = [
    &RSA_PKCS1_2048_8192_SHA256,
    &RSA_PKCS1_2048_8192_SHA384,
    &RSA_PKCS1_2048_8192_SHA512,
    &RSA_PSS_2048_8192_SHA256,
    &RSA_PSS_2048_8192_SHA384,
    &RSA_PSS_2048_8192_SHA512,
];
/// The curves of `ES256`, `ES384` and `ES512`, with the bytes of a coordinate.
const CURVES: [(&str, &EcdsaVerificationAlgorithm, usize); 3] = [
    ("P-256", &ECDSA_P256_SHA256_FIXED, 32),
    ("P-384", &ECDSA_P384_SHA384_FIXED, 48),
    ("P-521", &ECDSA_P521_SHA512_FIXED, 66),
];
const EDDSA: usize = 9;

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
    /// By algorithm: the key ready for it.
    ready: Vec<(Algorithm, ParsedPublicKey)>,
}

impl Keys {
    /// Reads a JWK set. Keys of other kinds are passed over.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let set: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
        Self::read(&set)
    }

    /// The same of what was decoded already.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn read(set: &Value) -> Result<Self, String> {
        let Some(Value::Array(keys)) = set.get("keys") else {
            return Err("it has no array \"keys\"".to_owned());
        };
        if keys.len() > MOST_KEYS {
            let count = keys.len();
            return Err(format!(
                "it has {count} keys, at most {MOST_KEYS} are supported"
            ));
        }
        let keys: Vec<_> = keys.iter().filter_map(Key::read).collect();
        match keys.is_empty() {
            true => {
                Err("it has no public key of RSA (2048 bits and more), EC or Ed25519".to_owned())
            }
            false => Ok(Self(keys)),
        }
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
            if ready.is_some_and(|(_, key)| key.verify_sig(signed, &token.signature).is_ok()) {
                return Ok(());
            }
        }
        Err(problem)
    }
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE.decode(text(name)?).ok();
        let ready = match text("kty")? {
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
                vec![(Algorithm(OF_RSA.len() + at), key)]
            }
            "OKP" if text("crv") == Some("Ed25519") => {
                let key = ParsedPublicKey::new(&ED25519, bytes("x")?).ok()?;
                vec![(Algorithm(EDDSA), key)]
            }
            _ => return None,
        };
        (!ready.is_empty()).then(|| Self {
            id: text("kid").unwrap_or_default().to_owned(),
            only: text("alg").map(str::to_owned),
            ready,
        })
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Vec<(Algorithm, ParsedPublicKey)> {
    let start = n.iter().position(|byte| *byte != 0).unwrap_or(n.len());
    let components = RsaPublicKeyComponents { n: &n[start..], e };
    let parameters = OF_RSA.iter().enumerate();
    parameters
        .filter_map(|(at, parameters)| {
            let key = components.to_parsed_public_key(parameters).ok()?;
            Some((Algorithm(at), key))
        })
        .collect()
}
