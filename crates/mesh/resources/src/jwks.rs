//! Sets of keys (RFC 7517).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// The most keys of a set.
const MOST: usize = 100;

/// The bytes of the shortest and the longest modulus of RSA.
const RSA: std::ops::RangeInclusive<usize> = 256..=1024;

/// The curves, with the bytes of a coordinate.
const CURVES: [(&str, &EcdsaVerificationAlgorithm, usize); 4] = [
    ("P-256", &ECDSA_P256_SHA256_FIXED, 32),
    ("P-384", &ECDSA_P384_SHA384_FIXED, 48),
    ("P-521", &ECDSA_P521_SHA512_FIXED, 66),
    ("secp256k1", &ECDSA_P256K1_SHA256_FIXED, 32),
];

/// The bytes of the shortest secret for each hash (RFC 7518 §3.2).
const SECRETS: [(&str, usize); 3] = [("HS256", 32), ("HS384", 48), ("HS512", 64)];

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether proxies can check tokens with a set of keys.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let set: Value = serde_json::from_str(text)
        .map_err(|error| format!("expected a set of keys as JSON (RFC 7517): {error}"))?;
    let Some(Value::Array(keys)) = set.get("keys") else {
        return Err("expected a set of keys (RFC 7517), it has no list `keys`".to_owned());
    };
    if keys.len() > MOST {
        let count = keys.len();
        return Err(format!("{count} keys, at most {MOST} are supported"));
    }
    match keys.iter().any(is_useful) {
        true => Ok(()),
        false => Err(
            "none of its keys is one of RSA with 2048 bits or more, EC (P-256, P-384, P-521, secp256k1), Ed25519 or \
             HMAC with 32 bytes or more"
                .to_owned(),
        ),
    }
}

/// Whether a key is one with which signatures can be checked.
fn is_useful(key: &Value) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let bytes = |name: &str| LENIENT.decode(text(name)).unwrap_or_default();
    let length = |name: &str| bytes(name).iter().skip_while(|byte| **byte == 0).count();
    let algorithm = text("alg");
    match text("kty") {
        "RSA" => RSA.contains(&length("n")) && length("e") > 0,
        "EC" => is_point(text("crv"), [bytes("x"), bytes("y")]),
        "OKP" => text("crv") == "Ed25519" && bytes("x").len() == 32,
        "oct" => SECRETS.iter().any(|(name, least)| {
            (algorithm.is_empty() || algorithm == *name) && bytes("k").len() >= *least
        }),
        _ => false,
    }
}

/// Whether a curve has a point.
fn is_point(curve: &str, coordinates: [Vec<u8>; 2]) -> bool {
    let Some((_, parameters, length)) = CURVES.iter().find(|(name, ..)| *name == curve) else {
        return false;
    };
    let mut point = vec![4];
    for coordinate in coordinates {
        // Leading zeros may be missing.
        let missing = length.saturating_sub(coordinate.len());
        point.extend(vec![0; missing]);
        point.extend(coordinate);
    }
    ParsedPublicKey::new(*parameters, point).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_signature_could_be_checked_with_are_refused() {
        // RFC 7515 §A.3.1, and a point of secp256k1: the generator (SEC 2 §2.4.1).
        let p256 = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
        let k256 = r#""kty":"EC","crv":"secp256k1","x":"eb5mfvncu6xVoGKVzocLBwKb_NstzijZWfKBWxb4F5g","y":"SDradyajxGVdpPv8DhEIqP0XtEimhVQZnEfQj_sQ1Lg""#;
        let secret = |bytes: &str| format!(r#""kty":"oct","k":"{bytes}""#);
        let (of_31, of_32) = ("A".repeat(42), "A".repeat(43));
        for (key, is_good) in [
            (p256.to_owned(), true),
            (p256.replace("f83O", "f83P"), false),
            (p256.replace("P-256", "secp256k1"), false),
            (p256.replace("P-256", "P-384"), false),
            (p256.replace("f83O", "AAAAf83O"), false),
            (k256.to_owned(), true),
            (k256.replace("secp256k1", "P-256"), false),
            (secret(&of_32), true),
            (secret(&of_31), false),
            (secret("not base64!"), false),
            (format!(r#"{},"alg":"HS256""#, secret(&of_32)), true),
            (format!(r#"{},"alg":"HS512""#, secret(&of_32)), false),
            (format!(r#"{},"alg":"RS256""#, secret(&of_32)), false),
        ] {
            let outcome = check(&format!(r#"{{"keys":[{{{key}}}]}}"#));
            assert_eq!(outcome.is_ok(), is_good, "{key}: {outcome:?}");
        }
    }
}
