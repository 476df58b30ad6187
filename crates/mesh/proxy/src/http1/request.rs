//! Request heads: parsed by `httparse`, then checked more strictly than it does (RFC 9112 §2–§6).

use httparse::{Error, Status};

use crate::http1::framing::{self, Framing};
use crate::http1::head::{Fields, Limits, Refused, Slice, list, raw_fields};
use crate::http1::name::Name;
use crate::http1::target::{self, Target};

/// A checked request head. Its slices refer to the pinned head of the buffer that it was parsed from.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    /// The method, a token, case-sensitive.
    pub(crate) method: Slice,
    /// Where to; `target.path` is always in origin or asterisk form.
    pub(crate) target: Target,
    /// The `1` of `HTTP/1.1`.
    pub(crate) minor_version: u8,
    /// The field lines.
    pub(crate) fields: Fields,
    /// How the body is framed.
    pub(crate) framing: Framing,
    /// Whether the client is willing to send another request on this connection.
    pub(crate) keep_alive: bool,
    /// `Connection` nominates fields that are not among those always removed.
    pub(crate) nominates: bool,
    /// What the client wants the connection, or the stream, to become.
    pub(crate) tunnel: Tunnel,
    /// The client waits for `100 Continue` before it sends its body.
    pub(crate) expects_continue: bool,
    /// The method is HEAD.
    pub(crate) is_head: bool,
    /// Its scheme is `https`: as a client of HTTP/2 says, else as `x-forwarded-proto` does.
    pub(crate) is_https: bool,
    /// `x-forwarded-proto` is `https`, or says nothing that counts and the client has come by TLS.
    pub(crate) came_by_https: bool,
}

/// What a request asks for in place of an answer. It is the last one on its connection, whatever
/// comes of it: the client may have sent bytes behind it that are no HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// Nothing: most requests.
    #[default]
    None,
    /// Another protocol, but for `h2c` (RFC 9110 §7.8).
    Upgrade,
    /// A tunnel to an authority (RFC 9110 §9.3.6).
    Connect,
}

impl RequestHead {
    /// Parses and checks the head at the beginning of `bytes`.
    ///
    /// Returns its length, or `None` if more bytes are needed. A target in absolute form is
    /// rewritten in place, so `bytes` may change within the head.
    pub(crate) fn parse(
        &mut self,
        bytes: &mut [u8],
        limits: Limits,
    ) -> Result<Option<usize>, Refused> {
        let Some(length) = self.parse_lines(bytes, limits)? else {
            return Ok(None);
        };
        let head = &mut bytes[..length];
        self.check_connection(head)?;
        self.target = target::resolve(
            head,
            self.method,
            self.target.path,
            &self.fields,
            self.minor_version,
        )?;
        self.framing = framing::of_request(head, &self.fields, self.minor_version)?;
        if self.tunnel != Tunnel::None {
            self.check_tunnel()?;
        }
        self.check_expectation(head)?;
        Ok(Some(length))
    }

