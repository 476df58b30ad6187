//! Sets of public keys (RFC 7517).

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// The most keys of a set.
const MOST: usize = 100;

/// The bytes of the shortest and the longest modulus of RSA.
const RSA: std::ops::RangeInclusive<usize> = 256..=1024;

/// The bytes of a coordinate on each curve.
const CURVES: [(&str, usize); 3] = [("P-256", 32), ("P-384", 48), ("P-521", 66)];

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
    match keys.iter().any(is_public) {
        true => Ok(()),
        false => Err(
            "none of its keys is a public one of RSA with 2048 bits or more, EC (P-256, P-384, P-521) or Ed25519"
                .to_owned(),
        ),
    }
}

/// Whether a key is one with which signatures can be checked.
fn is_public(key: &Value) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let length = |name: &str| {
        let bytes = LENIENT.decode(text(name)).unwrap_or_default();
        bytes.iter().skip_while(|byte| **byte == 0).count()
    };
    match text("kty") {
        "RSA" => RSA.contains(&length("n")) && length("e") > 0,
        "EC" => {
            let curve = CURVES.iter().find(|(name, _)| *name == text("crv"));
            curve.is_some_and(|(_, most)| {
                (1..=*most).contains(&length("x")) && (1..=*most).contains(&length("y"))
            })
        }
        "OKP" => text("crv") == "Ed25519" && LENIENT.decode(text("x")).is_ok_and(|x| x.len() == 32),
        _ => false,
    }
}
