use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Uri};

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over HTTP, protobuf.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// Zipkin v2 JSON.
    Zipkin,
}

impl Protocol {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::OtlpHttp, "otlp", "/v1/traces"),
        (
            Self::OtlpGrpc,
            "otlp-grpc",
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ),
        (Self::Zipkin, "zipkin", "/api/v2/spans"),
    ];
}

/// Where spans are forwarded: `otlp+http://host:4318`, `otlp-grpc+https://host:4317`,
/// `zipkin+http://host:9411`. Without a path it is the protocol's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is.
    pub uri: Uri,
    /// Authorities that may have signed its certificate, in PEM; none: those of the system.
    pub authorities: Option<PathBuf>,
    /// Certificate to show to it and the certificate's key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What goes along with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// File of a bearer token: read for each request, so that a new one counts at once.
    pub token_file: Option<PathBuf>,
}

/// Why a text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It has another form.
    #[error(
        "'{0}' names no endpoint: expected PROTOCOL+URL with otlp, otlp-grpc or zipkin and http or \
         https, such as otlp+http://collector:4318"
    )]
    Form(String),
    /// It would be in logs and metrics. The text is not told for the same reason.
    #[error("the URL of an endpoint takes no user and no password")]
    Password,
    /// A header cannot be one, or is not for others to set. Its value is a secret.
    #[error("header '{0}' cannot be sent along: {1}")]
    Header(String, &'static str),
    /// One of the two files is missing.
    #[error("'cert' and 'key' go together")]
    Identity,
}

impl Endpoint {
    /// Whether what is sent to it has secrets.
    pub fn has_secrets(&self) -> bool {
        self.token_file.is_some() || !self.headers.is_empty()
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.contains('@') {
            return Err(InvalidEndpoint::Password);
        }
        let invalid = || InvalidEndpoint::Form(text.to_owned());
        let (word, url) = text.split_once('+').ok_or_else(invalid)?;
        let (protocol, _, path) = Protocol::ALL
            .into_iter()
            .find(|(_, name, _)| *name == word)
            .ok_or_else(invalid)?;
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(invalid());
        }
        // gRPC has no other paths.
        let own = uri.path() == "/" && uri.query().is_none();
        let uri = match own {
            false if protocol == Protocol::OtlpGrpc => return Err(invalid()),
            false => uri,
            true => {
                let mut parts = uri.into_parts();
                parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
                Uri::from_parts(parts).map_err(|_| invalid())?
            }
        };
        Ok(Self {
            protocol,
            uri,
            authorities: None,
            identity: None,
            headers: Vec::new(),
            token_file: None,
        })
    }
}

/// Without the query: some services want a key there, which must not reach a log.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Protocol::ALL.iter().find(|known| known.0 == self.protocol);
        let name = known.map_or("", |known| known.1);
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |found| found.as_str());
        write!(f, "{name}+{scheme}://{authority}{}", self.uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        for (text, full) in [
            (
                "otlp+http://collector:4318",
                "otlp+http://collector:4318/v1/traces",
            ),
            (
                "otlp+https://c.example/custom?key=secret",
                "otlp+https://c.example/custom",
            ),
            (
                "otlp-grpc+http://[::1]:4317/",
                "otlp-grpc+http://[::1]:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
            ("zipkin+http://z:9411", "zipkin+http://z:9411/api/v2/spans"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), full);
        }
        for text in [
            "",
            "http://c:4318",
            "jaeger+http://c:14268",
            "otlp+ftp://c",
            "otlp+/v1/traces",
            "otlp-grpc+http://c/path",
            "otlp+http://ada:secret@c:4318",
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
