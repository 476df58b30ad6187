//! A client's stream: one request and its answer.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;

use crate::acquire::{Arriving, Body};
use crate::bridge::{
    Client, Early, First, Http2Sink, PipeError, Sink as _, attempts, joins, source_error,
};
use crate::buffer::Buffer;
use crate::call::Call;
use crate::clock::Micros;
use crate::connection::Next;
use crate::exchange::Exchange;
use crate::http1::head::{Limits, Refused};
use crate::http2::head::{self, Malformed};
use crate::http2::{Payload, Waiting};
use crate::plan::{Plan, decide};
use crate::relay::RelayError;
use crate::reply::{Failure, Reply};
use crate::telemetry::Refusal;
use crate::upstream::ClusterState;

/// A stream that a client has opened.
pub(crate) struct ServerStream {
    pub(crate) call: Call,
    pub(crate) recv: RecvStream,
    /// What of the body was read before it goes on.
    pub(crate) early: Option<Box<Early>>,
    respond: SendResponse<Payload>,
    /// For the body of the response, once its head has gone.
    pub(crate) send: Option<SendStream<Payload>>,
    /// How much of the response waits to be written, if that is to be known.
    pub(crate) waiting: Option<Waiting>,
}

impl ServerStream {
    pub(super) fn new(call: Call, recv: RecvStream, respond: SendResponse<Payload>) -> Self {
        let accounts = call.worker.accounts.as_ref();
        Self {
            waiting: accounts.map(|_| Waiting::default()),
            call,
            recv,
            early: None,
            respond,
            send: None,
        }
    }

    pub(super) fn into_call(self) -> Call {
        self.call
    }

