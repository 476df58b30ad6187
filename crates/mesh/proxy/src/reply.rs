//! The proxy's own answers, with Envoy's statuses and texts.

use std::borrow::Cow;
use std::rc::Rc;

use h2::Reason;

use crate::call::Protocol;
use crate::clock::Clock;
use crate::flags::Flag;
use crate::grpc::{self, GrpcStatus};
use crate::http1::chunked::ChunkError;
use crate::http1::edit::{append_field, append_number};
use crate::http1::status::append_status_line;

/// An answer that the proxy makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) body: Cow<'a, str>,
    /// Why, for clients that look for a header.
    pub(crate) notice: Option<Notice>,
    /// What a gRPC client is told, if it is not what the status says.
    pub(crate) grpc_status: Option<u8>,
    /// Where else to go.
    pub(crate) location: Option<Box<str>>,
}

/// Why the proxy answers itself; a header of the value `true` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A circuit breaker is open.
    Overloaded,
    /// A share of the requests is refused,
    Dropped,
    /// or all of them are.
    AllDropped,
}

impl Notice {
    fn header(self) -> &'static str {
        match self {
            Self::Overloaded => "x-envoy-overloaded",
            Self::Dropped => "x-envoy-drop-overload",
            Self::AllDropped => "x-envoy-unconditional-drop-overload",
        }
    }
}

impl<'a> Reply<'a> {
    pub(crate) fn new(status: u16, body: impl Into<Cow<'a, str>>) -> Self {
        Self {
            status,
            body: body.into(),
            notice: None,
            grpc_status: None,
            location: None,
        }
    }

    /// Appends the whole head, but for its last empty line; `of` is what the client speaks.
    pub(crate) fn append_head(
        &self,
        out: &mut Vec<u8>,
        clock: &Clock,
        server: &str,
        of: Protocol,
        close: bool,
    ) {
        self.append_start(out);
        self.append_rest(out, of, false);
        append_common(out, clock, server, close);
    }

    /// Appends what a route may change.
    pub(crate) fn append_start(&self, out: &mut Vec<u8>) {
        append_status_line(out, self.status);
        if let Some(location) = &self.location {
            append_field(out, "location", location.as_bytes());
        }
    }

    /// Whether it can have no body, whatever is to be said: to clients it would be the next response (RFC 9112 §6.3).
    const fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Its body.
    pub(crate) fn content(&self) -> &str {
        match self.is_bodiless() {
            true => "",
            false => &self.body,
        }
    }

    /// Appends what it may not; `has_type` says that the content has a type already.
    pub(crate) fn append_rest(&self, out: &mut Vec<u8>, of: Protocol, has_type: bool) {
        self.append_notice(out);
        if !self.content().is_empty() {
            append_number(out, "content-length", self.content().len() as u64);
            if !has_type {
                append_field(out, "content-type", b"text/plain");
            }
        } else if of == Protocol::Http1 && !self.is_bodiless() {
            append_field(out, "content-length", b"0");
        }
    }

    fn append_notice(&self, out: &mut Vec<u8>) {
        if let Some(notice) = self.notice {
            append_field(out, notice.header(), b"true");
        }
    }

    /// The same for a gRPC client, after a status line of 200: a response of trailers only.
    pub(crate) fn append_grpc_rest(&self, status: &GrpcStatus, out: &mut Vec<u8>) {
        self.append_notice(out);
        append_field(out, "content-type", b"application/grpc");
        append_field(out, "grpc-status", status.code.as_bytes());
        if let Some(message) = &status.message {
            append_field(out, "grpc-message", message.as_bytes());
        }
    }

    /// What a gRPC client is told.
    pub(crate) fn grpc(&self, is_head: bool) -> GrpcStatus {
        let code = self.grpc_status.unwrap_or(grpc::status_of(self.status));
        GrpcStatus {
            code: code.to_string().into(),
            message: (!self.body.is_empty() && !is_head).then(|| grpc::encode_message(&self.body)),
        }
    }
}

/// Appends what every answer of the proxy's own ends with.
pub(crate) fn append_common(out: &mut Vec<u8>, clock: &Clock, server: &str, close: bool) {
    clock.append_date(out);
    append_field(out, "server", server.as_bytes());
    if close {
        append_field(out, "connection", b"close");
    }
}

