use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE,
    TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::endpoint::{Endpoint, InvalidEndpoint};

/// Headers that say what a request is: the forwarder's own.
const OWN: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TE,
    TRANSFER_ENCODING,
];

/// An endpoint that wants to know who sends to it, as it is written down.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EndpointConfig {
    /// Where it is, such as `otlp+https://collector:4318`.
    pub to: String,
    /// File of a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Headers that go along.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Authorities that may have signed its certificate, in PEM.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Certificate to show to it, in PEM.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// Without the values of the headers: they must not reach a log.
impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("to", &self.to)
            .field("token_file", &self.token_file)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

impl EndpointConfig {
    /// The endpoint itself.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn endpoint(&self) -> Result<Endpoint, InvalidEndpoint> {
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => return Err(InvalidEndpoint::Identity),
        };
        let headers = self.headers.iter();
        Ok(Endpoint {
            authorities: self.ca.clone(),
            identity,
            headers: headers
                .map(|(name, value)| self.header(name, value))
                .collect::<Result<_, _>>()?,
            token_file: self.token_file.clone(),
            ..self.to.parse()?
        })
    }

    fn header(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(HeaderName, HeaderValue), InvalidEndpoint> {
        let wrong = |why| InvalidEndpoint::Header(name.to_owned(), why);
        let key: HeaderName = name.parse().map_err(|_| wrong("no header has this name"))?;
        if OWN.contains(&key) {
            return Err(wrong("it is set by what is sent"));
        }
        if key == AUTHORIZATION && self.token_file.is_some() {
            return Err(wrong("'token-file' says it already"));
        }
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| wrong("its value has characters that no header has"))?;
        value.set_sensitive(true);
        Ok((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_secrets_are_not() {
        let config = |token_file: Option<&str>, name: &str, value: &str| EndpointConfig {
            to: "otlp+https://c".to_owned(),
            token_file: token_file.map(PathBuf::from),
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..EndpointConfig::default()
        };
        let good = config(None, "X-Team", "s3cret");
        let endpoint = good.endpoint().expect("an endpoint");
        assert_eq!(endpoint.headers[0].0, "x-team");
        assert!(!format!("{good:?} {endpoint:?} {endpoint}").contains("s3cret"));
        for (config, error) in [
            (
                config(None, "a b", "s3cret"),
                "header 'a b' cannot be sent along: no header has this name",
            ),
            (
                config(None, "x-team", "s3cret\n"),
                "header 'x-team' cannot be sent along: its value has characters that no header has",
            ),
            (
                config(None, "Content-Length", "s3cret"),
                "header 'Content-Length' cannot be sent along: it is set by what is sent",
            ),
            (
                config(Some("f"), "authorization", "s3cret"),
                "header 'authorization' cannot be sent along: 'token-file' says it already",
            ),
            (
                EndpointConfig {
                    cert: Some("c".into()),
                    ..config(None, "x", "s3cret")
                },
                "'cert' and 'key' go together",
            ),
        ] {
            assert_eq!(config.endpoint().expect_err(error).to_string(), error);
        }
    }
}