    /// Has the request answered that has come at `begin`. Whether the client gave it up without having waited for an
    /// answer.
    pub(super) async fn serve(&mut self, request: &http::request::Parts, begin: Micros) -> bool {
        match self.take_head(request) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                self.refuse(refused);
                return false;
            }
            Err(Malformed(problem)) => {
                tracing::debug!(peer = self.call.client.text, problem, "malformed request");
                self.call.view.http.cx_protocol_error.increment();
                self.reset(Reason::PROTOCOL_ERROR);
                return false;
            }
        }
        let http = self.call.view.http.clone();
        http.rq_total.increment();
        http.rq_http2_total.increment();
        http.rq_active.increment();
        let given_up = self.exchange(begin).await;
        http.rq_active.decrement();
        given_up
    }

    /// Brings the head into the form of all heads.
    fn take_head(
        &mut self,
        request: &http::request::Parts,
    ) -> Result<Result<(), Refused>, Malformed> {
        let call = &mut self.call;
        let mut text = call.buffer.take_block();
        head::append_request(request, self.recv.is_end_stream(), &mut text)?;
        call.buffer = Buffer::of(text);
        // The size was checked as that of a header list.
        let limits = Limits {
            bytes: usize::MAX,
            fields: call.view.manager.max_headers,
        };
        Ok(match call.request.parse(call.buffer.unread_mut(), limits) {
            Ok(Some(length)) => {
                call.buffer.pin(length);
                let scheme = request.uri.scheme();
                call.take_scheme(scheme.map(|scheme| *scheme == Scheme::HTTPS));
                Ok(())
            }
            Ok(None) => Err(Refused::bad("the head is incomplete")),
            Err(refused) => Err(refused),
        })
    }

    async fn exchange(&mut self, begin: Micros) -> bool {
        let mut exchange = self.call.begin_exchange(begin);
        self.call.follow_causes(&mut exchange);
        let plan = decide(&mut Client::Http2(self), &mut exchange).await;
        let next = match plan {
            Ok(Plan::Forward(cluster)) => self.forward(&mut exchange, &cluster).await,
            Ok(Plan::Reply(reply)) => self.reply(&mut exchange, &reply).await,
            Ok(Plan::Nowhere(why)) => {
                let reply = self.call.nowhere(&mut exchange, why);
                self.reply(&mut exchange, &reply).await
            }
            Err(failure) => self.fail(&mut exchange, &failure).await,
        };
        let end = match next {
            Next::Abort => self.call.worker.clock.now(),
            Next::Continue | Next::Close => self.call.answered_at,
        };
        self.call.finish(&mut exchange, end);
        next == Next::Abort && exchange.status == 0
    }

    async fn forward(&mut self, exchange: &mut Exchange, cluster: &Rc<ClusterState>) -> Next {
        let admitted = match cluster.admit(exchange.ask(&self.call), &*self.call.worker) {
            Ok(admitted) => admitted,
            Err(failure) => return self.fail(exchange, &failure).await,
        };
        let first = First::Bridge(admitted);
        match attempts(Client::Http2(self), exchange, cluster, first).await {
            Ok(next) => next,
            Err(failure) => self.fail(exchange, &failure).await,
        }
    }

    /// Ends the exchange with a failure: answers it if nothing was answered yet.
    async fn fail(&mut self, exchange: &mut Exchange, failure: &Failure) -> Next {
        if let Some(flag) = failure.flag() {
            exchange.flags.set(flag);
        }
        self.call.fail_attempt(exchange, failure);
        match failure.reply(exchange.tries > 1) {
            Some(reply) if exchange.status == 0 => {
                let connected = exchange.attempt.as_ref().map(|attempt| attempt.connected);
                if connected == Some(false) {
                    exchange.request_bytes = self.skip_body();
                }
                self.reply(exchange, &reply).await
            }
            // The end of the connection says it.
            _ if *failure == Failure::Ending => Next::Abort,
            _ => {
                // A reset takes along what was not written yet: the connection gets a turn before.
                tokio::task::yield_now().await;
                self.reset(match failure {
                    Failure::Reset(reason) => *reason,
                    Failure::OutOfMemory => Reason::ENHANCE_YOUR_CALM,
                    _ => Reason::INTERNAL_ERROR,
                });
                Next::Abort
            }
        }
    }

    /// Passes over what has come of a body that nobody will read: how much it is.
    fn skip_body(&mut self) -> u64 {
        let mut cx = Context::from_waker(Waker::noop());
        let mut bytes = self.early.as_ref().map_or(0, |early| early.untaken as u64);
        while let Poll::Ready(Some(Ok(data))) = self.recv.poll_data(&mut cx) {
            bytes += data.len() as u64;
            // Fails only if more is released than has arrived.
            let _ = self.recv.flow_control().release_capacity(data.len());
        }
        bytes
    }

    /// Answers without the upstream.
    async fn reply(&mut self, exchange: &mut Exchange, reply: &Reply<'_>) -> Next {
        let body = self.call.write_reply(exchange, reply, false);
        self.call.answered_at = self.call.worker.clock.now();
        if self.send_head(body.is_empty()).is_err() {
            return Next::Abort;
        }
        let Err(failure) = self.send_body(body).await else {
            return Next::Continue;
        };
        self.call.count_failure(&failure);
        match failure {
            // As in Envoy, nothing else says that the client has taken too long.
            Failure::Idle { .. } => self.reset(Reason::INTERNAL_ERROR),
            _ => {
                if let Some(flag) = failure.flag() {
                    exchange.flags.set(flag);
                }
                self.call.keep_failure(exchange, &failure);
            }
        }
        Next::Abort
    }

    /// Sends a body of the proxy's own as the client makes room for it.
    async fn send_body(&mut self, mut body: &[u8]) -> Result<(), Failure> {
        while !body.is_empty() {
            let timeout = self.call.view.manager.stream_idle_timeout;
            let now = self.call.worker.clock.now();
            self.call.timer.set(now, timeout);
            let room = poll_fn(|cx| self.poll_room(cx, body.len())).await?;
            let (next, rest) = body.split_at(room.min(body.len()));
            if let Some(send) = &mut self.send {
                let data = Payload::new(Bytes::copy_from_slice(next), None);
                let sent = send.send_data(data, rest.is_empty());
                sent.map_err(|_| Failure::ClientGone)?;
            }
            body = rest;
        }
        Ok(())
    }

    /// How much of a body that waits the client has room for; a failure if it has gone, or takes too long.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Failure>> {
        if let Some(send) = &mut self.send {
            let mut sink = Http2Sink {
                send,
                waiting: None,
                is_new: &mut false,
            };
            if let Poll::Ready(Ok(room)) = sink.poll_room(cx, wanted) {
                return Poll::Ready(Ok(room));
            }
        }
        if let Poll::Ready(failure) = self.poll_gone(cx) {
            return Poll::Ready(Err(failure));
        }
        let Call { worker, timer, .. } = &self.call;
        let passed = timer.poll_passed(|| worker.clock.now(), cx);
        passed.map(|()| {
            Err(match worker.timers.is_cut() {
                true => Failure::Ending,
                false => Failure::Idle {
                    request_complete: true,
                },
            })
        })
    }

    /// Answers what is no request that could have a span.
    fn refuse(&mut self, refused: Refused) {
        let http = self.call.view.http.clone();
        if refused.status == 431 {
            http.rq_too_large.increment();
        }
        http.rq.count(refused.status);
        let reply = Reply::new(refused.status, refused.reason);
        let call = &mut self.call;
        call.out.clear();
        let server = &call.view.manager.server_name;
        reply.append_head(
            &mut call.out.bytes,
            &call.worker.clock,
            server,
            call.protocol,
            false,
        );
        call.out.bytes.extend_from_slice(b"\r\n");
        call.tell_refusal(&Refusal::of(&reply));
        let body = reply.body.as_bytes();
        if self.send_head(body.is_empty()).is_ok()
            && let Some(send) = self.send.as_mut().filter(|_| !body.is_empty())
        {
            // It fails only once there is nobody to be sent to.
            let _ = send.send_data(Payload::new(Bytes::copy_from_slice(body), None), true);
        }
    }

    /// Sends the head whose text is in the output; `ended` says that nothing follows.
    pub(crate) fn send_head(&mut self, ended: bool) -> Result<(), PipeError> {
        let text = self.call.worker.texts.copy(&self.call.out.bytes);
        let response = match head::response(&text) {
            Ok(response) => response,
            Err(Malformed(problem)) => {
                tracing::debug!(problem, "a response that cannot be said in HTTP/2");
                return Err(PipeError::Malformed);
            }
        };
        self.call.out.clear();
        let sent = self.respond.send_response(response, ended);
        self.send = Some(sent.map_err(client_gone)?);
        Ok(())
    }

    /// Sends an interim response whose text this is.
    pub(crate) fn send_interim(&mut self, text: &[u8]) {
        if let Ok(response) = head::response(&Bytes::copy_from_slice(text)) {
            // A client that has gone is noticed elsewhere.
            let _ = self.respond.send_informational(response);
        }
    }

    /// Reads the request's body: ready once it is there as a whole, or as much of it as is asked for.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        arriving: &mut Arriving,
    ) -> Poll<Result<(), Failure>> {
        let most = arriving.most;
        let early = self.early.get_or_insert_default();
        let mut is_whole = false;
        while early.untaken < most && !is_whole {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only if more is released than has arrived.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    early.untaken += data.len();
                    if !joins(early.pieces.back_mut(), &data) {
                        early.pieces.push_back(data);
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(match source_error(&error) {
                        PipeError::Reset(_) => Failure::ClientReset,
                        PipeError::Malformed => Failure::ClientMalformed,
                        PipeError::Relay(_) => Failure::ClientGone,
                    }));
                }
                None => is_whole = true,
            }
        }
        let mut data = Vec::with_capacity(early.untaken.min(most));
        for piece in &early.pieces {
            let room = most - data.len();
            data.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let is_whole = early.untaken <= most && (is_whole || self.recv.is_end_stream());
        arriving.body = Body { data, is_whole };
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(|reset| match reset {
            Ok(_) => Failure::ClientReset,
            Err(_) => Failure::ClientGone,
        })
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

/// What is sent fails only once there is nobody to be sent to.
fn client_gone(_: h2::Error) -> PipeError {
    RelayError::Sink.into()
}
