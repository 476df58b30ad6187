//! A small HTTP/1.1 client over one keep-alive connection: it must cost less than what it measures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

/// No answer may take longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    head: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::with_capacity(64 * 1024, stream),
            head: Vec::new(),
        })
    }

    /// The status and the body of the answer.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        self.send("GET", path, "", &[])
    }

    /// Sends OTLP/protobuf.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.post_as(path, "content-type: application/x-protobuf\r\n", body)
    }

    /// Sends a body with these header lines.
    pub(crate) fn post_as(
        &mut self,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        self.send("POST", path, headers, body)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        self.head.clear();
        write!(
            self.head,
            "{method} {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )?;
        let stream = self.stream.get_mut();
        stream.write_all(&self.head)?;
        stream.write_all(body)?;
        self.answer()
            .with_context(|| format!("reading the answer to {method} {path}"))
    }

    fn answer(&mut self) -> anyhow::Result<(u16, Vec<u8>)> {
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.with_context(|| format!("no status in '{status}'"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            match name {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = value.contains("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            self.read(length, &mut body)?;
            return Ok((code, body));
        }
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)?;
            self.read(size, &mut body)?;
            self.line()?;
            if size == 0 {
                return Ok((code, body));
            }
        }
    }

    fn read(&mut self, length: usize, to: &mut Vec<u8>) -> anyhow::Result<()> {
        let taken = (&mut self.stream).take(length as u64).read_to_end(to)?;
        ensure!(taken == length, "the body ends early");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn answers_of_both_framings_follow_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
                      HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\n\r\n\
                      HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
                )
                .unwrap();
            // Until the client is gone, so that it can write.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.get("/1").unwrap(), (200, b"abc".to_vec()));
        assert_eq!(client.get("/2").unwrap(), (200, b"def".to_vec()));
        assert_eq!(client.post("/3", b"body").unwrap(), (429, Vec::new()));
        drop(client);
        server.join().unwrap();
    }
}
