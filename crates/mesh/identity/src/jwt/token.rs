//! A JSON Web Token as it stands in a request (RFC 7519, in the compact form of RFC 7515 §7.1).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::{Algorithm, Problem};

/// The alphabet of RFC 4648 §5; padding may be there.
pub const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token whose signature has not been looked at yet.
#[derive(Debug)]
pub struct Token {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`; empty if it has none.
    pub key_id: String,
    /// All of its header,
    pub header: Value,
    /// and all that it says.
    pub payload: Value,
    /// How long the header and the payload are in the text, with the dot between them.
    signed: usize,
    /// What proves who has signed it.
    pub signature: Vec<u8>,
    /// `iss`; empty if it has none.
    pub issuer: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `exp`, in seconds since 1970.
    pub expires: Option<u64>,
    /// `nbf`, likewise.
    pub not_before: Option<u64>,
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Problem::BAD_FORMAT);
        };
        let signed = header.len() + 1 + payload.len();
        let header = json(header, [Problem::HEADER_BASE64, Problem::HEADER_JSON])?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => {
                Algorithm::named(name).ok_or(Problem::UNKNOWN_ALGORITHM)?
            }
            _ => return Err(Problem::NO_ALGORITHM),
        };
        let key_id = string(&header, "kid", Problem::KEY_ID)?;
        let payload = json(payload, [Problem::PAYLOAD_BASE64, Problem::PAYLOAD_JSON])?;
        string(&payload, "sub", Problem::SUBJECT)?;
        let audiences = match payload.get("aud") {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all
                .iter()
                .map(|one| one.as_str().map(str::to_owned).ok_or(Problem::AUDIENCE))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(Problem::AUDIENCE),
        };
        Ok(Self {
            algorithm,
            key_id,
            signed,
            signature: URL_SAFE
                .decode(signature)
                .map_err(|_| Problem::SIGNATURE_BASE64)?,
            issuer: string(&payload, "iss", Problem::ISSUER)?,
            audiences,
            expires: seconds(&payload, "exp", Problem::EXPIRES)?,
            not_before: seconds(&payload, "nbf", Problem::NOT_BEFORE)?,
            header,
            payload,
        })
    }

    /// What was signed, of the text that the token was read from.
    pub fn signed<'a>(&self, text: &'a str) -> &'a str {
        &text[..self.signed]
    }

    /// Whether it holds at a moment, with clocks that may differ by so much; in seconds since 1970.
    ///
    /// # Errors
    ///
    /// It does not yet, or no more.
    pub fn check_time(&self, now: u64, skew: u64) -> Result<(), Problem> {
        if self
            .not_before
            .is_some_and(|from| now.saturating_add(skew) < from)
        {
            return Err(Problem::NOT_YET_VALID);
        }
        match self.expires {
            Some(end) if now > end.saturating_add(skew) => Err(Problem::EXPIRED),
            _ => Ok(()),
        }
    }
}

/// The payload as it stands in a token.
pub fn payload_text(text: &str) -> &str {
    text.split('.').nth(1).unwrap_or_default()
}

fn json(text: &str, [not_base64, not_json]: [Problem; 2]) -> Result<Value, Problem> {
    let bytes = URL_SAFE.decode(text).map_err(|_| not_base64)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| not_json)?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(not_json),
    }
}

fn string(object: &Value, key: &str, problem: Problem) -> Result<String, Problem> {
    match object.get(key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(problem),
    }
}

/// A moment; zero is none.
fn seconds(object: &Value, key: &str, problem: Problem) -> Result<Option<u64>, Problem> {
    let Some(value) = object.get(key) else {
        return Ok(None);
    };
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
    });
    let seconds = whole.ok_or(problem)?;
    Ok((seconds > 0).then_some(seconds))
}