    /// The method.
    #[inline]
    pub(crate) fn method<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        self.method.get(head)
    }

    /// Whether the method is idempotent (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self, head: &[u8]) -> bool {
        matches!(
            self.method(head),
            b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
        )
    }

    fn parse_lines(&mut self, bytes: &[u8], limits: Limits) -> Result<Option<usize>, Refused> {
        let most_fields = limits.fields.min(crate::http1::head::MOST_FIELDS);
        let mut raw = raw_fields();
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(bytes, &mut raw[..most_fields]) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => {
                return if bytes.len() < limits.bytes {
                    Ok(None)
                } else if memchr::memchr(b'\n', bytes).is_none() {
                    Err(Refused::new(414, "the request line is over the limit"))
                } else {
                    Err(Refused::new(431, "the request head is over the limit"))
                };
            }
            Err(error) => return Err(refusal(error, bytes)),
        };
        if length > limits.bytes {
            return Err(Refused::new(431, "the request head is over the limit"));
        }
        let head = &bytes[..length];
        let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refused::bad("the request line is incomplete"));
        };
        self.method = Slice::of(head, method.as_bytes());
        // One empty line in front is to be ignored (RFC 9112 §2.2); `httparse` ignores any number.
        if !matches!(&head[..self.method.start()], b"" | b"\r\n") {
            return Err(Refused::bad("empty lines before the request line"));
        }
        self.is_head = method == "HEAD";
        self.tunnel = if method == "CONNECT" {
            Tunnel::Connect
        } else {
            Tunnel::None
        };
        self.target = Target::raw(Slice::of(head, path.as_bytes()));
        self.minor_version = minor;
        self.fields.fill(head, parsed.headers)?;
        Ok(Some(length))
    }

    fn check_connection(&mut self, head: &[u8]) -> Result<(), Refused> {
        self.keep_alive = self.minor_version == 1;
        self.nominates = false;
        if !self.fields.has(Name::Connection) {
            return Ok(());
        }
        let mut wants_upgrade = false;
        for option in self.fields.all(Name::Connection, head).flat_map(list) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                // `close` wins over it, in whatever order (RFC 9112 §9.3).
                self.keep_alive |= self.minor_version == 0 && !self.says_close(head);
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                wants_upgrade = true;
            } else {
                self.nominates |= !Name::of(option).is_hop_by_hop();
                if is_never_nominated(option) {
                    return Err(Refused::bad(
                        "connection nominates a field that it must not",
                    ));
                }
            }
        }
        if wants_upgrade && self.minor_version == 1 && self.tunnel == Tunnel::None {
            // RFC 9113 §3.1 took `h2c` out of HTTP; it is ignored, like any upgrade may be.
            let mut protocols = self.fields.all(Name::Upgrade, head).flat_map(list);
            if protocols.any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c")) {
                self.tunnel = Tunnel::Upgrade;
            }
        }
        Ok(())
    }

    #[cold]
    fn check_tunnel(&mut self) -> Result<(), Refused> {
        self.keep_alive = false;
        let has_body = self.framing != Framing::None || self.fields.has(Name::ContentLength);
        if self.tunnel == Tunnel::Connect && has_body {
            return Err(Refused::bad("CONNECT has no body"));
        }
        Ok(())
    }

    fn says_close(&self, head: &[u8]) -> bool {
        self.fields
            .all(Name::Connection, head)
            .flat_map(list)
            .any(|option| option.eq_ignore_ascii_case(b"close"))
    }

    fn check_expectation(&mut self, head: &[u8]) -> Result<(), Refused> {
        self.expects_continue = false;
        let Some(expectation) = self
            .fields
            .single(Name::Expect, head, "two expect fields")?
        else {
            return Ok(());
        };
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refused::new(417, "an expectation other than 100-continue"));
        }
        self.expects_continue = self.minor_version == 1 && self.framing != Framing::None;
        Ok(())
    }
}

/// Fields without which the message would mean something else, and those that tell where it comes from; removing them
/// on request would let a client smuggle, or hide behind the proxy before this one.
fn is_never_nominated(option: &[u8]) -> bool {
    matches!(
        Name::of(option),
        Name::Host
            | Name::ContentLength
            | Name::Expect
            | Name::Trailer
            | Name::XForwardedFor
            | Name::XForwardedProto
    ) || option.eq_ignore_ascii_case(b"x-forwarded-host")
}

fn refusal(error: Error, bytes: &[u8]) -> Refused {
    match error {
        Error::HeaderName => Refused::bad("a field name is not a token, or a line is folded"),
        Error::HeaderValue => Refused::bad("a field value has a control character"),
        Error::NewLine => Refused::bad("a CR without its LF"),
        Error::Token => Refused::bad("the request line is malformed"),
        Error::TooManyHeaders => Refused::new(431, "too many request fields"),
        Error::Version if names_http(bytes) => Refused::new(505, "only HTTP/1.0 and HTTP/1.1"),
        _ => Refused::bad("the request line is malformed"),
    }
}

/// Whether this is a whole request line of some other version of HTTP.
fn names_http(bytes: &[u8]) -> bool {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    let version = match (parts.next(), parts.next()) {
        (Some(version), None) => version,
        _ => return false,
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}
