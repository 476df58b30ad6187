//! How an HTTP/1.1 connection has a request answered: by an endpoint, or by the proxy itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::acquire::acquire;
use crate::bridge::{Client, First, Pipe, attempts};
use crate::clock::Micros;
use crate::connection::{Connection, Next};
use crate::conversation::{Conversation, Ended};
use crate::exchange::Exchange;
use crate::http1::framing::Framing;
use crate::http1::request::Tunnel;
use crate::plan::{Plan, decide};
use crate::relay::{Relay, poll_flush};
use crate::reply::{Failure, Reply};
use crate::snapshot::UpstreamProtocol;
use crate::upstream::{ClusterState, EndpointState};

impl Connection {
    /// Has the pinned request answered.
    pub(crate) async fn exchange(&mut self, begin: Micros) -> Next {
        let mut exchange = self.call.begin_exchange(begin);
        self.call.follow_causes(&mut exchange);
        let plan = decide(self, &mut exchange).await;
        // What is not forwarded is boxed, so that the usual request does not hold the memory for it.
        let other = match plan {
            Ok(Plan::Forward(_)) => None,
            other => Some(Box::new(other)),
        };
        let next = match other {
            None => self.forward(&mut exchange).await,
            Some(plan) => Box::pin(self.answer(&mut exchange, plan)).await,
        };
        let end = match next {
            Next::Abort => self.call.worker.clock.now(),
            // The client cannot have read the last bytes before they were written: so this span lies
            // within the span of whoever waits for them, however late this thread goes on.
            Next::Continue | Next::Close => self.call.answered_at,
        };
        self.call.finish(&mut exchange, end);
        next
    }

    /// Answers a request that does not go on.
    async fn answer(&mut self, exchange: &mut Exchange, plan: Box<Result<Plan, Failure>>) -> Next {
        let mut body = Relay::new(self.call.request.framing, false);
        let reply = match *plan {
            Ok(Plan::Forward(_)) => return self.forward(exchange).await,
            Ok(Plan::Reply(reply)) => reply,
            Ok(Plan::Nowhere(why)) => self.call.nowhere(exchange, why),
            Err(failure) => return self.fail(exchange, &mut body, &failure).await,
        };
        self.reply(exchange, &mut body, &reply).await
    }

    /// Sends the request to the cluster that was chosen.
    async fn forward(&mut self, exchange: &mut Exchange) -> Next {
        let mut body = Relay::new(
            self.call.request.framing,
            self.call.request.framing == Framing::Chunked,
        );
        let Some(cluster) = exchange.cluster.clone() else {
            return Box::pin(self.fail(exchange, &mut body, &Failure::NoEndpoint)).await;
        };
        let admitted = match cluster.admit(exchange.ask(&self.call), &*self.call.worker) {
            Ok(admitted) => admitted,
            Err(failure) => {
                return Box::pin(self.fail(exchange, &mut body, &failure)).await;
            }
        };
        if exchange.is_grpc
            || self.call.request.tunnel != Tunnel::None
            || cluster.cluster.protocol != UpstreamProtocol::Http1
            || exchange.bridges
            || exchange.retries && !self.has_whole_body()
        {
            let first = First::Bridge(admitted);
            return self
                .over_bridges(exchange, &cluster, &mut body, first)
                .await;
        }
        let endpoint = admitted.endpoint();
        let ended = self.attempt(exchange, &cluster, endpoint, &mut body).await;
        // The attempt is over as far as limits are concerned.
        drop(admitted);
        match ended {
            Ok(next) => next,
            Err((failure, Some(kept))) => {
                let first = First::Failed(failure, kept);
                self.over_bridges(exchange, &cluster, &mut body, first)
                    .await
            }
            Err((failure, None)) => Box::pin(self.fail(exchange, &mut body, &failure)).await,
        }
    }

    /// Whether all of the body is here: then it is there for another attempt.
    fn has_whole_body(&self) -> bool {
        match self.call.request.framing {
            Framing::None => true,
            Framing::Length(length) => length <= self.call.buffer.unread().len() as u64,
            Framing::Chunked | Framing::Close => false,
        }
    }

    /// Sends the request to an endpoint and its response to the client: a failure, and what there is of the body for
    /// another attempt.
    async fn attempt(
        &mut self,
        exchange: &mut Exchange,
        cluster: &Rc<ClusterState>,
        endpoint: &Rc<EndpointState>,
        body: &mut Relay,
    ) -> Result<Next, (Failure, Option<Box<Pipe>>)> {
        self.call.begin_attempt(exchange, endpoint);
        let mut request = self.call.worker.blocks.lend_output();
        self.call.write_request(exchange, &mut request.bytes);
        if let Err(error) = body.fill(&mut self.call.buffer, &mut request) {
            self.call.worker.blocks.give_back_output(request);
            return Err((Conversation::client_failure(error), None));
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
            let mut conversation =
                Conversation::new(self, exchange, &mut upstream, body, &mut request);
            let ended = conversation.run().await;
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
                    if let Some(attempt) = &mut exchange.attempt {
                        attempt.connected = false;
                    }
                    request.rewind();
                    fresh = true;
                }
                Ended::Failed(failure) => break Err(failure),
            }
        };
        let may_retry = result.is_err() && exchange.retries;
        let kept = (may_retry && body.is_taken() && body.replayable).then(|| {
            // It is the last that was written, as it came.
            let head = request.bytes.len() - body.body_bytes as usize;
            Box::new(Pipe::holding(&request.bytes[head..]))
        });
        self.call.worker.blocks.give_back_output(request);
        result.map_err(|failure| (failure, kept))
    }

    /// Makes attempts over bridges; boxed, so that the usual request does not hold the memory for it.
    fn over_bridges<'a>(
        &'a mut self,
        exchange: &'a mut Exchange,
        cluster: &'a Rc<ClusterState>,
        body: &'a mut Relay,
        first: First,
    ) -> Pin<Box<dyn Future<Output = Next> + 'a>> {
        Box::pin(async move {
            let client = Client::Http1 {
                connection: self,
                body,
            };
            match attempts(client, exchange, cluster, first).await {
                Ok(next) => next,
                Err(failure) => self.fail(exchange, body, &failure).await,
            }
        })
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
        match failure.reply(exchange.tries > 1) {
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
