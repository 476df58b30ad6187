//! Requests to other services.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::environment::{Environment, SetupError, unusable};

/// The most of an answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;
/// How long an idle connection is kept; shorter than the idle limits of common servers.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An HTTP client, like any application has one: it keeps connections alive and heeds
/// `http_proxy`.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    client: Client<Route, Empty<Bytes>>,
}

/// What another service said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why another service said nothing.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("{url:?} is no address")]
    Address { url: String },
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("cannot reach it: {0}")]
    Transport(Cause),
    #[error("the answer broke off: {0}")]
    Body(Cause),
}

/// An error and its causes on one line.
#[derive(Debug)]
pub(crate) struct Cause(Box<dyn std::error::Error + Send + Sync>);

impl Caller {
    pub(crate) fn from(environment: &Environment) -> Result<Self, SetupError> {
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_ALIVE);
        Ok(Self {
            client: client.build(Route::from(environment)?),
        })
    }

    /// `GET url`, answered in full within `limit`.
    pub(crate) async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let uri: Uri = url.parse().map_err(|_| CallError::Address {
            url: url.to_owned(),
        })?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .entry(http::header::ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| CallError::Transport(Cause(error.into())))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|error| CallError::Body(Cause(error)))?
                .to_bytes();
            Ok(Answer { status, body })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout(limit)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Where connections go: to the host itself, or to a proxy that is told the host.
#[derive(Clone, Debug)]
struct Route {
    direct: HttpConnector,
    proxy: Option<Uri>,
    /// Hosts that are called directly all the same: `no_proxy`.
    exempt: Vec<String>,
}

impl Route {
    fn from(environment: &Environment) -> Result<Self, SetupError> {
        let mut direct = HttpConnector::new();
        direct.set_nodelay(true);
        let proxy = match environment.text("http_proxy") {
            Some(text) => Some(proxy_address(text).ok_or_else(|| {
                unusable("http_proxy", text, "an address like http://127.0.0.1:15001")
            })?),
            None => None,
        };
        let exempt = environment
            .text("no_proxy")
            .unwrap_or_default()
            .split(',')
            .map(|host| host.trim().trim_start_matches('.').to_ascii_lowercase())
            .filter(|host| !host.is_empty())
            .collect();
        Ok(Self {
            direct,
            proxy,
            exempt,
        })
    }

    fn proxy_for(&self, host: &str) -> Option<&Uri> {
        let host = host.to_ascii_lowercase();
        let exempt = self.exempt.iter().any(|entry| {
            entry == "*"
                || host == *entry
                || host
                    .strip_suffix(entry.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        });
        if exempt { None } else { self.proxy.as_ref() }
    }
}

fn proxy_address(text: &str) -> Option<Uri> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = text.parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.authority().is_some()).then_some(uri)
}

type Connecting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Connecting<Result<Stream, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.direct.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let proxy = self.proxy_for(target.host().unwrap_or_default()).cloned();
        let proxied = proxy.is_some();
        let connecting = self.direct.call(proxy.unwrap_or(target));
        Box::pin(async move {
            Ok(Stream {
                inner: connecting.await?,
                proxied,
            })
        })
    }
}

/// A connection that knows whether a proxy is at its other end, for then requests take the
/// absolute form (RFC 9112 §3.2.2).
#[derive(Debug)]
struct Stream {
    inner: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(variables: &[(&str, &str)]) -> Result<Route, SetupError> {
        Route::from(&variables.iter().copied().collect())
    }

    #[test]
    fn which_proxy() {
        let route = route(&[
            ("http_proxy", "http://127.0.0.1:15001"),
            ("no_proxy", "localhost, .internal,10.0.0.1"),
        ])
        .unwrap();
        for (host, proxied) in [
            ("reviews", true),
            ("localhost", false),
            ("Localhost", false),
            ("notlocalhost", true),
            ("db.internal", false),
            ("dbinternal", true),
            ("10.0.0.1", false),
        ] {
            assert_eq!(route.proxy_for(host).is_some(), proxied, "{host}");
        }
    }

    #[test]
    fn unusable_proxies_are_refused() {
        for proxy in ["socks5://127.0.0.1:1", "http://", "a b"] {
            assert!(route(&[("http_proxy", proxy)]).is_err(), "{proxy}");
        }
        assert!(route(&[("http_proxy", "127.0.0.1:3128")]).is_ok());
    }
}
