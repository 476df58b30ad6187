//! How an HTTP/1.1 connection has a request answered: by an endpoint, or by the proxy itself.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::acquire::acquire;
use crate::bridge::{Bridge, Client};
use crate::call::Protocol;
use crate::clock::Micros;
use crate::connection::{Connection, Next};
use crate::conversation::{Conversation, Ended};
use crate::exchange::{Exchange, Plan};
use crate::http1::framing::Framing;
use crate::http1::request::Tunnel;
use crate::relay::{Relay, poll_flush};
use crate::reply::{Failure, Reply};
use crate::snapshot::UpstreamProtocol;
use crate::upstream::{ClusterState, EndpointState};

impl Connection {
    /// Has the pinned request answered.
    pub(crate) async fn exchange(&mut self, begin: Micros) -> Next {
        let mut exchange = self.call.begin_exchange(begin);
        let plan = match self.call.view.filters.is_empty() {
            true => self.call.plan(&mut exchange),
            false => self.call.plan_after_filters(&mut exchange).await,
        };
        let next = match plan {
            Plan::Forward(cluster) => self.forward(&mut exchange, &cluster).await,
            Plan::Reply(reply) => {
                let mut body = Relay::new(self.call.request.framing, false);
                self.reply(&mut exchange, &mut body, &reply).await
            }
        };
        let end = match next {
            Next::Abort => self.call.worker.clock.now(),
            // The client cannot have read the last bytes before they were written: so this span lies
            // within the span of whoever waits for them, however late this thread goes on.
            Next::Continue | Next::Close => self.call.answered_at,
        };
        self.call.finish(&exchange, end);
        next
    }

    async fn forward(&mut self, exchange: &mut Exchange, cluster: &Rc<ClusterState>) -> Next {
        let mut body = Relay::new(
            self.call.request.framing,
            self.call.request.framing == Framing::Chunked,
        );
        match cluster.admit(exchange.ask(&self.call), &*self.call.worker) {
            Ok(admitted) => {
                let endpoint = admitted.endpoint();
                self.attempt(exchange, cluster, endpoint, &mut body).await
            }
            Err(failure) => self.fail(exchange, &mut body, &failure).await,
        }
    }

    /// Sends the request to an endpoint and its response to the client.
    async fn attempt(
        &mut self,
        exchange: &mut Exchange,
        cluster: &Rc<ClusterState>,
        endpoint: &Rc<EndpointState>,
        body: &mut Relay,
    ) -> Next {
        self.call.begin_attempt(exchange, endpoint);
        let is_plain = !exchange.is_grpc && self.call.request.tunnel == Tunnel::None;
        if !is_plain || cluster.cluster.protocol != UpstreamProtocol::Http1 {
            let http2 = cluster.cluster.http2(Protocol::Http1);
            // Boxed, so that the usual request does not hold the memory for it.
            let client = Client::Http1 {
                connection: self,
                body,
            };
            let bridge = Bridge::new(client, exchange, cluster, endpoint, http2);
            return match Box::pin(bridge.run()).await {
                Ok(next) => next,
                Err(failure) => self.fail(exchange, body, &failure).await,
            };
        }
        let mut request = self.call.worker.blocks.lend_output();
        self.call.write_request(exchange, &mut request.bytes);
        if let Err(error) = body.fill(&mut self.call.buffer, &mut request) {
            self.call.worker.blocks.give_back_output(request);
            let failure = Conversation::client_failure(error);
            return self.fail(exchange, body, &failure).await;
        }
        let mut fresh = false;
        let result = loop {
            let mut upstream = match acquire(self, exchange, cluster, endpoint, fresh).await {
                Ok(upstream) => upstream,
                Err(failure) => break Err(failure),
            };
            if !upstream.buffer.has_block() {
                upstream.buffer = crate::buffer::Buffer::on(self.call.worker.blocks.lend());
            }
            let ended = Conversation::new(self, exchange, &mut upstream, body, &mut request)
                .run()
                .await;
            exchange.request_bytes = body.body_bytes;
            match ended {
                Ended::Complete { reusable, next } => {
                    if reusable {
                        upstream.release(self.call.answered_at, &self.call.worker.blocks);
                    } else {
                        let block = upstream.buffer.take_block();
                        self.call.worker.blocks.give_back(block);
                    }
                    break Ok(next);
                }
                Ended::Stale => {
                    cluster.stats.rq_stale_retry.increment();
                    request.rewind();
                    fresh = true;
                }
                Ended::Failed(failure) => break Err(failure),
            }
        };
        self.call.worker.blocks.give_back_output(request);
        match result {
            Ok(next) => next,
            Err(failure) => self.fail(exchange, body, &failure).await,
        }
    }

    /// Ends the exchange with a failure: answers it if nothing was answered yet.
    async fn fail(&mut self, exchange: &mut Exchange, body: &mut Relay, failure: &Failure) -> Next {
        if let Some(flag) = failure.flag() {
            exchange.flags.set(flag);
        }
        exchange.request_bytes = body.body_bytes;
        self.call.fail_attempt(exchange, failure);
        let half_written = !self.call.out.is_untouched() && !self.call.out.is_written();
        if exchange.status != 0 || half_written {
            // Part of a response has gone out: it must not look complete.
            return Next::Abort;
        }
        match failure.reply() {
            Some(reply) => self.reply(exchange, body, &reply).await,
            None => Next::Abort,
        }
    }

    /// Answers without the upstream.
    async fn reply(
        &mut self,
        exchange: &mut Exchange,
        body: &mut Relay,
        reply: &Reply<'_>,
    ) -> Next {
        let request_complete = self.skip_body(body);
        if exchange.attempt.is_some() {
            // Else nobody has ever wanted it.
            exchange.request_bytes = body.body_bytes;
        }
        let keep = self.call.request.keep_alive
            && request_complete
            && !self.is_to_end()
            && self.call.request.minor_version == 1;
        let body = self.call.write_reply(exchange, reply, !keep);
        self.call.out.bytes.extend_from_slice(body);
        let timeout = self.call.view.manager.stream_idle_timeout;
        self.call.answered_at = self.call.worker.clock.now();
        self.call.timer.set(self.call.answered_at, timeout);
        let mut progress = false;
        let written = poll_fn(|cx| {
            let flushed = poll_flush(cx, &mut self.stream, &mut self.call.out, &mut progress);
            if let Poll::Ready(flushed) = flushed {
                return Poll::Ready(flushed.is_ok());
            }
            self.call
                .timer
                .poll_passed(|| self.call.worker.clock.now(), cx)
                .map(|()| false)
        })
        .await;
        match (written, keep) {
            (false, _) => Next::Abort,
            (true, true) => Next::Continue,
            (true, false) => Next::Close,
        }
    }

    /// Passes over a body that nobody will read: whether all of it is there already.
    fn skip_body(&mut self, body: &mut Relay) -> bool {
        if body.is_taken() {
            return true;
        }
        let mut sink = self.call.worker.blocks.lend_output();
        while !body.is_taken() && !self.call.buffer.is_empty() {
            let before = self.call.buffer.unread().len();
            sink.clear();
            if body.fill(&mut self.call.buffer, &mut sink).is_err()
                || self.call.buffer.unread().len() == before
            {
                break;
            }
        }
        self.call.worker.blocks.give_back_output(sink);
        body.is_taken()
    }
}
