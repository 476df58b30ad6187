//! PINGs that find out whether the other side is still there (RFC 9113 §6.7).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use crate::snapshot::Keepalive;

/// The PINGs of a connection; nothing, unless they are configured.
pub(crate) struct Pinger(Option<State>);

struct State {
    keepalive: Keepalive,
    pings: PingPong,
    /// Until the next PING, or until its answer is overdue.
    sleep: Pin<Box<Sleep>>,
    waits: bool,
}

impl Pinger {
    pub(crate) fn new(keepalive: Option<Keepalive>, pings: Option<PingPong>) -> Self {
        Self(keepalive.zip(pings).map(|(keepalive, pings)| State {
            keepalive,
            pings,
            sleep: Box::pin(tokio::time::sleep(interval(keepalive))),
            waits: false,
        }))
    }

    /// Ready once an answer has not come in time.
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(state) = &mut self.0 else {
            return Poll::Pending;
        };
        loop {
            if !state.waits {
                ready!(state.sleep.as_mut().poll(cx));
                if state.pings.send_ping(Ping::opaque()).is_err() {
                    // The connection is about to end.
                    return Poll::Pending;
                }
                state.waits = true;
                state.set(state.keepalive.timeout);
            }
            match state.pings.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    state.waits = false;
                    state.set(interval(state.keepalive));
                }
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Pending => return state.sleep.as_mut().poll(cx),
            }
        }
    }
}

impl State {
    fn set(&mut self, after: Duration) {
        self.sleep.as_mut().reset(Instant::now() + after);
    }
}

/// The time to the next PING, some of it at random.
fn interval(keepalive: Keepalive) -> Duration {
    keepalive.interval + keepalive.interval * fastrand::u32(0..=keepalive.jitter_percent) / 100
}
