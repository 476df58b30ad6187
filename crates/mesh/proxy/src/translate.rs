//! Heads of HTTP/2 in the text of HTTP/1.1 and back: what a request goes through on a bridge between the two
//! (RFC 9113 §8.2, §8.3).

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http::uri::Scheme;

use crate::http2::head::{self, Malformed};

/// The head of a request in the text of HTTP/1.1, up to and with the empty line; `ended` says that no body
/// follows. An error says what is malformed.
pub fn to_text(head: &Parts, ended: bool) -> Result<Vec<u8>, &'static str> {
    let mut text = Vec::new();
    match head::append_request(head, ended, &mut text) {
        Ok(()) => Ok(text),
        Err(Malformed(problem)) => Err(problem),
    }
}

/// The request whose text this is; `host` stands in if it names none. An error says what of it HTTP/2 cannot say.
pub fn from_text(text: &[u8], host: &str) -> Result<Request<()>, &'static str> {
    let text = Bytes::copy_from_slice(text);
    head::request(&text, Scheme::HTTP, host, true).map_err(|Malformed(problem)| problem)
}