/// Why an exchange failed after a cluster was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The cluster has no endpoint.
    NoEndpoint,
    /// A circuit breaker is open.
    Overflow,
    /// The control plane wants a share of the requests refused, or `always` all of them.
    Dropped { always: bool },
    /// The endpoint refused the connection, or is not to be reached.
    Connect,
    /// There is no agreement on TLS with the endpoint: why.
    Transport(Rc<str>),
    /// The endpoint did not accept in time.
    ConnectTimeout,
    /// The endpoint closed before its response was complete.
    Terminated,
    /// The endpoint's response is malformed.
    Protocol(&'static str),
    /// The route's timeout has passed.
    RouteTimeout,
    /// The time for one attempt has passed.
    TryTimeout,
    /// Nothing has moved between the proxy and the endpoint for too long.
    TryIdle,
    /// The time that the cluster gives to an attempt has passed.
    AttemptTime { request_complete: bool },
    /// The request was not there as a whole in time.
    RequestTimeout,
    /// The response was dropped, since there is to be another attempt.
    Again,
    /// Nothing has moved for too long; `request_complete` says on whose side.
    Idle { request_complete: bool },
    /// The client has gone.
    ClientGone,
    /// The proxy ends, and does not wait any longer.
    Ending,
    /// The client's body is malformed.
    ClientBody(ChunkError),
    /// The client has reset its stream.
    ClientReset,
    /// The client's stream is no valid HTTP/2; it has been reset.
    ClientMalformed,
    /// The request cannot be said in the endpoint's protocol.
    Untranslatable(&'static str),
    /// The endpoint has reset the stream.
    Reset(Reason),
    /// The time that `grpc-timeout` gives to the whole stream has passed.
    StreamTimeout { request_complete: bool },
    /// Memory runs short, and the exchange holds much of it.
    OutOfMemory,
}

impl Failure {
    /// Envoy's response flag.
    pub(crate) fn flag(&self) -> Option<Flag> {
        Some(match self {
            Self::NoEndpoint => Flag::UH,
            Self::Overflow => Flag::UO,
            Self::Dropped { always: false } => Flag::DO,
            Self::Dropped { always: true } => Flag::UDO,
            Self::Connect | Self::ConnectTimeout | Self::Transport(_) => Flag::UF,
            Self::Terminated => Flag::UC,
            Self::Protocol(_) => Flag::UPE,
            Self::RouteTimeout | Self::TryTimeout | Self::TryIdle => Flag::UT,
            Self::AttemptTime { .. } => Flag::UMSDR,
            Self::Idle { .. } => Flag::SI,
            Self::ClientGone | Self::Ending => Flag::DC,
            Self::ClientBody(_) | Self::ClientMalformed | Self::Untranslatable(_) => Flag::DPE,
            Self::ClientReset => Flag::DR,
            Self::Reset(_) => Flag::UR,
            Self::OutOfMemory => Flag::OM,
            Self::StreamTimeout { .. } | Self::RequestTimeout | Self::Again => return None,
        })
    }

    /// Envoy's text for the reset: the tag `error.reason` of the attempt's span. None if the proxy
    /// itself gave the attempt up.
    pub(crate) fn reset_reason(&self) -> Option<&'static str> {
        match self {
            Self::Connect | Self::Transport(_) => Some("remote connection failure"),
            Self::ConnectTimeout => Some("connection timeout"),
            Self::Overflow => Some("overflow"),
            Self::Terminated => Some("connection termination"),
            Self::Protocol(_) => Some("protocol error"),
            Self::Reset(Reason::REFUSED_STREAM) => Some("remote refused stream reset"),
            Self::Reset(_) => Some("remote reset"),
            Self::NoEndpoint
            | Self::Dropped { .. }
            | Self::RouteTimeout
            | Self::TryTimeout
            | Self::TryIdle
            | Self::AttemptTime { .. }
            | Self::RequestTimeout
            | Self::Again
            | Self::StreamTimeout { .. }
            | Self::OutOfMemory
            | Self::Idle { .. }
            | Self::ClientGone
            | Self::Ending
            | Self::ClientReset
            | Self::ClientMalformed
            | Self::Untranslatable(_)
            | Self::ClientBody(_) => None,
        }
    }

    /// Whether it says that no connection is to be had.
    pub(crate) fn is_of_pool(&self) -> bool {
        matches!(
            self,
            Self::Connect | Self::ConnectTimeout | Self::Transport(_) | Self::Overflow
        )
    }

    /// Envoy's `%RESPONSE_CODE_DETAILS%`; `begun` says that part of the response was sent.
    pub(crate) fn details(&self, begun: bool) -> Cow<'static, str> {
        let when = if begun { "after" } else { "before" };
        if let Some(reason) = self.reset_reason() {
            let reason = reason.replace(' ', "_");
            let reason = match self {
                Self::Transport(why) => format!("{reason}|{}", why.replace(' ', "_")),
                _ => reason,
            };
            return format!("upstream_reset_{when}_response_started{{{reason}}}").into();
        }
        Cow::Borrowed(match self {
            Self::NoEndpoint => "no_healthy_upstream",
            Self::Dropped { always: false } => "drop_overload",
            Self::Dropped { always: true } => "unconditional_drop_overload",
            Self::RouteTimeout => "response_timeout",
            Self::TryTimeout => "upstream_per_try_timeout",
            Self::TryIdle => "upstream_per_try_idle_timeout",
            Self::AttemptTime { .. } => "upstream_max_stream_duration_reached",
            Self::RequestTimeout => "request_overall_timeout",
            Self::StreamTimeout { .. } => "max_duration_timeout",
            Self::Idle { .. } => "stream_idle_timeout",
            Self::ClientGone => "downstream_remote_disconnect",
            Self::Ending => "downstream_local_disconnect",
            Self::ClientReset => "http2.remote_reset",
            Self::OutOfMemory => "overload_manager",
            Self::ClientMalformed => "http2.violation.of.messaging.rule",
            _ => "http1.codec_error",
        })
    }

    /// The answer, if nothing was answered yet; `again` says that there were several attempts. None if there is
    /// nobody to answer.
    pub(crate) fn reply(&self, again: bool) -> Option<Reply<'static>> {
        let reset = |status: u16| {
            let reason = self.reset_reason().unwrap_or_default();
            let which = if again {
                "retried and the latest reset reason"
            } else {
                "reset reason"
            };
            Reply::new(
                status,
                format!(
                    "upstream connect error or disconnect/reset before headers. \
                     {which}: {reason}"
                ),
            )
        };
        Some(match self {
            Self::NoEndpoint => Reply::new(503, "no healthy upstream"),
            Self::Dropped { always: false } => Reply {
                notice: Some(Notice::Dropped),
                ..Reply::new(503, "drop overload")
            },
            Self::Dropped { always: true } => Reply {
                notice: Some(Notice::AllDropped),
                ..Reply::new(503, "unconditional drop overload")
            },
            Self::Overflow => Reply {
                notice: Some(Notice::Overloaded),
                ..reset(503)
            },
            // Why there is no TLS is for the mesh to know, and not for the client.
            Self::Connect
            | Self::Transport(_)
            | Self::ConnectTimeout
            | Self::Terminated
            | Self::Reset(_) => reset(503),
            Self::Protocol(_) => reset(502),
            Self::RouteTimeout | Self::TryTimeout | Self::TryIdle => {
                Reply::new(504, "upstream request timeout")
            }
            Self::AttemptTime { request_complete } => Reply::new(
                if *request_complete { 504 } else { 408 },
                "upstream max stream duration reached",
            ),
            Self::RequestTimeout => Reply::new(408, "request timeout"),
            Self::Idle {
                request_complete: false,
            } => Reply::new(408, "stream timeout"),
            Self::Idle {
                request_complete: true,
            } => Reply::new(504, "stream timeout"),
            Self::ClientBody(error) => Reply::new(400, error.to_string()),
            Self::Untranslatable(problem) => Reply::new(400, *problem),
            Self::StreamTimeout { request_complete } => Reply {
                grpc_status: Some(grpc::DEADLINE_EXCEEDED),
                ..Reply::new(
                    if *request_complete { 504 } else { 408 },
                    "downstream duration timeout",
                )
            },
            Self::ClientGone
            | Self::Ending
            | Self::ClientReset
            | Self::ClientMalformed
            | Self::Again
            | Self::OutOfMemory => {
                return None;
            }
        })
    }
}
