//! The keys of tokens, as whoever checks them gets them.

use std::path::Path;

use rcgen::PublicKeyData as _;
use serde_json::Value;

/// `iss` of the tokens of a control plane.
pub(crate) const ISSUER: &str = "https://periplus.istio-system.svc";

/// The public half of the key of tokens, as a JSON Web Key Set.
pub(crate) fn keys(file: &Path) -> Value {
    let pem = std::fs::read_to_string(file).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    // An uncompressed point: 4, x, y.
    let point = key.der_bytes();
    let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
    serde_json::json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(char::from(DIGITS[index as usize]));
        }
    }
    text
}
