use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::endpoint::{Endpoint, Protocol};
use crate::refusal::chain;
use crate::tls::{TlsError, authorities};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why nothing can be sent to an endpoint at all.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its authorities cannot be used.
    #[error(transparent)]
    Authorities(#[from] TlsError),
    /// The system's authorities cannot be read.
    #[error("cannot read the system's authorities: name a file of them")]
    System(#[source] io::Error),
}

/// Why a request was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another time it may be.
    Passing(String),
    /// It never will be.
    Final(String),
}

/// Sends requests to one endpoint, over connections that it keeps.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let roots = match &endpoint.authorities {
            Some(path) => authorities(path)?,
            None if endpoint.uri.scheme_str() == Some("https") => system()?,
            None => RootCertStore::empty(),
        };
        let tls = ClientConfig::builder()
            .with_root_certificates(Arc::new(roots))
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let grpc = endpoint.protocol == Protocol::OtlpGrpc;
        let connector = match grpc {
            true => builder.enable_http2().build(),
            false => builder.enable_http1().build(),
        };
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .http2_only(grpc)
            .build(connector);
        Ok(Self {
            http,
            endpoint: endpoint.clone(),
        })
    }

    /// Sends one body; the answer says whether it was taken.
    pub(super) async fn send(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<(), Failure> {
        match tokio::time::timeout(TIMEOUT, self.exchange(body, header)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Passing("no answer in time".to_owned())),
        }
    }

    async fn exchange(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<(), Failure> {
        let passing = |error: &dyn std::error::Error| Failure::Passing(chain(error));
        let request = self.request(body, header)?;
        let response = (self.http.request(request).await).map_err(|error| passing(&error))?;
        let (head, body) = response.into_parts();
        let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        if self.endpoint.protocol == Protocol::OtlpGrpc {
            let collected = collected.map_err(|error| passing(&*error))?;
            let trailers = collected.trailers().unwrap_or(&head.headers);
            return grpc_outcome(head.status, &head.headers, trailers);
        }
        // Its text only explains a failure.
        let text = collected
            .map(|collected| collected.to_bytes())
            .unwrap_or_default();
        http_outcome(head.status, &text)
    }

    fn request(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let (kind, body) = match self.endpoint.protocol {
            Protocol::OtlpHttp => ("application/x-protobuf", body),
            Protocol::Zipkin => ("application/json", body),
            Protocol::OtlpGrpc => ("application/grpc", framed(&body)),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.uri.clone())
            .header(CONTENT_TYPE, kind)
            .header(USER_AGENT, concat!("periplus/", env!("CARGO_PKG_VERSION")));
        if self.endpoint.protocol == Protocol::OtlpGrpc {
            request = request.header(TE, "trailers");
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| Failure::Final(error.to_string()))
    }
}

/// One gRPC message: not compressed, its length, itself.
fn framed(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(0);
    // A request of 4 GiB is never queued.
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(body);
    out.freeze()
}

/// OTLP/HTTP's rule: 429, 502, 503 and 504 may be tried again. A Zipkin server says 500 when its
/// storage is away.
fn http_outcome(status: StatusCode, text: &[u8]) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
    let reason = format!("{status}: {}", text.trim());
    match status.as_u16() {
        429 | 500 | 502 | 503 | 504 => Err(Failure::Passing(reason)),
        _ => Err(Failure::Final(reason)),
    }
}

/// OTLP/gRPC's rule: these codes may be tried again, `RESOURCE_EXHAUSTED` only where the endpoint
/// says when.
fn grpc_outcome(status: StatusCode, head: &HeaderMap, trailers: &HeaderMap) -> Result<(), Failure> {
    let find = |name: &'static str| {
        let name = HeaderName::from_static(name);
        trailers.get(&name).or_else(|| head.get(&name))
    };
    let text = |value: Option<&HeaderValue>| {
        value
            .map_or("", |value| value.to_str().unwrap_or(""))
            .to_owned()
    };
    let code = text(find("grpc-status"));
    if status != StatusCode::OK {
        return http_outcome(status, b"no gRPC answer");
    }
    let reason = format!("gRPC status {code}: {}", text(find("grpc-message")));
    match code.as_str() {
        "0" => Ok(()),
        // cancelled, deadline exceeded, aborted, out of range, unavailable, data loss
        "1" | "4" | "10" | "11" | "14" | "15" => Err(Failure::Passing(reason)),
        "8" if find("grpc-status-details-bin").is_some() => Err(Failure::Passing(reason)),
        _ => Err(Failure::Final(reason)),
    }
}

/// Authorities that the system trusts.
fn system() -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors = found.errors.iter().map(ToString::to_string);
        let text = errors.collect::<Vec<_>>().join("; ");
        return Err(ClientError::System(io::Error::other(text)));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_answers_are_final_and_some_pass() {
        for (status, passing) in [
            (400, false),
            (401, false),
            (413, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = http_outcome(status, b"why");
            assert_eq!(matches!(outcome, Err(Failure::Passing(_))), passing);
        }
        assert_eq!(http_outcome(StatusCode::ACCEPTED, b""), Ok(()));
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(*name, HeaderValue::from_static(value));
            }
            map
        };
        let none = HeaderMap::new();
        for (trailers, passing) in [
            (with(&[("grpc-status", "14")]), true),
            (with(&[("grpc-status", "8")]), false),
            (
                with(&[("grpc-status", "8"), ("grpc-status-details-bin", "CAg")]),
                true,
            ),
            (with(&[("grpc-status", "3")]), false),
            (none.clone(), false),
        ] {
            let outcome = grpc_outcome(StatusCode::OK, &none, &trailers);
            assert_eq!(
                matches!(outcome, Err(Failure::Passing(_))),
                passing,
                "{trailers:?}"
            );
        }
        let taken = with(&[("grpc-status", "0")]);
        assert_eq!(grpc_outcome(StatusCode::OK, &none, &taken), Ok(()));
    }
}
