//! As much HTTP/1.1 as the tests need.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A request, as a server sees it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// GETs a URL by way of `proxy`, on a connection of its own.
pub(crate) async fn get(
    proxy: SocketAddr,
    url: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let host = url.strip_prefix("http://").unwrap_or(url);
    let host = host.split('/').next().unwrap_or(host);
    let mut head = format!("GET {url} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all((head + "\r\n").as_bytes()).await?;
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)
        .await?
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {first}")))?;
    let body = read_body(&mut reader, &headers).await?;
    Ok(Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Serves requests for ever: `answer` gives status and body.
pub(crate) fn serve(
    listener: TcpListener,
    answer: impl Fn(Request) -> (u16, String) + Clone + Send + 'static,
) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                // The other side may go at any time.
                let _ = serve_connection(stream, answer).await;
            });
        }
    });
}

async fn serve_connection(
    stream: TcpStream,
    answer: impl Fn(Request) -> (u16, String),
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some((first, headers)) = read_head(&mut reader).await? {
        let body = read_body(&mut reader, &headers).await?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, text) = answer(Request {
            path,
            headers,
            body,
        });
        let length = text.len();
        let reply = format!("HTTP/1.1 {status} Done\r\ncontent-length: {length}\r\n\r\n{text}");
        reader.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

type Head = (String, Vec<(String, String)>);

async fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Head>> {
    let mut first = String::new();
    if reader.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some((first.trim_end().to_owned(), headers)));
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

async fn read_body(
    reader: &mut BufReader<TcpStream>,
    headers: &[(String, String)],
) -> io::Result<Vec<u8>> {
    let find = |name| {
        headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let mut body = Vec::new();
    if find("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).await?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length = find("content-length").and_then(|length| length.parse().ok());
    body.resize(length.unwrap_or(0), 0);
    reader.read_exact(&mut body).await?;
    Ok(body)
}
