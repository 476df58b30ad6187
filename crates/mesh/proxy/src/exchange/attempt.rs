//! How attempts begin and fail.

use std::rc::Rc;

use crate::balance::Verdict;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::flags::{Flag, Flags};
use crate::reply::Failure;
use crate::trace::{Attempt, Measured, TlsOutcome};
use crate::upstream::EndpointState;

impl Call {
    #[inline]
    pub(crate) fn begin_attempt(&self, exchange: &mut Exchange, endpoint: &Rc<EndpointState>) {
        let tracer = self.view.tracer.as_ref();
        let spawns = tracer.is_some_and(|tracer| tracer.spawns() && exchange.mirror().is_none());
        let trace = exchange.trace.as_ref();
        let details = tracer
            .zip(trace)
            .is_some_and(|(tracer, trace)| tracer.tells_details(trace));
        exchange.attempt = Some(Attempt {
            span: trace
                .filter(|_| spawns)
                .map(|trace| trace.span.child(self.worker.random())),
            address: endpoint.clone(),
            begin: exchange.onward,
            measured: None,
            connected: false,
            status: 0,
            flags: Flags::default(),
            rare: None,
            canceled: false,
            dropped: false,
            is_http2: false,
        });
        if details {
            measure(exchange, endpoint);
        }
        if exchange.tries > 1 {
            let now = self.worker.clock.now();
            let retried = exchange.rare().retried.take();
            if let Some(attempt) = &mut exchange.attempt {
                attempt.begin = now;
                attempt.is_again(retried);
            }
        }
    }

    /// Counts a failure for the connection manager.
    #[cold]
    pub(crate) fn count_failure(&self, failure: &Failure) {
        let http = &self.view.http;
        match failure {
            Failure::StreamTimeout { .. } => http.rq_max_duration_reached.increment(),
            Failure::ClientReset => http.rq_rx_reset.increment(),
            Failure::ClientGone => {
                http.rq_rx_reset.increment();
                http.cx_destroy_remote_active_rq.increment();
            }
            Failure::Idle { .. } => http.rq_idle_timeout.increment(),
            Failure::RequestTimeout => http.rq_timeout.increment(),
            _ => {}
        }
    }

    #[cold]
    pub(crate) fn fail_attempt(&self, exchange: &mut Exchange, failure: &Failure) {
        self.count_failure(failure);
        if let Failure::Idle { .. } | Failure::RequestTimeout | Failure::StreamTimeout { .. } =
            failure
        {
            exchange.rare().hides_attempts = true;
        }
        self.keep_failure(exchange, failure);
        let Some(attempt) = &mut exchange.attempt else {
            return;
        };
        if let Failure::Transport(why) = failure {
            attempt.tls_is(TlsOutcome::Failed(why.clone()));
        }
        match failure {
            Failure::TryTimeout => attempt.flags.set(Flag::UT),
            Failure::TryIdle => attempt.flags.set(Flag::SI),
            Failure::AttemptTime { .. } => attempt.flags.set(Flag::UMSDR),
            _ => {}
        }
        match failure.reset_reason() {
            Some(reason) => attempt.fail(failure.flag(), reason),
            None => attempt.canceled = true,
        }
        let Some(cluster) = &exchange.cluster else {
            return;
        };
        match failure {
            Failure::Connect
            | Failure::Transport(_)
            | Failure::Terminated
            | Failure::Reset(_)
            | Failure::Protocol(_) => {
                cluster.report(&attempt.address, Verdict::Failed);
            }
            Failure::ConnectTimeout
            | Failure::RouteTimeout
            | Failure::TryTimeout
            | Failure::TryIdle => {
                cluster.report(&attempt.address, Verdict::TimedOut);
            }
            _ => {}
        }
        let stats = &cluster.stats;
        match failure {
            Failure::RouteTimeout => stats.rq_timeout.increment(),
            Failure::TryIdle => stats.rq_per_try_idle_timeout.increment(),
            Failure::AttemptTime { .. } => stats.rq_max_duration_reached.increment(),
            Failure::TryTimeout => stats.rq_per_try_timeout.increment(),
            Failure::Terminated | Failure::Reset(_) => stats.rq_rx_reset.increment(),
            Failure::Protocol(problem) => {
                stats.cx_protocol_error.increment();
                tracing::debug!(endpoint = attempt.address.text, problem, "bad response");
            }
            Failure::ClientGone
            | Failure::Ending
            | Failure::ClientReset
            | Failure::StreamTimeout { .. }
            | Failure::RequestTimeout
            | Failure::Idle { .. } => stats.rq_tx_reset.increment(),
            _ => {}
        }
    }
}

/// Notes what the span of the attempt tells of its beginning.
#[cold]
fn measure(exchange: &mut Exchange, endpoint: &EndpointState) {
    let cluster = exchange.cluster.as_ref();
    let is_high = exchange.is_high_priority;
    let occupied = cluster.map(|cluster| cluster.occupied(Some(endpoint), is_high));
    if let Some(attempt) = &mut exchange.attempt {
        attempt.measured = Some(Box::new(Measured {
            occupied,
            ..Measured::default()
        }));
    }
}
