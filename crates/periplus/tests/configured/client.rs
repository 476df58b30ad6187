//! A client over HTTP/1.1 and gRPC, in plain text and over TLS.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

type Connections = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(crate) struct Client {
    http1: Connections,
    http2: Connections,
    secure: bool,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// What a call ended with.
#[derive(Debug)]
pub(crate) struct Call {
    /// gRPC's number.
    pub(crate) code: u16,
    pub(crate) message: String,
    /// Whether it says when to come again.
    pub(crate) details: bool,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn plain() -> Self {
        Self::new(RootCertStore::empty(), None, false)
    }

    /// Trusts this authority, and shows who it is.
    pub(crate) fn trusting(authority: &str, identity: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
        roots.add(root).unwrap();
        Self::new(roots, identity, true)
    }

    fn new(roots: RootCertStore, identity: Option<&Identity>, secure: bool) -> Self {
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                let chain = vec![certificate.unwrap()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let builder = |config: &ClientConfig| {
            HttpsConnectorBuilder::new()
                .with_tls_config(config.clone())
                .https_or_http()
        };
        Self {
            http1: legacy::Client::builder(TokioExecutor::new())
                .build(builder(&config).enable_http1().build()),
            http2: legacy::Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(builder(&config).enable_http2().build()),
            secure,
        }
    }

    pub(crate) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, url, headers, "").await.unwrap()
    }

    pub(crate) async fn get_json(&self, url: &str, headers: &[(&str, &str)]) -> serde_json::Value {
        let answer = self.get(url, headers).await;
        assert_eq!(answer.status, 200, "{url}: {answer:?}");
        serde_json::from_str(&answer.text).unwrap()
    }

    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send(Method::POST, url, headers, body).await.unwrap()
    }

    /// A request over HTTP/1.1; `address/path`.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, legacy::Error> {
        let response = self
            .http1
            .request(self.request(method, url, headers, body.into()));
        let response = tokio::time::timeout(DEADLINE, response).await.unwrap()?;
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect())
            .await
            .unwrap();
        let body = body.unwrap().to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    pub(crate) async fn call(&self, url: &str, headers: &[(&str, &str)], message: &[u8]) -> Call {
        self.try_call(url, headers, message).await.unwrap()
    }

    /// A gRPC call with one message; `address/package.Service/Method`.
    pub(crate) async fn try_call(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        message: &[u8],
    ) -> Result<Call, legacy::Error> {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap());
        body.put_slice(message);
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.extend_from_slice(headers);
        let request = self.request(Method::POST, url, &all, body.freeze());
        let response = self.http2.request(request);
        let response = tokio::time::timeout(DEADLINE, response).await.unwrap()?;
        let (head, body) = response.into_parts();
        assert_eq!(head.status, StatusCode::OK, "{url}");
        let body = tokio::time::timeout(DEADLINE, body.collect())
            .await
            .unwrap();
        let body = body.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name: &str| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        Ok(Call {
            code: find("grpc-status").unwrap().parse().unwrap(),
            message: find("grpc-message").unwrap_or_default(),
            details: find("grpc-status-details-bin").is_some(),
            body: body.to_bytes(),
        })
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let scheme = if self.secure { "https" } else { "http" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{scheme}://{url}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).unwrap()
    }
}

/// Tries until there is something, or the deadline has passed.
pub(crate) async fn patiently<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
