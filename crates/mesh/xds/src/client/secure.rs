//! Connections that somebody else makes: over TLS, to a control plane that asks who its clients are.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tower_service::Service;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes connections to the control plane.
pub trait Dial: Send + Sync + 'static {
    /// A connection whose other side is known to be the control plane.
    fn dial(&self) -> Dialled;

    /// What is shown as `authorization: Bearer TOKEN`, if anything is.
    fn token(&self) -> Option<String>;
}

/// Who makes connections. Clones share it.
#[derive(Clone)]
pub struct Secure(pub Arc<dyn Dial>);

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secure")
    }
}

pub(super) struct Connector(pub(super) Secure);

impl Service<http::Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dialled = self.0.0.dial();
        Box::pin(async { Ok(TokioIo::new(dialled.await?)) })
    }
}

/// Shows the token.
#[derive(Clone)]
pub(super) struct Bearer(pub(super) Option<Secure>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.as_ref().and_then(|secure| secure.0.token());
        if let Some(token) = token {
            let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
            let mut value = value
                .map_err(|_| Status::unauthenticated("the token is none that a header may have"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}
