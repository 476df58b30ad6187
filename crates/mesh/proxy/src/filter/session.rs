//! Sessions: the client brings back where its first request went, in a cookie or a header.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use crate::call::Call;
use crate::edit;
use crate::exchange::Exchange;
use crate::http1::edit::append_field;
use crate::snapshot::{Session, SessionBy, Wanted};

/// The session of a request.
#[derive(Debug)]
pub(crate) struct Bound {
    of: Arc<Session>,
    /// The endpoint that its client has named.
    pub(crate) wanted: Option<Wanted>,
}

/// What a cookie says, as Envoy has it. It says until when it holds too, by a clock that nobody else has:
/// clients forget it by then anyway.
#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(string, tag = "1")]
    address: String,
}

impl Call {
    /// Notes the session of a request, if it has one.
    #[cold]
    pub(super) fn bind(&self, exchange: &mut Exchange, session: &Arc<Session>) {
        let head = self.buffer.head();
        if !session.is_for(self.request.target.path.get(head)) {
            return;
        }
        let named = match &session.by {
            SessionBy::Nothing => None,
            SessionBy::Cookie(cookie) => self.cookie(&cookie.name).and_then(of_cookie),
            SessionBy::Header(name) => {
                let value = self.request.fields.all_by_text(name, head).next();
                value.and_then(of_header)
            }
        };
        exchange.rare().session = Some(Box::new(Bound {
            wanted: named.map(|address| Wanted {
                address: address.parse().ok(),
                is_strict: session.is_strict,
            }),
            of: session.clone(),
        }));
    }
}

impl Bound {
    /// Tells the client which endpoint it was, unless it knows; the lines of the response begin there.
    pub(crate) fn append(&self, endpoint: SocketAddr, out: &mut Vec<u8>, from: usize) {
        let known = self.wanted.and_then(|wanted| wanted.address);
        if known == Some(endpoint) {
            return;
        }
        let address = endpoint.to_string();
        match &self.of.by {
            SessionBy::Nothing => {}
            SessionBy::Cookie(cookie) => {
                let value = STANDARD.encode(Said { address }.encode_to_vec());
                let mut line = String::new();
                cookie.append_line(&value, &mut line);
                out.extend_from_slice(line.as_bytes());
            }
            SessionBy::Header(name) => {
                edit::remove(out, from, name);
                append_field(out, name, STANDARD.encode(address).as_bytes());
            }
        }
    }
}

fn of_header(value: &[u8]) -> Option<String> {
    let address = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    Some(address).filter(|address| !address.is_empty())
}

fn of_cookie(value: &[u8]) -> Option<String> {
    let decoded = STANDARD.decode(value).ok()?;
    match Said::decode(&*decoded) {
        Ok(said) => Some(said.address).filter(|address| !address.is_empty()),
        // As Envoys before 1.25 wrote it.
        Err(_) => of_header(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_of_envoys_old_and_new() {
        for (bytes, expected) in [
            (&b"\n\x0e127.0.0.1:8080"[..], Some("127.0.0.1:8080")),
            // With the time until which it holds.
            (
                b"\n\x0e127.0.0.1:8080\x10\x80\xdf\x80\xa6\x06",
                Some("127.0.0.1:8080"),
            ),
            (b"127.0.0.1:8080", Some("127.0.0.1:8080")),
            (b"\n\x00", None),
            (b"", None),
            (b"\xff\xff", None),
        ] {
            let cookie = STANDARD.encode(bytes);
            assert_eq!(
                of_cookie(cookie.as_bytes()).as_deref(),
                expected,
                "{bytes:?}"
            );
        }
        assert_eq!(of_cookie(b"no base64!"), None);
    }
}
