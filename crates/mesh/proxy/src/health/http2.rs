//! Requests of HTTP/2 for checks.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::health::check::Found;
use crate::health::probe::Probe;
use crate::snapshot::HttpCheck;

/// How much of a response's body is read at most.
const MOST_BODY: usize = 64 * 1024;

pub(super) async fn check(mut probe: Probe<'_>, rules: &HttpCheck) -> io::Result<Found> {
    let (scheme, host) = (probe.scheme(), probe.host(&rules.host));
    let target = format!("{scheme}://{host}{}", rules.path);
    let request = http::Request::builder().method(rules.method).uri(target);
    let request = with_headers(request, &rules.headers).body(());
    let answer = probe.exchange(request, Bytes::new(), false).await?;
    let says = |name: &str| answer.headers.contains_key(name);
    let seen = answer.body.len().min(rules.response_buffer_size);
    Ok(rules.judge(answer.status.as_u16(), &answer.body[..seen], says))
}

/// A whole response.
pub(super) struct Answer {
    pub(super) status: http::StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<http::HeaderMap>,
}

pub(super) fn with_headers(
    mut builder: http::request::Builder,
    headers: &[(String, String)],
) -> http::request::Builder {
    builder = builder.header("user-agent", "Envoy/HC");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder
}

impl Probe<'_> {
    /// Sends a request and waits for all of its response.
    pub(super) async fn exchange(
        &mut self,
        request: Result<http::Request<()>, http::Error>,
        body: Bytes,
        has_body: bool,
    ) -> io::Result<Answer> {
        let request = request.map_err(io::Error::other)?;
        let mut send = self.ready().await?;
        let (response, mut stream) = send
            .send_request(request, !has_body)
            .map_err(io::Error::other)?;
        if has_body {
            stream.send_data(body, true).map_err(io::Error::other)?;
        }
        let (head, mut body) = response.await.map_err(io::Error::other)?.into_parts();
        let mut answer = Answer {
            status: head.status,
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
        };
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            if answer.body.len() + data.len() > MOST_BODY {
                return Err(io::Error::other("the body is too long"));
            }
            answer.body.extend_from_slice(&data);
            // Fails only if more is released than has arrived.
            let _ = body.flow_control().release_capacity(data.len());
        }
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await;
        answer.trailers = trailers.map_err(io::Error::other)?;
        if self.check.reuses_connection {
            self.kept.http2 = Some(send);
        }
        Ok(answer)
    }

    /// The connection that was kept, if it still stands, or a new one.
    async fn ready(&mut self) -> io::Result<SendRequest<Bytes>> {
        if let Some(kept) = self.kept.http2.take()
            && let Ok(ready) = kept.ready().await
        {
            return Ok(ready);
        }
        let stream = self.connect(b"h2").await?;
        let handshake = h2::client::handshake(stream).await;
        let (send, connection) = handshake.map_err(io::Error::other)?;
        // It ends with its last user.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        send.ready().await.map_err(io::Error::other)
    }
}
