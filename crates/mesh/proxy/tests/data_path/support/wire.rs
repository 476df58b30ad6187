//! A client that writes and reads raw bytes, so that nothing between it and the proxy is too polite.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::DEADLINE;

/// A response as it came over the wire, its body without framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Response {
    /// The value of a header; several are joined with `, `.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The value of a header of a head.
pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    let values: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// A connection to the proxy.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) unread: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends bytes; the proxy may have closed already.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub(crate) fn shutdown(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Sends a request and reads its response.
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(&request);
        let to_head = request.as_ref().starts_with(b"HEAD ");
        self.response(to_head).expect("a response")
    }

    /// `GET path` with a host.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: h.example\r\n\r\n"))
    }

    /// Reads a head: none if the connection ends first.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8(head).expect("a head is text"));
            }
            self.more()?;
        }
    }

    /// Reads a response, interim ones excluded; none if it does not come complete.
    pub(crate) fn response(&mut self, to_head: bool) -> Option<Response> {
        let head = loop {
            let head = self.head()?;
            if !head.starts_with("HTTP/1.1 10") || head.starts_with("HTTP/1.1 101") {
                break head;
            }
        };
        let status = head[9..12].parse().expect("a status");
        let mut response = Response {
            status,
            head,
            ..Response::default()
        };
        if to_head || matches!(status, 101 | 204 | 304) {
            return Some(response);
        }
        if response.header("transfer-encoding").is_some() {
            self.chunks(&mut response)?;
        } else if let Some(length) = response.header("content-length") {
            response.body = self.exactly(length.parse().expect("a length"))?;
        } else {
            while self.more().is_some() {}
            response.body = std::mem::take(&mut self.unread);
        }
        Some(response)
    }

    fn chunks(&mut self, response: &mut Response) -> Option<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            response.body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(());
            }
            response.trailers.push_str(&line);
            response.trailers.push('\n');
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line = self.exactly(end)?;
                self.exactly(2)?;
                return Some(String::from_utf8(line).expect("a line is text"));
            }
            self.more()?;
        }
    }

    pub(crate) fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.unread.len() < n {
            self.more()?;
        }
        let rest = self.unread.split_off(n);
        Some(std::mem::replace(&mut self.unread, rest))
    }

    /// Reads what comes next: none at the end of the stream, however it came.
    pub(crate) fn more(&mut self) -> Option<()> {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(0) => None,
            Ok(n) => {
                self.unread.extend_from_slice(&block[..n]);
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the proxy neither answers nor closes: {error}"),
        }
    }

    /// Reads to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more().is_some() {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the proxy has closed, all it sent having been read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
