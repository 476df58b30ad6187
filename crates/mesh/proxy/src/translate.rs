//! Heads and trailers of HTTP/2 in the text of HTTP/1.1 and back: what a message goes through on a bridge between
//! the two (RFC 9113 §8.2, §8.3).

use bytes::Bytes;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Request, Response, StatusCode};

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

/// The head of a response in the text of HTTP/1.1, up to and with the empty line.
pub fn response_to_text(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    head::append_response(status, headers, &mut text);
    text
}

/// The response whose text this is. An error says what of it HTTP/2 cannot say.
pub fn response_from_text(text: &[u8]) -> Result<Response<()>, &'static str> {
    let text = Bytes::copy_from_slice(text);
    head::response(&text).map_err(|Malformed(problem)| problem)
}

/// The lines of a trailer section.
pub fn trailers_to_text(trailers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    head::append_fields(trailers, &mut lines);
    lines
}

/// The trailers whose lines these are, without those that a trailer must not change (RFC 9110 §6.5.1). An error
/// says what of them HTTP/2 cannot say.
pub fn trailers_from_text(lines: &[u8]) -> Result<HeaderMap, &'static str> {
    let lines = Bytes::copy_from_slice(lines);
    head::trailers(&lines).map_err(|Malformed(problem)| problem)
}

/// Whether trailers may go on from HTTP/2 to HTTP/2 as they have come.
pub fn are_fit_trailers(trailers: &HeaderMap) -> bool {
    head::are_fit_trailers(trailers)
}
