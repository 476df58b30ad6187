//! Exchanges that change between HTTP/1.1 and HTTP/2, or that are HTTP/2 on both sides.
//!
//! Plain HTTP/1.1 on both sides has a faster way of its own (`conversation`); gRPC goes over a bridge in
//! any case, since its time limits are those of this one, and so do upgrades and CONNECT: an answer that
//! accepts one makes a tunnel of the exchange, whose directions end one after the other.

mod again;
mod client;
mod deadline;
mod http1;
mod http2;
mod mirror;
mod pipe;
mod upstream;

pub(crate) use again::{First, attempts};
pub(crate) use client::Client;
pub(crate) use http2::{Early, Http2Sink, source_error};
pub(crate) use pipe::{Pipe, PipeError, Sink, joins};

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::acquire::{Waits, acquire, acquire_raw, while_pending};
use crate::bridge::upstream::{NoResponse, Upstream};
use crate::call::{Call, Protocol};
use crate::clock::Micros;
use crate::connection::Next;
use crate::exchange::Exchange;
use crate::grpc::GrpcStatus;
use crate::http1::framing::Framing;
use crate::http1::response::Interims;
use crate::overload::{Accounts, Entry};
use crate::relay::RelayError;
use crate::reply::Failure;
use crate::snapshot::Http2Options;
use crate::upstream::{ClusterState, EndpointState};

/// How often the messages of a call are counted while it goes on, as Istio does.
const REPORT_MICROS: Micros = 5_000_000;

/// An exchange between a client and an endpoint.
pub(crate) struct Bridge<'a> {
    client: Client<'a>,
    exchange: &'a mut Exchange,
    cluster: &'a Rc<ClusterState>,
    endpoint: &'a Rc<EndpointState>,
    /// The endpoint speaks HTTP/2.
    http2: Option<Http2Options>,
    request: Pipe,
    /// When the endpoint had the whole request.
    request_sent: Option<Micros>,
    /// The endpoint takes no more of the request; its response may be there all the same.
    refused: bool,
    response: Option<Response>,
    /// What it holds in memory, if that is to be known.
    account: Option<Entry>,
    /// The response has made a tunnel of the exchange.
    tunnel: Option<Ends>,
    last_progress: Micros,
    interims: Interims,
    /// When it was last looked at what there is to do.
    polled_at: Micros,
    /// The messages of gRPC that were counted in metrics already.
    reported: [u64; 2],
    /// When those that have passed since are, once there is a response.
    report_at: Option<Micros>,
}

/// Which directions of a tunnel have ended, so that the other side knows.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    of_client: bool,
    of_endpoint: bool,
}

/// A response whose head has gone out.
struct Response {
    body: Pipe,
    chunks: bool,
    keep: bool,
}

/// Whether the messages of an exchange are counted.
fn counts_messages(call: &Call, exchange: &Exchange) -> bool {
    exchange.is_grpc && call.counts_messages()
}

impl<'a> Bridge<'a> {
    pub(crate) fn new(
        client: Client<'a>,
        exchange: &'a mut Exchange,
        cluster: &'a Rc<ClusterState>,
        endpoint: &'a Rc<EndpointState>,
        http2: Option<Http2Options>,
        mut request: Pipe,
    ) -> Self {
        let accounts = &client.call().worker.accounts;
        if counts_messages(client.call(), exchange) {
            request.count_messages();
        }
        let now = client.call().worker.clock.now();
        Self {
            account: accounts.as_ref().map(Accounts::open),
            request,
            last_progress: now,
            interims: Interims::default(),
            polled_at: now,
            reported: [0; 2],
            report_at: None,
            client,
            exchange,
            cluster,
            endpoint,
            http2,
            request_sent: None,
            refused: false,
            response: None,
            tunnel: None,
        }
    }

    /// The body of the request, as far as it is kept.
    pub(crate) fn into_request(self) -> Pipe {
        self.request
    }

