//! The HTTP API of a running server, as the commands that read it see it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::{Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use periplus_collect::client_config;
use serde::de::DeserializeOwned;

pub(crate) use super::failure::Failure;
use super::failure::refusal;

/// Who is asked: what tells it from others in errors.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it is unless somebody says otherwise.
    pub(super) default: &'static str,
    /// What names another one.
    pub(super) flag: &'static str,
    /// What to do if nobody answers.
    pub(super) advice: &'static str,
}

/// The trace backend.
pub(super) const SERVER: Peer = Peer {
    default: "http://127.0.0.1:16686",
    flag: "--server",
    advice: "start it with `periplus serve`, or name another with --server",
};

/// How to get there.
#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    timeout: Duration,
    ca: Option<&'a Path>,
    /// A certificate, and its key.
    identity: Option<(&'a Path, &'a Path)>,
}

/// The largest answer, if nothing is said.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Flags that say which server to ask.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerFlags {
    #[command(flatten)]
    access: AccessFlags,

    /// How long an answer may take, such as 30s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::duration::parse)]
    timeout: Duration,
}

impl ServerFlags {
    /// A client; `other` is the server that an argument names, if it is a link.
    pub(super) fn client(&self, other: Option<&str>) -> Result<Client, Failure> {
        self.access.client(other, self.timeout)
    }
}

/// Where the server is, and what it has to be shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AccessFlags {
    /// Address of the server, with its base path if it has one [default: http://127.0.0.1:16686]
    #[arg(long, value_name = "URL", env = "PERIPLUS_SERVER")]
    server: Option<String>,

    /// File with the token that the server asks for; it goes to no server that only a link names
    #[arg(long, value_name = "FILE", env = "PERIPLUS_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Tenant whose traces are meant
    #[arg(long, value_name = "NAME", env = "PERIPLUS_TENANT")]
    tenant: Option<String>,

    /// Header that names the tenant
    #[arg(
        long,
        value_name = "NAME",
        default_value = "x-tenant",
        requires = "tenant"
    )]
    tenant_header: HeaderName,

    /// Authorities in PEM that may have signed the server's certificate [default: those of the
    /// system]
    #[arg(long, value_name = "FILE", env = "PERIPLUS_CA")]
    ca: Option<PathBuf>,

    /// Certificate in PEM to show to the server
    #[arg(long, value_name = "FILE", requires = "key", env = "PERIPLUS_CERT")]
    cert: Option<PathBuf>,

    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "cert", env = "PERIPLUS_KEY")]
    key: Option<PathBuf>,
}

impl AccessFlags {
    /// A client; `other` is the server that an argument names, if it is a link.
    pub(super) fn client(&self, other: Option<&str>, timeout: Duration) -> Result<Client, Failure> {
        let server = self.server.as_deref().or(other).unwrap_or(SERVER.default);
        let way = Way {
            timeout,
            ca: self.ca.as_deref(),
            identity: self.cert.as_deref().zip(self.key.as_deref()),
        };
        let mut client = Client::new(server, &SERVER, way)?;
        // A link may lead anywhere: it gets no secret.
        let is_named = self.server.is_some() || other.is_none();
        if let Some(path) = self.token_file.as_deref().filter(|_| is_named) {
            client.headers.insert(AUTHORIZATION, bearer(path)?);
        }
        if let Some(tenant) = &self.tenant {
            let value = HeaderValue::from_str(tenant)
                .map_err(|_| Failure::Usage(format!("--tenant {tenant:?} cannot be a header")))?;
            client.headers.insert(self.tenant_header.clone(), value);
        }
        Ok(client)
    }
}

