//! The smallest HTTP/1.1 client and server that can say and hear anything.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// A message as it was on the wire, its names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// The trailer section, line by line.
    pub(crate) trailers: Vec<String>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        self.line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    }

    /// A whole response.
    pub(crate) fn parse(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
        let mut message = Self::parse_head(head);
        message.body = match message.header("transfer-encoding") {
            Some(_) => dechunk(body),
            None => body.to_owned(),
        };
        message
    }

    fn parse_head(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self {
            line,
            headers: headers.collect(),
            ..Self::default()
        }
    }
}

/// Sends the text and reads until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
    // What arrived before a reset counts.
    if let Err(error) = read
        && answer.is_empty()
    {
        return Err(error);
    }
    Ok(Message::parse(&String::from_utf8_lossy(&answer)))
}

/// A plain GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<Message> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    exchange(address, &request).await
}

fn dechunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    text
}

/// A server that records what it receives and answers as the path says.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Origin {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let received = Arc::<Mutex<Vec<Message>>>::default();
        let records = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(name, stream, records.clone()));
            }
        });
        Self { address, received }
    }

    /// What came in since the last time.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn converse(name: &str, mut stream: TcpStream, records: Arc<Mutex<Vec<Message>>>) {
    let mut input = Vec::new();
    while let Some(request) = receive(&mut stream, &mut input).await {
        let answer = answer(name, &request);
        let is_head = request.line.starts_with("HEAD ");
        let path = request
            .line
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        if path.starts_with("/slow") {
            tokio::time::sleep(PATIENCE).await;
        }
        let Some(mut answer) = answer else {
            return;
        };
        if is_head {
            let end = answer.find("\r\n\r\n").map_or(answer.len(), |at| at + 4);
            answer.truncate(end);
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if path.starts_with("/cut") {
            return;
        }
    }
}

/// The answer to a path; none means that the connection is closed without one.
fn answer(name: &str, request: &Message) -> Option<String> {
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let body = format!("{name} got {} bytes", request.body.len());
    let length = body.len();
    let plain =
        |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    Some(match path {
        "/reset" => return None,
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".to_owned(),
        "/chunked" => format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        ),
        "/status/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/status/304" => "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n".to_owned(),
        "/status/404" => plain("404 Not Found"),
        "/status/500" => plain("500 Internal Server Error"),
        "/status/503" => plain("503 Service Unavailable"),
        "/garbage" => "this is not HTTP\r\n\r\n".to_owned(),
        "/headers" => format!(
            "HTTP/1.1 200 OK\r\nserver: origin\r\nx-custom: a\r\nx-custom: b\r\nconnection: x-hop\r\n\
             x-hop: 1\r\nkeep-alive: timeout=5\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
        "/not-found-by-grpc" => {
            format!("HTTP/1.1 200 OK\r\ngrpc-status: 5\r\ncontent-length: {length}\r\n\r\n{body}")
        }
        "/operation" => format!(
            "HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: from-upstream\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
        _ => plain("200 OK"),
    })
}

/// The next request of a connection.
async fn receive(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Message> {
    let head_end = fill_until(stream, input, |input| {
        input
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .map(|at| at + 4)
    })
    .await?;
    let head: Vec<u8> = input.drain(..head_end).collect();
    let mut message = Message::parse_head(String::from_utf8_lossy(&head).trim_end());
    if let Some(length) = message
        .header("content-length")
        .and_then(|text| text.parse().ok())
    {
        fill_until(stream, input, |input| {
            (input.len() >= length).then_some(length)
        })
        .await?;
        let body: Vec<u8> = input.drain(..length).collect();
        message.body = String::from_utf8_lossy(&body).into_owned();
    } else if message.header("transfer-encoding").is_some() {
        let end = fill_until(stream, input, end_of_chunks).await?;
        let body: Vec<u8> = input.drain(..end).collect();
        let body = String::from_utf8_lossy(&body);
        message.body = dechunk(&body);
        let lines = body
            .lines()
            .rev()
            .skip(1)
            .take_while(|line| line.contains(':'));
        message.trailers = lines.map(str::to_owned).collect();
    }
    Some(message)
}

/// Where a chunked body ends, trailers included.
fn end_of_chunks(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_end = at + input[at..].windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&input[at..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        at = line_end + 2;
        if size == 0 {
            break;
        }
        at += size + 2;
        if at > input.len() {
            return None;
        }
    }
    loop {
        let line_end = at + input[at..].windows(2).position(|w| w == b"\r\n")?;
        if line_end == at {
            return Some(at + 2);
        }
        at = line_end + 2;
    }
}

async fn fill_until<T>(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(value) = found(input) {
            return Some(value);
        }
        match timeout(Duration::from_secs(60), stream.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => input.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}
