//! What most exchanges do not have.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Micros;
use crate::edit::Sent;
use crate::filter::Bound;
use crate::policy::Metadata;
use crate::policy::authz::Asked;
use crate::policy::quota::Limited;
use crate::retry::{Retried, Tries};
use crate::snapshot::AppendAction;

/// What most requests do not have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// For the whole of the exchange; zero is no limit.
    pub(crate) stream_timeout: Option<Duration>,
    /// `set-cookie` lines that the route's hash policies add to the response.
    pub(crate) cookies: String,
    /// It asks how the proxy is.
    pub(crate) is_health_check: bool,
    /// The connection manager itself answers, which tells nothing of attempts.
    pub(crate) hides_attempts: bool,
    /// Which of the route's copies are to be sent.
    pub(crate) mirrors: Vec<usize>,
    /// Which of them this is.
    pub(crate) mirror: Option<usize>,
    /// What filters say in the response.
    pub(crate) said: Vec<Said>,
    /// Its session, of which the response tells.
    pub(crate) session: Option<Box<Bound>>,
    /// The protocol that the request asks for may be changed to.
    pub(crate) is_upgrade: bool,
    /// The tunnel ends here: its bytes are all that the endpoint gets.
    pub(crate) is_terminated: bool,
    /// Envoy's word for how it ended, if that is not to be seen from the rest.
    pub(crate) details: Option<Cow<'static, str>>,
    /// The address of the host that it asks for, if that is its endpoint.
    pub(crate) looked_up: Option<SocketAddr>,
    /// What filters have found out.
    pub(crate) metadata: Metadata,
    /// What an authorizer has said.
    pub(crate) asked: Option<Asked>,
    /// What a service that counts has said.
    pub(crate) limited: Option<Limited>,
    /// `www-authenticate`: what the client would have to show.
    pub(crate) challenge: String,
    /// The request as the endpoint gets it, if its route changes heads.
    pub(crate) sent: Option<Box<Sent>>,
    /// The name that the other side gave to the span.
    pub(crate) renamed: Option<Box<[u8]>>,
    /// How long nothing may move, if the route says so; zero is no limit.
    pub(crate) idle: Option<Duration>,
    /// For the response to one attempt.
    pub(crate) per_try: Option<Duration>,
    /// How long nothing may move between the proxy and the endpoint.
    pub(crate) per_try_idle: Option<Duration>,
    /// The most time that an attempt may take, its response included.
    pub(crate) attempt_time: Option<Duration>,
    /// What is known of the attempts before this one,
    pub(crate) tries: Tries,
    /// and what its span tells of them.
    pub(crate) retried: Option<Retried>,
    /// How many requests to this workload were under way, and the newest of them, if nothing else tells why it has
    /// sent this one.
    pub(crate) causes: Option<(usize, String)>,
}

/// A field that a filter puts into the response.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: Vec<u8>,
    /// What becomes of the endpoint's.
    pub(crate) action: AppendAction,
}

impl Said {
    /// One in place of the endpoint's.
    pub(crate) fn new(name: &'static str, value: &[u8]) -> Self {
        Self {
            name: name.into(),
            value: value.to_vec(),
            action: AppendAction::Overwrite,
        }
    }
}

impl Rare {
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// What is kept of an exchange for access logs that tell it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The lines of the response's head, as the client got it, and those of its trailers.
    pub(crate) response: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
    /// This proxy's address on the way to the endpoint.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// When the endpoint had the whole request, and when its response began.
    pub(crate) request_complete: Option<Micros>,
    pub(crate) response_begun: Option<Micros>,
    /// The bytes of the response's head as the endpoint has sent it, and those of its headers.
    pub(crate) upstream_head: [u32; 2],
}

/// That of an exchange of which nothing was kept.
pub(crate) static NOTHING: Told = Told {
    response: Vec::new(),
    trailers: Vec::new(),
    upstream_local: None,
    request_complete: None,
    response_begun: None,
    upstream_head: [0; 2],
};
