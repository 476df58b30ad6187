//! Faults that are injected: delays, then refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::acquire::{Waits, pause};
use crate::call::Call;
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::reply::{Failure, Reply};
use crate::snapshot::{AbortAnswer, Fault, FaultAbort, FaultDelay, Share};
use crate::stats::FaultStats;

/// What the faults of a connection manager have in common.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) stats: Arc<FaultStats>,
    /// How many requests are delayed or refused at this moment, over all workers.
    pub(crate) active: Arc<AtomicU32>,
}

/// One of the active faults, as long as it is held.
struct Active<'a> {
    faults: &'a Faults,
}

impl Faults {
    fn begin(&self, most: Option<u32>) -> Option<Active<'_>> {
        let most = most.unwrap_or(u32::MAX);
        let taken = self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < most).then_some(now + 1)
            });
        if taken.is_err() {
            self.stats.overflow.increment();
            return None;
        }
        self.stats.active.increment();
        Some(Active { faults: self })
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.faults.active.fetch_sub(1, Ordering::Relaxed);
        self.faults.stats.active.decrement();
    }
}

/// Injects a fault: the answer, if it is a refusal.
pub(super) async fn run(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    fault: &Fault,
) -> Result<Option<Reply<'static>>, Failure> {
    if !client.call().is_meant(exchange, fault) {
        return Ok(None);
    }
    let Some(faults) = client.call().view.filters.faults.clone() else {
        return Ok(None);
    };
    let mut held = None;
    if let Some(time) = fault
        .delay
        .as_ref()
        .and_then(|delay| client.call().delay(delay))
        && let Some(active) = faults.begin(fault.max_active)
    {
        faults.stats.delays_injected.increment();
        exchange.flags.set(Flag::DI);
        let now = client.call().worker.clock.now();
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        pause(client, now.saturating_add(micros)).await?;
        held = Some(active);
    }
    let Some((abort, answer)) = fault
        .abort
        .as_ref()
        .and_then(|abort| Some((abort, client.call().answer(abort)?)))
    else {
        return Ok(None);
    };
    // A request that was delayed is an active fault already.
    if held.is_none() {
        held = faults.begin(fault.max_active);
    }
    if held.is_none() {
        return Ok(None);
    }
    faults.stats.aborts_injected.increment();
    exchange.flags.set(Flag::FI);
    exchange.rare().details = Some("fault_filter_abort".into());
    let (status, grpc_status) = match answer {
        AbortAnswer::Grpc(status) => (200, Some(status)),
        AbortAnswer::Http(status) => (status, None),
        AbortAnswer::Header => return Ok(None),
    };
    Ok(Some(Reply {
        grpc_status,
        ..Reply::new(status, abort.body.clone())
    }))
}

impl Call {
    /// Whether a request is one of those that a fault is for.
    fn is_meant(&self, exchange: &Exchange, fault: &Fault) -> bool {
        let cluster = exchange
            .cluster
            .as_ref()
            .map(|cluster| &cluster.cluster.name);
        let asking = self.asking(exchange);
        fault
            .cluster
            .as_ref()
            .is_none_or(|name| cluster == Some(name))
            && fault.headers.iter().all(|condition| asking.has(condition))
    }

    /// How long a request is delayed, if it is.
    fn delay(&self, delay: &FaultDelay) -> Option<Duration> {
        let Some(time) = delay.time else {
            let time = Duration::from_millis(self.number("x-envoy-fault-delay-request")?);
            let share = self.asked_share(delay.share, "x-envoy-fault-delay-request-percentage");
            return (self.is_in(share) && !time.is_zero()).then_some(time);
        };
        self.is_in(delay.share.per_million).then_some(time)
    }

    /// How a request is refused, if it is.
    fn answer(&self, abort: &FaultAbort) -> Option<AbortAnswer> {
        if abort.answer != AbortAnswer::Header {
            return self.is_in(abort.share.per_million).then_some(abort.answer);
        }
        let http = self.number("x-envoy-fault-abort-request");
        let http = http.and_then(|status| u16::try_from(status).ok());
        let http = http.filter(|status| (200..600).contains(status));
        let grpc = self.number("x-envoy-fault-abort-grpc-request");
        let grpc = grpc.and_then(|status| u8::try_from(status).ok());
        let answer = http
            .map(AbortAnswer::Http)
            .or_else(|| grpc.map(AbortAnswer::Grpc))?;
        let share = self.asked_share(abort.share, "x-envoy-fault-abort-request-percentage");
        self.is_in(share).then_some(answer)
    }

    /// A share that a header may lower.
    fn asked_share(&self, share: Share, name: &str) -> u32 {
        match self.number(name) {
            Some(asked) => {
                let asked = asked.saturating_mul(u64::from(share.unit));
                share
                    .per_million
                    .min(u32::try_from(asked).unwrap_or(u32::MAX))
            }
            None => share.per_million,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        let head = self.buffer.head();
        let value = self.request.fields.all_by_text(name, head).next()?;
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    }
}
