//! The client and the origin of the cases over HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, Uri};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::xds_support::PATIENCE;
use crate::xds_support::http::Message;

/// Sends a request, given as the text that it would be in HTTP/1.1, and reads the response.
pub(crate) async fn exchange(address: SocketAddr, text: &str) -> std::io::Result<Message> {
    let stream = TcpStream::connect(address).await?;
    let (mut send, connection) = h2::client::handshake(stream)
        .await
        .map_err(std::io::Error::other)?;
    let driver = tokio::spawn(connection);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let answer = timeout(PATIENCE, async {
        let (response, mut request) = send.send_request(request(head), body.is_empty())?;
        if !body.is_empty() {
            request.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut message = Message {
            line: format!("HTTP/2 {}", head.status.as_u16()),
            headers: fields(&head.headers),
            ..Message::default()
        };
        if let Err(error) = read(&mut body, &mut message).await {
            message.trailers.push(format!("then {}", end(&error)));
        }
        Ok::<_, h2::Error>(message)
    })
    .await?;
    driver.abort();
    answer.or_else(|error| {
        Ok(Message {
            line: end(&error),
            ..Message::default()
        })
    })
}

/// How a stream ended that did not come to its end.
fn end(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_reset() => format!("reset {reason:?}"),
        _ => "closed".to_owned(),
    }
}

fn request(head: &str) -> Request<()> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next(), first.next());
    let mut request = Request::builder()
        .method(method.expect("a method"))
        .version(http::Version::HTTP_2);
    let mut authority = "test";
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "host" => authority = value,
            "connection" => {}
            _ => request = request.header(name, value),
        }
    }
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path.expect("a path"))
        .build();
    request
        .uri(uri.expect("a URI"))
        .body(())
        .expect("a request")
}

fn fields(fields: &HeaderMap) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.into_owned())
        })
        .collect()
}

async fn read(body: &mut RecvStream, message: &mut Message) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        message.body.push_str(&String::from_utf8_lossy(&data));
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    let lines = fields(&trailers);
    message
        .trailers
        .extend(lines.iter().map(|(name, value)| format!("{name}: {value}")));
    Ok(())
}

/// A server that records what it receives and answers as the path says.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let origin = Self {
            address,
            received: Arc::default(),
        };
        let this = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(this.clone().serve(request, respond));
                    }
                });
            }
        });
        origin
    }

    /// What came in since the last time.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let mut message = Message {
            line: format!("{} {} HTTP/2", head.method, head.uri),
            headers: fields(&head.headers),
            ..Message::default()
        };
        if read(&mut body, &mut message).await.is_err() {
            return;
        }
        let said = format!("h2 got {} bytes", message.body.len());
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        // A proxy that has gone meanwhile is part of some cases.
        let is_head = head.method == http::Method::HEAD;
        let _ = answer(&path, is_head, &said, &mut respond).await;
    }
}

async fn answer(
    path: &str,
    is_head: bool,
    said: &str,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let said = Bytes::copy_from_slice(said.as_bytes());
    let mut response = Response::new(());
    let last = path.rsplit('/').next().unwrap_or_default();
    if path.contains("/grpc") && last != "slow" {
        let fields = response.headers_mut();
        fields.insert("content-type", "application/grpc".parse().expect("a value"));
        let mut outcome = HeaderMap::new();
        outcome.insert("grpc-status", last.parse().expect("a value"));
        outcome.insert("grpc-message", "told%20so".parse().expect("a value"));
        if path.contains("/only/") {
            fields.extend(outcome);
            respond.send_response(response, true)?;
            return Ok(());
        }
        let mut send = respond.send_response(response, false)?;
        send.send_data(said, false)?;
        return send.send_trailers(outcome);
    }
    if let Some(status) = path.strip_prefix("/h2/status/") {
        *response.status_mut() = status.parse().expect("a status");
    }
    match last {
        "slow" => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
        }
        "reset" => respond.send_reset(Reason::INTERNAL_ERROR),
        "refuse" => respond.send_reset(Reason::REFUSED_STREAM),
        "empty" | "204" | "304" => {
            respond.send_response(response, true)?;
        }
        "trailers" => {
            let mut send = respond.send_response(response, false)?;
            send.send_data(said, false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", "yes".parse().expect("a value"));
            send.send_trailers(trailers)?;
        }
        "cut" => {
            let mut send = respond.send_response(response, false)?;
            send.send_data(said, false)?;
            // The head must have gone before.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            send.send_reset(Reason::INTERNAL_ERROR);
        }
        "length" => {
            let length = said.len().into();
            response.headers_mut().insert("content-length", length);
            let mut send = respond.send_response(response, is_head)?;
            if !is_head {
                send.send_data(said, true)?;
            }
        }
        _ => respond
            .send_response(response, false)?
            .send_data(said, true)?,
    }
    Ok(())
}