    /// Runs it to its end.
    pub(crate) async fn run(&mut self) -> Result<Next, Failure> {
        let bodiless = self.request.is_ended();
        let mut again = false;
        loop {
            let failure = match self.connect(bodiless, again).await {
                Ok(upstream) => match self.converse(upstream).await {
                    Ok(next) => return Ok(next),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            match failure {
                NoResponse::Unprocessed(_) if !again && self.request.rewind(bodiless) => {
                    self.cluster.stats.rq_stale_retry.increment();
                    again = true;
                    self.refused = false;
                    self.request_sent = None;
                }
                NoResponse::Unprocessed(failure) | NoResponse::Failed(failure) => {
                    return Err(failure);
                }
            }
        }
    }

    /// Gets a connection and sends the head of the request on it.
    async fn connect(&mut self, bodiless: bool, again: bool) -> Result<Upstream, NoResponse> {
        let (client, cluster, endpoint) = (&mut self.client, self.cluster, self.endpoint);
        let mut head = client.call().worker.blocks.lend_output();
        client.call().write_request(self.exchange, &mut head.bytes);
        let upstream = match self.http2 {
            _ if self.exchange.is_terminated() => {
                let connection = acquire_raw(client, self.exchange, cluster, endpoint).await?;
                head.clear();
                Upstream::raw(connection, client.call(), head)
            }
            Some(options) => {
                let lease = match cluster.http2_lease(endpoint) {
                    Some(lease) => lease,
                    None => {
                        let begin = client.call().worker.clock.now();
                        let is_high = self.exchange.is_high_priority;
                        let open = cluster.http2_open(endpoint, options, is_high);
                        let open = while_pending(client, self.exchange, cluster, open);
                        let opened = Box::pin(open).await;
                        let took = client.call().worker.clock.now() - begin;
                        self.exchange.waited(|waited| waited.connecting(took));
                        opened?
                    }
                };
                Upstream::http2(lease, &endpoint.text, client.call(), head, bodiless)?
            }
            None => {
                let connection = acquire(client, self.exchange, cluster, endpoint, again).await?;
                Upstream::http1(connection, client.call(), head)
            }
        };
        if let Some(attempt) = &mut self.exchange.attempt {
            attempt.connected = true;
            attempt.secured_by(upstream.secured());
            attempt.is_http2 = upstream.protocol() == Protocol::Http2;
        }
        if let Some(telemetry) = &self.client.call().view.telemetry {
            telemetry.keep_upstream(self.exchange, &self.client.call().worker, &upstream);
        }
        Ok(upstream)
    }

    async fn converse(&mut self, mut upstream: Upstream) -> Result<Next, NoResponse> {
        let reused = upstream.is_reused();
        let result = poll_fn(|cx| self.poll(cx, &mut upstream)).await;
        self.exchange.request_bytes = self.request.body_bytes;
        if let Some(response) = &mut self.response {
            self.exchange.response_bytes = response.body.body_bytes;
            let trailers = response.body.trailers.as_deref();
            if let Some(status) = trailers.and_then(GrpcStatus::in_lines) {
                self.exchange.grpc = Some(Box::new(status));
            }
            if let Some(telemetry) = &self.client.call().view.telemetry {
                telemetry.keep_trailers(self.exchange, trailers.unwrap_or_default());
            }
        }
        if self.counts_messages() {
            let count = |messages: u64| u32::try_from(messages).unwrap_or(u32::MAX);
            self.exchange.messages = self.unreported().map(count);
        }
        let sent_all = self.request_sent.is_some() && !self.refused;
        match &self.tunnel {
            None => upstream.release(self.client.call(), result.is_ok() && sent_all),
            Some(_) => {
                self.client.call_mut().answered_at = self.now();
                upstream.close(self.client.call(), result.is_ok());
            }
        }
        match result {
            Ok(()) => {
                let keep = self.response.as_ref().is_some_and(|response| response.keep);
                Ok(if keep && sent_all {
                    Next::Continue
                } else {
                    Next::Close
                })
            }
            // An old connection has died, and the request can do no harm twice (RFC 9110 §9.2.2).
            Err(NoResponse::Failed(failure @ Failure::Terminated))
                if reused && self.response.is_none() && self.is_idempotent() =>
            {
                Err(NoResponse::Unprocessed(failure))
            }
            Err(failure) => Err(failure),
        }
    }

    fn is_idempotent(&self) -> bool {
        let call = self.client.call();
        call.request.is_idempotent(call.buffer.head())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
    ) -> Poll<Result<(), NoResponse>> {
        let mut progress = false;
        self.polled_at = self.now();
        if !self.refused && (self.request_sent.is_none() || !self.request.is_ended()) {
            self.poll_request(cx, upstream, &mut progress)?;
        }
        if self.response.is_none() {
            let mut text = self.client.call().worker.blocks.lend_output();
            let polled = self.poll_response_head(cx, upstream, &mut text.bytes, &mut progress);
            let blocks = &self.client.call().worker.blocks;
            blocks.give_back_output(text);
            polled?;
            if self.response.is_none()
                && let Poll::Ready(Err(error)) = self.client.poll_interim(cx, &mut progress)
            {
                return Poll::Ready(Err(self.response_failure(cx, error).into()));
            }
        } else {
            self.client.call_mut().answered_at = self.polled_at;
        }
        if let Some(response) = &mut self.response {
            let moved = self.client.poll_response(
                cx,
                &mut response.body,
                upstream,
                response.chunks,
                &mut progress,
            );
            match moved {
                Poll::Ready(Ok(())) if self.tunnel.is_some() => {}
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(self.response_failure(cx, error).into()));
                }
                Poll::Pending => {}
            }
            if self.tunnel.is_some() && self.poll_ends(cx, upstream, moved.is_ready()) {
                return Poll::Ready(Ok(()));
            }
        }
        if let Some(account) = &self.account
            && account
                .poll_over(
                    self.client.held() + self.request.held() + upstream.held(),
                    cx,
                )
                .is_ready()
        {
            return Poll::Ready(Err(Failure::OutOfMemory.into()));
        }
        if let Poll::Ready(gone) = self.client.poll_gone(cx) {
            return Poll::Ready(Err(gone.into()));
        }
        if progress {
            self.last_progress = self.polled_at;
        }
        self.poll_deadline(cx).map(|failure| Err(failure.into()))
    }

