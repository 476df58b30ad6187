//! One attempt at an endpoint, as its span tells it.

use std::rc::Rc;

use periplus_model::propagation::SpanContext;

use periplus_wire::tag;

use crate::clock::Micros;
use crate::flags::{Flag, Flags};
use crate::retry::Retried;
use crate::tls::Secured;
use crate::trace::details::Measured;
use crate::trace::tags::Tags;
use crate::upstream::{EndpointState, Ready};

/// One attempt at an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The ids of its span, if attempts have spans.
    pub(crate) span: Option<SpanContext>,
    /// `ip:port`.
    pub(crate) address: Rc<EndpointState>,
    pub(crate) begin: Micros,
    /// What is measured for its span, if that tells it.
    pub(crate) measured: Option<Box<Measured>>,
    pub(crate) connected: bool,
    /// 0 if there was no response.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    /// What most attempts do not have; boxed, so that a connection does not hold the memory for it.
    pub(crate) rare: Option<Box<Rare>>,
    /// The proxy gave it up.
    pub(crate) canceled: bool,
    /// Its response was dropped before its end.
    pub(crate) dropped: bool,
    /// The endpoint speaks HTTP/2.
    pub(crate) is_http2: bool,
}

/// What most attempts do not have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    /// Why it failed.
    reason: Option<&'static str>,
    tls: Option<TlsOutcome>,
    /// What came before it.
    retried: Option<Retried>,
    /// When it had a connection, or got none; kept where a log tells it.
    ready: Option<Box<Ready>>,
}

/// What came of TLS with an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum TlsOutcome {
    /// What its handshake has shown.
    Secured(Rc<Secured>),
    /// Why there is none.
    Failed(Rc<str>),
}

impl Attempt {
    /// Why it failed.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.rare.as_ref()?.reason
    }

    /// What the TLS of the connection has shown.
    pub(crate) fn secured(&self) -> Option<&Secured> {
        match self.rare.as_ref()?.tls.as_ref()? {
            TlsOutcome::Secured(secured) => Some(secured),
            TlsOutcome::Failed(_) => None,
        }
    }

    /// Why there is no TLS with the endpoint.
    pub(crate) fn transport_failure(&self) -> Option<&str> {
        match self.rare.as_ref()?.tls.as_ref()? {
            TlsOutcome::Secured(_) => None,
            TlsOutcome::Failed(why) => Some(why),
        }
    }

    /// Notes what came before it.
    #[cold]
    pub(crate) fn is_again(&mut self, retried: Option<Retried>) {
        self.rare.get_or_insert_default().retried = retried;
    }

    /// What came before it.
    pub(super) fn retried(&self) -> Option<&Retried> {
        self.rare.as_ref()?.retried.as_ref()
    }

    /// Notes what the TLS of the connection has shown.
    #[inline]
    pub(crate) fn secured_by(&mut self, secured: Option<&Rc<Secured>>) {
        if let Some(secured) = secured {
            self.tls_is(TlsOutcome::Secured(secured.clone()));
        }
    }

    /// Notes what came of TLS with the endpoint.
    #[cold]
    pub(crate) fn tls_is(&mut self, outcome: TlsOutcome) {
        self.rare.get_or_insert_default().tls = Some(outcome);
    }

    /// What came of TLS with the endpoint, with the identities if they are asked for.
    #[inline]
    pub(super) fn push_tls<'t>(&'t self, tags: &mut Tags<'t>, identities: bool) {
        match self.rare.as_ref().and_then(|rare| rare.tls.as_ref()) {
            Some(TlsOutcome::Secured(secured)) if identities => {
                push_peers(tags, secured.own_id(), secured.peer_id());
            }
            Some(TlsOutcome::Failed(reason)) => {
                tags.push(tag!("upstream_transport_failure_reason", reason));
            }
            _ => {}
        }
    }

    /// Notes when it had a connection, or that it gets none.
    #[cold]
    pub(crate) fn is_ready(&mut self, ready: Ready) {
        self.rare.get_or_insert_default().ready = Some(Box::new(ready));
    }

    /// The same.
    pub(crate) fn ready(&self) -> Option<&Ready> {
        self.rare.as_ref()?.ready.as_deref()
    }

    /// Notes why the attempt failed.
    pub(crate) fn fail(&mut self, flag: Option<Flag>, reason: &'static str) {
        if let Some(flag) = flag {
            self.flags.set(flag);
        }
        self.rare.get_or_insert_default().reason = Some(reason);
    }
}

/// The identities that both ends have proven, by Istio's names.
pub(super) fn push_peers<'t>(
    tags: &mut Tags<'t>,
    client: Option<&'t str>,
    server: Option<&'t str>,
) {
    if let Some(client) = client {
        tags.push(tag!("source_principal", client));
    }
    if let Some(server) = server {
        tags.push(tag!("destination_principal", server));
    }
}