/// What shows the token in this file.
fn bearer(path: &Path) -> Result<HeaderValue, Failure> {
    let wrong = |cause: &dyn fmt::Display| {
        Failure::Usage(format!("--token-file {}: {cause}", path.display()))
    };
    let token = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| wrong(&"it has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A server.
pub(super) struct Client {
    peer: &'static Peer,
    /// Without a slash at the end.
    base: String,
    timeout: Duration,
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Those of every request.
    headers: HeaderMap,
    /// The largest answer.
    most_bytes: usize,
}

impl Client {
    /// Whom nobody has to be shown anything but a request.
    pub(super) fn plain(
        server: &str,
        peer: &'static Peer,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let way = Way {
            timeout,
            ca: None,
            identity: None,
        };
        Self::new(server, peer, way)
    }

    fn new(server: &str, peer: &'static Peer, way: Way<'_>) -> Result<Self, Failure> {
        let timeout = way.timeout;
        let example = peer.default;
        let wrong = |what: &str| Failure::Usage(format!("{} {server}: {what}", peer.flag));
        let base = match server.contains("://") {
            true => server.to_owned(),
            false => format!("http://{server}"),
        };
        let uri: Uri = base
            .parse()
            .map_err(|_| wrong(&format!("this is no address: write it as {example}")))?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let speaks = secure || uri.scheme() == Some(&Scheme::HTTP);
        if !speaks || uri.host().is_none_or(str::is_empty) {
            return Err(wrong(&format!(
                "only http:// and https:// are spoken here: write it as {example}"
            )));
        }
        if uri.query().is_some() {
            return Err(wrong("an address has no query"));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(timeout.min(Duration::from_secs(10))));
        connector.enforce_http(false);
        let tls = client_config(secure, way.ca, way.identity).map_err(|error| {
            Failure::Usage(match last(&error) {
                cause if cause == error.to_string() => cause,
                cause => format!("{error}: {cause}"),
            })
        })?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            peer,
            base: base.trim_end_matches('/').to_owned(),
            timeout,
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
            headers: HeaderMap::new(),
            most_bytes: MAX_ANSWER_BYTES,
        })
    }

    /// The same, which takes no answer that is larger.
    pub(super) fn up_to(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    /// The address, as it was given.
    pub(super) fn server(&self) -> &str {
        &self.base
    }

    /// `GET` of JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let body = self.bytes(Method::GET, path, Bytes::new()).await?;
        self.read(&body)
    }

    /// `POST` of a text, which is answered by JSON.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: String,
    ) -> Result<T, Failure> {
        let body = self.bytes(Method::POST, path, body.into()).await?;
        self.read(&body)
    }

    /// An answer that is a text.
    pub(super) async fn text(&self, method: Method, path: &str) -> Result<String, Failure> {
        let body = self.bytes(method, path, Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `GET` of an answer that does not end by itself.
    pub(super) async fn stream(&self, path: &str) -> Result<hyper::body::Incoming, Failure> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(response.into_body())
    }

    /// What it means that an answer breaks off.
    pub(super) fn broken(&self, cause: &dyn std::error::Error) -> Failure {
        self.unreachable(last(cause))
    }

    /// That the server is not there, or no longer.
    pub(super) fn unreachable(&self, cause: String) -> Failure {
        Failure::Unreachable {
            server: self.base.clone(),
            cause,
            advice: self.peer.advice,
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| Failure::Unreadable {
            server: self.base.clone(),
            cause: error.to_string(),
        })
    }

    async fn bytes(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            self.collect(response.into_body()).await
        };
        (tokio::time::timeout(self.timeout, answer).await).map_err(|_| self.late())?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<hyper::body::Incoming>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
        request.headers_mut().extend(self.headers.clone());
        let response = tokio::time::timeout(self.timeout, self.http.request(request))
            .await
            .map_err(|_| self.late())?
            .map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response.into_body()).await?;
        Err(Failure::Refused {
            status,
            message: refusal(&body),
        })
    }

    async fn collect(&self, body: hyper::body::Incoming) -> Result<Bytes, Failure> {
        match Limited::new(body, self.most_bytes).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Failure::Unreadable {
                    server: self.base.clone(),
                    cause: format!("it has more than {} MiB", self.most_bytes >> 20),
                })
            }
            Err(error) => Err(self.broken(&*error)),
        }
    }

    fn late(&self) -> Failure {
        Failure::Timeout {
            server: self.base.clone(),
            after: self.timeout,
        }
    }
}

/// The innermost cause, which says most.
fn last(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// A query string from pairs; empty values are left out.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = (pairs.iter())
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

/// A text inside a URL: everything but letters, digits and `-_.~` escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn addresses_are_checked() {
        let new = |server| flags(&["--timeout", "1s"]).client(Some(server));
        for (server, base) in [
            ("http://127.0.0.1:16686", "http://127.0.0.1:16686"),
            ("localhost:16686", "http://localhost:16686"),
            ("http://host/jaeger/", "http://host/jaeger"),
        ] {
            assert_eq!(
                new(server).map(|client| client.base).ok().as_deref(),
                Some(base)
            );
        }
        for server in ["", "ftp://host", "http://", "http://host?x=1", "not a host"] {
            assert!(matches!(new(server), Err(Failure::Usage(_))), "{server}");
        }
    }

    fn flags(line: &[&str]) -> ServerFlags {
        let command = ServerFlags::augment_args(clap::Command::new("test"));
        let matches = command.get_matches_from([&["test"][..], line].concat());
        ServerFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn a_link_gets_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a-secret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let line = ["--token-file", path, "--tenant", "shop"];
        let named = [&line[..], &["--server", "http://named"]].concat();
        for (flags, link, token) in [
            (flags(&line), None, Some("Bearer a-secret")),
            (flags(&line), Some("http://link"), None),
            (flags(&named), Some("http://link"), Some("Bearer a-secret")),
        ] {
            let client = flags.client(link).unwrap();
            let found = client.headers.get(AUTHORIZATION);
            assert_eq!(found.map(|value| value.to_str().unwrap()), token);
            assert_eq!(client.headers["x-tenant"], "shop");
            assert!(!format!("{:?}", client.headers).contains("a-secret"));
        }
    }

    #[test]
    fn query_strings_are_escaped() {
        assert_eq!(query(&[]), "");
        assert_eq!(
            query(&[("q", "a=b c"), ("x", ""), ("y", "ä"), ("a&b", "1")]),
            "?q=a%3Db%20c&y=%C3%A4&a%26b=1"
        );
    }
}