    /// Passes on the response's head once it is there, and interim ones before.
    fn poll_response_head(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        text: &mut Vec<u8>,
        progress: &mut bool,
    ) -> Result<(), NoResponse> {
        let limits = self.cluster.cluster.response_limits();
        while let Poll::Ready(ended) =
            upstream.poll_head(cx, self.client.call_mut(), limits, text)?
        {
            *progress = true;
            if self.client.call().response.is_interim() {
                self.interims.add(text.len()).map_err(Failure::Protocol)?;
                // The response has begun, as in Envoy.
                self.exchange.retries = false;
                self.client.send_interim(text);
                continue;
            }
            let ended = if self.client.call().opens_tunnel() {
                // The client's direction begins anew.
                cx.waker().wake_by_ref();
                self.open_tunnel(upstream)?
            } else {
                ended
            };
            return self.begin_response(text, ended);
        }
        Ok(())
    }

    /// The endpoint has accepted: bytes are bytes from here on, and no timeout of the route applies.
    /// Whether it has sent the last one already.
    #[cold]
    fn open_tunnel(&mut self, upstream: &mut Upstream) -> Result<bool, Failure> {
        if !self.request.is_ended() {
            return Err(Failure::Protocol(
                "an upgrade before the end of the request",
            ));
        }
        self.tunnel = Some(Ends::default());
        self.client.open_tunnel();
        Ok(upstream.open_tunnel())
    }

    /// Passes on that a direction of the tunnel has ended: whether both have.
    #[cold]
    fn poll_ends(&mut self, cx: &mut Context<'_>, upstream: &mut Upstream, ended: bool) -> bool {
        let Some(ends) = &mut self.tunnel else {
            return false;
        };
        if !ends.of_client && self.request_sent.is_some() {
            ends.of_client = upstream.poll_shutdown(cx).is_ready();
        }
        if !ends.of_endpoint && ended {
            ends.of_endpoint = self.client.poll_shutdown(cx).is_ready();
        }
        (ends.of_client || self.refused) && ends.of_endpoint
    }

