//! Why a token is not accepted, in Envoy's words.

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem(&'static str);

impl Problem {
    pub(crate) const MISSING: Self = Self("Jwt is missing");
    pub(crate) const BAD_FORMAT: Self =
        Self("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    pub(crate) const HEADER_BASE64: Self = Self("Jwt header is an invalid Base64url encoded");
    pub(crate) const HEADER_JSON: Self = Self("Jwt header is an invalid JSON");
    pub(crate) const NO_ALGORITHM: Self =
        Self("Jwt header [alg] field is required and must be a string");
    pub(crate) const UNKNOWN_ALGORITHM: Self = Self("Jwt header [alg] is not supported");
    pub(crate) const KEY_ID: Self = Self("Jwt header [kid] field is not a string");
    pub(crate) const PAYLOAD_BASE64: Self = Self("Jwt payload is an invalid Base64url encoded");
    pub(crate) const PAYLOAD_JSON: Self = Self("Jwt payload is an invalid JSON");
    pub(crate) const ISSUER: Self = Self("Jwt payload [iss] field is not a string");
    pub(crate) const SUBJECT: Self = Self("Jwt payload [sub] field is not a string");
    pub(crate) const AUDIENCE: Self =
        Self("Jwt payload [aud] field is not a string or string list");
    pub(crate) const EXPIRES: Self = Self("Jwt payload [exp] field is not an integer");
    pub(crate) const NOT_BEFORE: Self = Self("Jwt payload [nbf] field is not an integer");
    pub(crate) const SIGNATURE_BASE64: Self = Self("Jwt signature is an invalid Base64url encoded");
    pub(crate) const UNKNOWN_ISSUER: Self = Self("Jwt issuer is not configured");
    pub(crate) const AUDIENCE_NOT_ALLOWED: Self = Self("Audiences in Jwt are not allowed");
    pub(crate) const NOT_YET_VALID: Self = Self("Jwt not yet valid");
    pub(crate) const EXPIRED: Self = Self("Jwt is expired");
    pub(crate) const WRONG_SIGNATURE: Self = Self("Jwt verification fails");
    pub(crate) const NO_KEY: Self = Self("Jwks doesn't have key to match kid or alg from Jwt");
    pub(crate) const FETCH_FAILED: Self = Self("Jwks remote fetch is failed");
    /// It is none of the client's, but the route's.
    pub(crate) const UNKNOWN_REQUIREMENT: Self = Self("Failed JWT authentication");

    pub(crate) fn text(self) -> &'static str {
        self.0
    }

    /// The status of the answer.
    pub(crate) fn status(self) -> u16 {
        if matches!(self, Self::AUDIENCE_NOT_ALLOWED | Self::UNKNOWN_REQUIREMENT) {
            403
        } else {
            401
        }
    }

    /// It says nothing about a token that somebody else may accept.
    pub(crate) fn is_about_others(self) -> bool {
        self == Self::MISSING || self == Self::UNKNOWN_ISSUER
    }
}
