use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, TE, USER_AGENT,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message as _;

use super::endpoint::{Endpoint, Protocol};
use crate::refusal::chain;
use crate::tls::{TlsError, client_config};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why a request was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another time it may be.
    Passing {
        reason: String,
        /// How long the endpoint asks to wait.
        after: Option<Duration>,
    },
    /// It never will be.
    Final(String),
}

impl Failure {
    /// Another time it may be, and nobody says when.
    fn passing(reason: String) -> Self {
        Self::Passing {
            reason,
            after: None,
        }
    }
}

/// What the endpoint did not take of a request that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) spans: u64,
    pub(super) reason: String,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`, as far as it matters here.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

/// Sends requests to one endpoint, over connections that it keeps.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, TlsError> {
        let secure = endpoint.uri.scheme_str() == Some("https");
        let identity = endpoint.identity.as_ref();
        let identity = identity.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let tls = client_config(secure, endpoint.authorities.as_deref(), identity)?;
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

    /// Sends one body; the answer says whether it was taken, and what of it was not.
    pub(super) async fn send(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Rejected, Failure> {
        match tokio::time::timeout(TIMEOUT, self.exchange(body, header)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::passing("no answer in time".to_owned())),
        }
    }

    async fn exchange(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Rejected, Failure> {
        let passing = |error: &dyn std::error::Error| Failure::passing(chain(error));
        let token = match &self.endpoint.token_file {
            Some(path) => Some(bearer(path).await.map_err(Failure::passing)?),
            None => None,
        };
        let request = self.request(body, header, token)?;
        let response = (self.http.request(request).await).map_err(|error| passing(&error))?;
        let (head, body) = response.into_parts();
        let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        if self.endpoint.protocol == Protocol::OtlpGrpc {
            let collected = collected.map_err(|error| passing(&*error))?;
            let trailers = collected.trailers().unwrap_or(&head.headers);
            grpc_outcome(head.status, &head.headers, trailers)?;
            let message = collected.to_bytes();
            // After the five bytes of the frame.
            return Ok(rejected(message.get(5..).unwrap_or_default()));
        }
        // What was taken stays taken if the rest of the answer is lost.
        let body = collected
            .map(|collected| collected.to_bytes())
            .unwrap_or_default();
        http_outcome(head.status, &head.headers, &body)?;
        Ok(match self.endpoint.protocol {
            Protocol::OtlpHttp => rejected(&body),
            Protocol::OtlpGrpc | Protocol::Zipkin => Rejected::default(),
        })
    }

    fn request(
        &self,
        body: Bytes,
        header: Option<&(HeaderName, HeaderValue)>,
        token: Option<HeaderValue>,
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
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        for (name, value) in self.endpoint.headers.iter().chain(header) {
            request = request.header(name, value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| Failure::Final(error.to_string()))
    }
}

/// What shows the token in this file.
pub(super) async fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let wrong = |cause: &str| format!("cannot use the token in {}: {cause}", path.display());
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| wrong(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong("the file is empty"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| wrong("it has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What an answer of OTLP says about spans that were not taken; one that is none says nothing.
fn rejected(message: &[u8]) -> Rejected {
    let response = ExportResponse::decode(message).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    Rejected {
        spans: partial.rejected_spans.try_into().unwrap_or_default(),
        reason: partial.error_message.chars().take(200).collect(),
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

/// OTLP/HTTP's rule: 429, 502, 503 and 504 may be tried again, and `Retry-After` says when. A Zipkin
/// server says 500 when its storage is away.
fn http_outcome(status: StatusCode, head: &HeaderMap, text: &[u8]) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
    let reason = format!("{status}: {}", text.trim());
    match status.as_u16() {
        429 | 500 | 502 | 503 | 504 => Err(Failure::Passing {
            reason,
            after: head.get(RETRY_AFTER).and_then(retry_after),
        }),
        _ => Err(Failure::Final(reason)),
    }
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
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
        return http_outcome(status, head, b"no gRPC answer");
    }
    let details = find("grpc-status-details-bin");
    let passing = |reason| Failure::Passing {
        reason,
        after: details.and_then(retry_delay),
    };
    let reason = format!("gRPC status {code}: {}", text(find("grpc-message")));
    match code.as_str() {
        "0" => Ok(()),
        // cancelled, deadline exceeded, aborted, out of range, unavailable, data loss
        "1" | "4" | "10" | "11" | "14" | "15" => Err(passing(reason)),
        "8" if details.is_some() => Err(passing(reason)),
        _ => Err(Failure::Final(reason)),
    }
}

/// The delay of the `google.rpc.RetryInfo` in a status, if it has one.
fn retry_delay(details: &HeaderValue) -> Option<Duration> {
    let text = details.as_bytes();
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"="));
    let bytes = STANDARD_NO_PAD.decode(unpadded.unwrap_or(text)).ok()?;
    let status = RpcStatus::decode(&*bytes).ok()?;
    let mut details = status.details.iter();
    let info = details.find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    delay.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::reply::{Code, retry_status};

    #[test]
    fn what_was_rejected_is_read() {
        assert_eq!(rejected(b""), Rejected::default());
        assert_eq!(rejected(b"no protobuf"), Rejected::default());
        let some = Rejected {
            spans: 3,
            reason: "no".to_owned(),
        };
        assert_eq!(rejected(b"\x0a\x06\x08\x03\x12\x02no"), some);
    }

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
            let outcome = http_outcome(status, &HeaderMap::new(), b"why");
            assert_eq!(matches!(outcome, Err(Failure::Passing { .. })), passing);
        }
        let accepted = http_outcome(StatusCode::ACCEPTED, &HeaderMap::new(), b"");
        assert_eq!(accepted, Ok(()));
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
                matches!(outcome, Err(Failure::Passing { .. })),
                passing,
                "{trailers:?}"
            );
        }
        let taken = with(&[("grpc-status", "0")]);
        assert_eq!(grpc_outcome(StatusCode::OK, &none, &taken), Ok(()));
    }

    #[test]
    fn an_endpoint_may_say_when_to_come_again() {
        let after = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = after(&date).unwrap().as_secs();
        assert!((98..=100).contains(&wait), "{wait}");

        let status = retry_status(Code::Unavailable, "busy", 7);
        for text in [
            base64::prelude::BASE64_STANDARD.encode(&status),
            STANDARD_NO_PAD.encode(&status),
        ] {
            let value = HeaderValue::from_str(&text).unwrap();
            assert_eq!(retry_delay(&value), Some(Duration::from_secs(7)), "{text}");
        }
        for text in ["CAg", "", "%"] {
            assert_eq!(retry_delay(&HeaderValue::from_static(text)), None, "{text}");
        }
    }
}
