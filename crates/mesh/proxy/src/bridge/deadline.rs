//! The time limits of an exchange over a bridge.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::acquire::Waits as _;
use crate::bridge::{Bridge, Client};
use crate::clock::Micros;
use crate::conversation::GRACE;
use crate::reply::Failure;

impl Bridge<'_> {
    /// Sets the timer to the nearest deadline.
    pub(super) fn arm(&self) {
        let deadlines = [
            self.route_deadline(),
            self.try_deadline().filter(|_| self.response.is_none()),
            self.stream_deadline(),
            self.idle_deadline(),
            self.try_idle_deadline(),
            self.attempt_deadline(),
            self.request_deadline(),
            self.grace(),
            self.report_at,
        ];
        let timer = &self.client.call().timer;
        timer.set_at(deadlines.into_iter().flatten().min());
    }

    fn route_deadline(&self) -> Option<Micros> {
        self.request_sent.filter(|_| self.tunnel.is_none())?;
        after(self.exchange.onward, self.exchange.timeout?)
    }

    fn try_deadline(&self) -> Option<Micros> {
        let sent = self.request_sent.filter(|_| self.tunnel.is_none())?;
        after(sent, self.exchange.per_try()?)
    }

    fn stream_deadline(&self) -> Option<Micros> {
        after(self.exchange.begin, self.exchange.stream_timeout()?)
    }

    fn idle_deadline(&self) -> Option<Micros> {
        let manager = &self.client.call().view.manager;
        after(self.last_progress, self.exchange.idle_timeout(manager)?)
    }

    /// When nothing has moved between the proxy and the endpoint for too long.
    fn try_idle_deadline(&self) -> Option<Micros> {
        let rare = self.exchange.rare.as_ref()?;
        after(self.last_progress, rare.per_try_idle?)
    }

    /// When an attempt must have ended, whatever is still to come of its response.
    fn attempt_deadline(&self) -> Option<Micros> {
        let most = self.exchange.rare.as_ref()?.attempt_time?;
        after(self.exchange.attempt.as_ref()?.begin, most)
    }

    /// When the client must have sent all of its request.
    fn request_deadline(&self) -> Option<Micros> {
        let waits = self.request_sent.is_none() && self.response.is_none();
        let manager = &self.client.call().view.manager;
        after(
            self.exchange.begin,
            manager.request_timeout.filter(|_| waits)?,
        )
    }

    /// When a client that has closed its side of a connection counts as gone.
    fn grace(&self) -> Option<Micros> {
        let Client::Http1 { connection, .. } = &self.client else {
            return None;
        };
        let applies = connection.ended && connection.call.request.keep_alive;
        let since = connection.ended_at.max(self.last_progress);
        applies.then(|| since + GRACE.as_micros() as u64)
    }

    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            self.arm();
            let call = self.client.call();
            ready!(call.timer.poll_passed(|| call.worker.clock.now(), cx));
            if call.worker.timers.is_cut() {
                return Poll::Ready(Failure::Ending);
            }
            let now = self.now();
            let passed = |deadline: Option<Micros>| deadline.is_some_and(|at| at <= now);
            let request_complete = self.request_sent.is_some();
            if passed(self.grace()) {
                return Poll::Ready(Failure::ClientGone);
            }
            if passed(self.stream_deadline()) {
                return Poll::Ready(Failure::StreamTimeout { request_complete });
            }
            if passed(self.route_deadline()) {
                return Poll::Ready(Failure::RouteTimeout);
            }
            if passed(self.try_deadline()) && self.response.is_none() {
                return Poll::Ready(Failure::TryTimeout);
            }
            if passed(self.try_idle_deadline()) {
                return Poll::Ready(Failure::TryIdle);
            }
            if passed(self.attempt_deadline()) {
                return Poll::Ready(Failure::AttemptTime { request_complete });
            }
            if passed(self.request_deadline()) {
                return Poll::Ready(Failure::RequestTimeout);
            }
            if passed(self.idle_deadline()) {
                return Poll::Ready(Failure::Idle { request_complete });
            }
            if passed(self.report_at) {
                self.report_messages(now);
            }
        }
    }
}

/// Zero is no limit.
fn after(since: Micros, time: Duration) -> Option<Micros> {
    (!time.is_zero()).then(|| since + time.as_micros() as u64)
}