    /// The client's direction: an error only if the exchange has failed.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        progress: &mut bool,
    ) -> Result<(), Failure> {
        let moved = self
            .client
            .poll_request(cx, &mut self.request, upstream, progress);
        match moved {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                let now = self.polled_at;
                self.request_sent = Some(now);
                self.exchange.is_complete(now);
                if let Some(telemetry) = &self.client.call().view.telemetry {
                    telemetry.keep_request(self.exchange, now);
                }
                if self.exchange.mirrors {
                    mirror::mirror(self.client.call(), self.exchange, self.request.kept());
                }
            }
            Poll::Ready(Err(PipeError::Relay(RelayError::Sink))) => self.refused = true,
            Poll::Ready(Err(PipeError::Relay(RelayError::Body(error)))) => {
                return Err(Failure::ClientBody(error));
            }
            Poll::Ready(Err(PipeError::Reset(_))) => return Err(Failure::ClientReset),
            Poll::Ready(Err(PipeError::Malformed)) => return Err(Failure::ClientMalformed),
            Poll::Ready(Err(PipeError::Relay(RelayError::Source | RelayError::SourceEnded))) => {
                return Err(Failure::ClientGone);
            }
        }
        Ok(())
    }

    /// What a failure of the endpoint's direction means.
    fn response_failure(&mut self, cx: &mut Context<'_>, error: PipeError) -> Failure {
        match error {
            PipeError::Relay(RelayError::Sink) => match self.client.poll_gone(cx) {
                Poll::Ready(gone) => gone,
                Poll::Pending => Failure::ClientGone,
            },
            PipeError::Reset(reason) => Failure::Reset(reason),
            PipeError::Malformed => Failure::Protocol("the body is no valid HTTP/2"),
            PipeError::Relay(RelayError::SourceEnded) => Failure::Protocol("the body ends early"),
            PipeError::Relay(RelayError::Source) => Failure::Terminated,
            PipeError::Relay(RelayError::Body(_)) => Failure::Protocol("a chunk is malformed"),
        }
    }

    /// Sends the head of the final response, whose text this is; `ended` says that nothing follows.
    fn begin_response(&mut self, text: &[u8], ended: bool) -> Result<(), NoResponse> {
        let now = self.polled_at;
        let since = self.request_sent.unwrap_or(self.exchange.onward);
        let (keep, chunks) = match &self.tunnel {
            Some(_) => (false, false),
            None => self.client.framing_of_response(),
        };
        let call = self.client.call_mut();
        let status = call.response.status;
        if status == 101 && self.tunnel.is_none() {
            return Err(Failure::Protocol("an upgrade that nobody asked for").into());
        }
        let bodiless = call.response.framing == Framing::None && self.tunnel.is_none();
        self.exchange.answered(status, now);
        if self.exchange.retries {
            let complete = self.request.is_kept();
            if call.retries_response(self.exchange, text, complete) {
                if let Some(attempt) = self.exchange.attempt.as_mut().filter(|_| ended) {
                    attempt.dropped = false;
                }
                return Err(Failure::Again.into());
            }
            if self.request.is_given_up() {
                self.cluster.stats.retry_abandoned.increment();
            }
            // No other attempt may follow a response that the client gets.
            self.exchange.retries = false;
        }
        self.exchange.status = status;
        call.answered_at = now;
        if let Some(grpc) = GrpcStatus::in_fields(&call.response.fields, text) {
            self.exchange.grpc = Some(Box::new(grpc));
        }
        let keep = keep && !self.refused;
        call.write_response(
            self.exchange,
            text,
            now.saturating_sub(since) / 1000,
            chunks,
            keep,
        );
        if self.tunnel.is_some() {
            self.request = Pipe::new(false);
            self.request_sent = None;
        } else if !self.exchange.mirrors {
            self.request.let_go();
        }
        let mut body = match bodiless {
            true => Pipe::bodiless(ended),
            false => Pipe::new(ended),
        };
        if self.counts_messages() {
            body.count_messages();
            self.report_at = Some(now + REPORT_MICROS);
        }
        self.response = Some(Response { body, chunks, keep });
        self.client.send_head(ended).map_err(|error| match error {
            PipeError::Malformed => Failure::Protocol("a head that HTTP/2 cannot say").into(),
            _ => Failure::ClientGone.into(),
        })
    }

    fn counts_messages(&self) -> bool {
        counts_messages(self.client.call(), self.exchange)
    }

    /// The messages of gRPC that are not in metrics yet.
    fn unreported(&self) -> [u64; 2] {
        let response = self.response.as_ref();
        let response = response.map_or(0, |response| response.body.messages());
        let [request, of_response] = self.reported;
        [
            self.request.messages().saturating_sub(request),
            response.saturating_sub(of_response),
        ]
    }

    /// Counts the messages of a call that goes on.
    #[cold]
    fn report_messages(&mut self, now: Micros) {
        let messages = self.unreported();
        if messages != [0, 0] {
            self.client
                .call()
                .count_messages(self.exchange, messages, now);
            let [request, response] = messages;
            self.reported[0] += request;
            self.reported[1] += response;
        }
        self.report_at = Some(now + REPORT_MICROS);
    }

    fn now(&self) -> Micros {
        self.client.call().worker.clock.now()
    }
}
