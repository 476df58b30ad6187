//! Why a token is not accepted, in Envoy's words.

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem(&'static str);

#[expect(missing_docs, reason = "each constant is its text")]
impl Problem {
    pub const MISSING: Self = Self("Jwt is missing");
    pub const BAD_FORMAT: Self =
        Self("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    pub const HEADER_BASE64: Self = Self("Jwt header is an invalid Base64url encoded");
    pub const HEADER_JSON: Self = Self("Jwt header is an invalid JSON");
    pub const NO_ALGORITHM: Self = Self("Jwt header [alg] field is required and must be a string");
    pub const UNKNOWN_ALGORITHM: Self = Self("Jwt header [alg] is not supported");
    pub const KEY_ID: Self = Self("Jwt header [kid] field is not a string");
    pub const PAYLOAD_BASE64: Self = Self("Jwt payload is an invalid Base64url encoded");
    pub const PAYLOAD_JSON: Self = Self("Jwt payload is an invalid JSON");
    pub const ISSUER: Self = Self("Jwt payload [iss] field is not a string");
    pub const SUBJECT: Self = Self("Jwt payload [sub] field is not a string");
    pub const AUDIENCE: Self = Self("Jwt payload [aud] field is not a string or string list");
    pub const EXPIRES: Self = Self("Jwt payload [exp] field is not an integer");
    pub const NOT_BEFORE: Self = Self("Jwt payload [nbf] field is not an integer");
    pub const SIGNATURE_BASE64: Self = Self("Jwt signature is an invalid Base64url encoded");
    pub const UNKNOWN_ISSUER: Self = Self("Jwt issuer is not configured");
    pub const AUDIENCE_NOT_ALLOWED: Self = Self("Audiences in Jwt are not allowed");
    pub const NOT_YET_VALID: Self = Self("Jwt not yet valid");
    pub const EXPIRED: Self = Self("Jwt is expired");
    pub const WRONG_SIGNATURE: Self = Self("Jwt verification fails");
    pub const NO_KEY: Self = Self("Jwks doesn't have key to match kid or alg from Jwt");
    pub const FETCH_FAILED: Self = Self("Jwks remote fetch is failed");
    /// It is none of the client's, but the route's.
    pub const UNKNOWN_REQUIREMENT: Self = Self("Failed JWT authentication");

    /// The reason.
    pub fn text(self) -> &'static str {
        self.0
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        if matches!(self, Self::AUDIENCE_NOT_ALLOWED | Self::UNKNOWN_REQUIREMENT) {
            403
        } else {
            401
        }
    }

    /// It says nothing about a token that somebody else may accept.
    pub fn is_about_others(self) -> bool {
        self == Self::MISSING || self == Self::UNKNOWN_ISSUER
    }
}
