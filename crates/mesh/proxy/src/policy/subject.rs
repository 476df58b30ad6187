//! Who asks for what.

use std::net::{IpAddr, SocketAddr};

use crate::http1::head::list;
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::policy::Metadata;
use crate::snapshot::ConnectionManager;
use crate::tls::Secured;

/// A request or a connection: everything that a policy may ask about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The request and its head; none for a connection.
    pub(crate) request: Option<(&'a RequestHead, &'a [u8])>,
    /// How the client has sent the request: `http` or `https`.
    pub(crate) scheme: &'a str,
    /// Where the connection comes from, as whoever speaks for the client says.
    pub(crate) peer: IpAddr,
    /// Where it really comes from.
    pub(crate) direct: IpAddr,
    /// The client, which may be another one.
    pub(crate) client: IpAddr,
    /// Where the client has connected to.
    pub(crate) destination: Option<SocketAddr>,
    /// What TLS has shown; none on a plaintext connection.
    pub(crate) secured: Option<&'a Secured>,
    /// The name that the client has asked for (RFC 6066 §3).
    pub(crate) server_name: Option<&'a str>,
    /// What filters before have found out.
    pub(crate) metadata: &'a Metadata,
}

/// The same with what is found out once for all conditions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) method: Option<&'a [u8]>,
    /// The path without query and fragment.
    pub(crate) path: Option<&'a [u8]>,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(subject: &'a Subject<'a>) -> Self {
        Self {
            subject,
            method: subject.request.map(|(request, head)| request.method(head)),
            path: subject.path(),
        }
    }
}

impl<'a> Subject<'a> {
    fn path(&self) -> Option<&'a [u8]> {
        let (request, head) = self.request?;
        let path = request.target.path.get(head);
        Some(memchr::memchr2(b'?', b'#', path).map_or(path, |end| &path[..end]))
    }
}

/// The address of the client: that of the peer at an edge, else the last one that
/// `x-forwarded-for` names.
pub(crate) fn client_address(
    manager: &ConnectionManager,
    request: &RequestHead,
    head: &[u8],
    peer: IpAddr,
) -> IpAddr {
    if manager.use_remote_address || !request.fields.has(Name::XForwardedFor) {
        return peer;
    }
    let last = request.fields.all(Name::XForwardedFor, head).last();
    let last = last.and_then(|value| list(value).last());
    let text = last.and_then(|last| std::str::from_utf8(last).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(peer)
}
