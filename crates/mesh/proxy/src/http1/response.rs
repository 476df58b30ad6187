//! Response heads: parsed by `httparse`, then checked as strictly as requests.

use httparse::{Error, Status};

use crate::http1::edit::{HOP_BY_HOP, copy_lines};
use crate::http1::framing::{self, Framing};
use crate::http1::head::{Fields, Limits, Refused, Slice, list, raw_fields};
use crate::http1::name::Name;

/// A checked response head. Its slices refer to the bytes that it was parsed from.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    /// 100 to 999.
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) reason: Slice,
    /// The `1` of `HTTP/1.1`.
    pub(crate) minor_version: u8,
    /// The field lines.
    pub(crate) fields: Fields,
    /// How the body is framed; nothing for interim responses.
    pub(crate) framing: Framing,
    /// Whether the endpoint is willing to take another request on this connection.
    pub(crate) keep_alive: bool,
    /// `Connection` nominates fields that are not among those always removed.
    pub(crate) nominates: bool,
}

/// How many interim responses there were before a response, by what they may take while a client does not read.
#[derive(Debug, Default)]
pub(crate) struct Interims(usize);

impl Interims {
    /// Many hours of one a minute, and no memory without end for those of an endpoint that sends nothing else.
    const MOST: usize = 256 * 1024;
    /// What each takes besides its bytes.
    const EACH: usize = 256;

    /// One more, of so many bytes.
    pub(crate) fn add(&mut self, length: usize) -> Result<(), &'static str> {
        self.0 += length + Self::EACH;
        match self.0 {
            ..=Self::MOST => Ok(()),
            _ => Err("too many interim responses"),
        }
    }
}

impl ResponseHead {
    /// Parses and checks the head at the beginning of `bytes`: its length, or `None` if more bytes
    /// are needed. `to_head` says that the request was a HEAD.
    pub(crate) fn parse(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        to_head: bool,
    ) -> Result<Option<usize>, Refused> {
        const LIMIT: Refused = Refused::new(502, "the response head is over the limit");
        let most_fields = limits.fields.min(crate::http1::head::MOST_FIELDS);
        let mut raw = raw_fields();
        let mut parsed = httparse::Response::new(&mut []);
        let length = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut raw[..most_fields],
        ) {
            Ok(Status::Complete(length)) if length <= limits.bytes => length,
            Ok(Status::Partial) if bytes.len() < limits.bytes => return Ok(None),
            Ok(_) | Err(Error::TooManyHeaders) => return Err(LIMIT),
            Err(_) => return Err(Refused::new(502, "the response head is malformed")),
        };
        let head = &bytes[..length];
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Refused::new(502, "the status line is incomplete"));
        };
        if !head.starts_with(b"HTTP/1.") {
            return Err(Refused::new(502, "empty lines before the status line"));
        }
        if status < 100 {
            return Err(Refused::new(502, "the status is below 100"));
        }
        self.status = status;
        self.minor_version = minor;
        self.reason = match parsed.reason {
            Some(reason) if !reason.is_empty() => Slice::of(head, reason.as_bytes()),
            _ => Slice::EMPTY,
        };
        self.fields.fill(head, parsed.headers)?;
        self.check_connection(head);
        self.framing = if self.is_interim() {
            Framing::None
        } else {
            framing::of_response(head, &self.fields, minor, status, to_head)?
        };
        Ok(Some(length))
    }

    /// Whether a final response follows (RFC 9110 §15.2). After 101 none does.
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Copies the head of an interim response, without what concerns one connection only.
    pub(crate) fn copy_interim(&self, head: &[u8], out: &mut Vec<u8>) {
        copy_lines(out, head, &self.fields, 0, HOP_BY_HOP, self.nominates);
        out.extend_from_slice(b"\r\n");
    }

    fn check_connection(&mut self, head: &[u8]) {
        self.keep_alive = self.minor_version == 1;
        self.nominates = false;
        if !self.fields.has(Name::Connection) {
            return;
        }
        let mut close = false;
        for option in self.fields.all(Name::Connection, head).flat_map(list) {
            if option.eq_ignore_ascii_case(b"close") {
                close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                self.nominates |= !Name::of(option).is_hop_by_hop();
            }
        }
        self.keep_alive &= !close;
    }
}
