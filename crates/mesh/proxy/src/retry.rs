//! Whether, and when, a request is tried again.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use h2::Reason;

use crate::acquire::{Waits, pause};
use crate::call::Call;
use crate::clock::Micros;
use crate::edit;
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::grpc::{self, GrpcStatus};
use crate::http1::framing::Framing;
use crate::http1::head::Fields;
use crate::reply::Failure;
use crate::snapshot::{BackOff, HeaderMatch, RateLimited, RetryOn, RetryPolicy, RouteAction};
use crate::upstream::Permit;

/// The most endpoints that are remembered as having had the request.
const MOST_BEFORE: usize = 32;

/// What is known of the attempts before the current one.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// The endpoints that have had the request.
    pub(crate) before: Vec<SocketAddr>,
    /// Those of them to which there was a connection, each once.
    pub(crate) reached: Vec<SocketAddr>,
    /// How long the endpoint wants to be left alone.
    wanted: Option<Duration>,
    /// How they ended, in words, if the span tells it.
    pub(crate) told: String,
    /// Counts the attempt among the cluster's retries, until it is known how it went.
    permit: Option<Permit>,
}

/// What an attempt's span tells of the attempt before it.
#[derive(Clone, Debug)]
pub(crate) struct Retried {
    /// Which attempt it is; the first is 1.
    pub(crate) number: u32,
    /// How the one before ended: a status, or why there was none.
    pub(crate) reason: Cow<'static, str>,
    /// How long it waited.
    pub(crate) back_off: Micros,
}

impl Call {
    /// The retry policy of the exchange's route.
    fn retry_policy(&self, exchange: &Exchange) -> Option<&RetryPolicy> {
        let router = self.view.router.as_ref()?;
        match &router.route(exchange.route?).action {
            RouteAction::Forward(forward) => forward.retry.as_deref(),
            RouteAction::Respond { .. } | RouteAction::Redirect(_) => None,
        }
    }

    /// Whether a policy is for the request at all.
    #[cold]
    pub(crate) fn may_retry(&self, exchange: &Exchange, policy: &RetryPolicy) -> bool {
        let conditions = &policy.request_headers;
        let asking = self.asking(exchange);
        !policy.on.is_empty()
            && (conditions.is_empty() || conditions.iter().any(|condition| asking.has(condition)))
    }

    /// Whether a response is dropped since there is to be another attempt; `complete` says that the request
    /// can be sent once more.
    #[cold]
    pub(crate) fn retries_response(
        &self,
        exchange: &mut Exchange,
        head: &[u8],
        complete: bool,
    ) -> bool {
        let Some(policy) = self.retry_policy(exchange).filter(|_| complete) else {
            return false;
        };
        let (status, fields) = (self.response.status, &self.response.fields);
        let wants = wants_response(policy, status, fields, head);
        if !self.decide(exchange, wants) {
            return false;
        }
        let limited = policy.rate_limited.as_ref();
        exchange.rare().tries.wanted = limited.and_then(|limited| reset(limited, fields, head));
        exchange.grpc = GrpcStatus::in_fields(fields, head).map(Box::new);
        if let Some(attempt) = &mut exchange.attempt {
            attempt.dropped = self.response.framing != Framing::None;
        }
        true
    }

    /// Whether there is another attempt after one that has failed.
    #[cold]
    pub(crate) fn retries_failure(
        &self,
        exchange: &mut Exchange,
        failure: &Failure,
        complete: bool,
    ) -> bool {
        // A response that was dropped has been decided about.
        if *failure == Failure::Again {
            return true;
        }
        if !exchange.retries || !complete || exchange.attempt.is_none() {
            return false;
        }
        match self.retry_policy(exchange) {
            Some(policy) => self.decide(exchange, wants_failure(policy.on, failure)),
            None => false,
        }
    }

    /// Counts what becomes of a wish for another attempt.
    fn decide(&self, exchange: &mut Exchange, wants: bool) -> bool {
        let Some(cluster) = exchange.cluster.clone() else {
            return false;
        };
        let stats = &cluster.stats;
        if exchange.tries > 1 {
            exchange.rare().tries.permit = None;
            if !wants {
                stats.rq_retry_success.increment();
            }
        }
        if !wants {
            return false;
        }
        if exchange.retries_left == 0 {
            stats.rq_retry_limit_exceeded.increment();
            exchange.flags.set(Flag::URX);
            return false;
        }
        exchange.retries_left -= 1;
        let Some(permit) = cluster.retry_permit(exchange.is_high_priority) else {
            stats.rq_retry_overflow.increment();
            exchange.flags.set(Flag::UO);
            return false;
        };
        stats.rq_retry.increment();
        exchange.rare().tries.permit = Some(permit);
        true
    }

    /// How often another endpoint is chosen than those before, and after how many attempts other priorities are.
    pub(crate) fn other_endpoints(&self, exchange: &Exchange) -> (u32, Option<NonZeroU32>) {
        self.retry_policy(exchange).map_or((0, None), |policy| {
            (policy.host_attempts, policy.other_priorities_after)
        })
    }

    /// How long it takes until the next attempt.
    fn back_off(&self, exchange: &mut Exchange) -> Duration {
        let Some(policy) = self.retry_policy(exchange) else {
            return Duration::ZERO;
        };
        let stats = exchange
            .cluster
            .as_ref()
            .map(|cluster| cluster.stats.clone());
        let back_off = policy.back_off;
        if let Some(wanted) = exchange.rare().tries.wanted.take() {
            if let Some(stats) = stats {
                stats.rq_retry_backoff_ratelimited.increment();
            }
            let half = wanted.as_millis() as u64 / 2;
            return wanted + Duration::from_millis(self.worker.random() % half.max(1));
        }
        if let Some(stats) = stats {
            stats.rq_retry_backoff_exponential.increment();
        }
        let most = interval(back_off, exchange.tries.into()).as_micros() as u64;
        Duration::from_micros(self.worker.random() % most.max(1))
    }

    /// What another attempt tells the endpoint about itself.
    #[cold]
    pub(crate) fn edit_again(&self, exchange: &Exchange, out: &mut Vec<u8>, from: usize) {
        let number = itoa::Buffer::new().format(exchange.tries).to_owned();
        if edit::has(&out[from..], "x-envoy-attempt-count") {
            edit::set(out, from, "x-envoy-attempt-count", number.as_bytes());
        }
        let passed = self.worker.clock.now().saturating_sub(exchange.onward);
        let (all, one) = (exchange.timeout, exchange.per_try());
        let Some(left) = time_left(all, one, passed / 1000) else {
            return;
        };
        const TIME: &str = "x-envoy-expected-rq-timeout-ms";
        if edit::has(&out[from..], TIME) {
            let text = itoa::Buffer::new().format(left).to_owned();
            edit::set(out, from, TIME, text.as_bytes());
        }
        if exchange.sets_grpc_timeout {
            let text = grpc::timeout_text(Duration::from_millis(left));
            edit::set(out, from, "grpc-timeout", text.as_bytes());
        }
    }
}

/// How many milliseconds an attempt has, of the time for all attempts and that for one; `passed` are gone already. None
/// if there is no limit.
fn time_left(all: Option<Duration>, one: Option<Duration>, passed: u64) -> Option<u64> {
    let limit = |time: Option<Duration>| {
        let ms = time?.as_millis() as u64;
        (ms > 0).then_some(ms)
    };
    // As in Envoy, whoever is late already is told so by the shortest time.
    let rest = limit(all).map(|all| all.saturating_sub(passed).max(1));
    match (limit(one), rest) {
        (Some(one), Some(rest)) => Some(one.min(rest)),
        (one, rest) => one.or(rest),
    }
}

/// Ends an attempt, and waits until the next one may begin.
pub(crate) async fn prepare(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    failure: &Failure,
) -> Result<(), Failure> {
    let call = client.call();
    let begin = call.worker.clock.now();
    if *failure != Failure::Again {
        call.fail_attempt(exchange, failure);
    }
    call.report_attempt(exchange, begin);
    exchange.grpc = None;
    let mut reason = Cow::Borrowed("");
    let mut endpoint = None;
    if let Some(attempt) = exchange.attempt.take() {
        reason = match failure.reset_reason() {
            _ if *failure == Failure::Again => Cow::Owned(attempt.status.to_string()),
            Some(reason) => Cow::Borrowed(reason),
            None if *failure == Failure::TryIdle => Cow::Borrowed("per try idle timeout"),
            None if matches!(failure, Failure::AttemptTime { .. }) => {
                Cow::Borrowed("max stream duration")
            }
            None => Cow::Borrowed("per try timeout"),
        };
        let address = attempt.address.address;
        let tries = &mut exchange.rare().tries;
        if tries.before.len() < MOST_BEFORE {
            tries.before.push(address);
            if attempt.connected && !tries.reached.contains(&address) {
                tries.reached.push(address);
            }
        }
        endpoint = Some(attempt.address);
    }
    let back_off = call.back_off(exchange);
    wait(client, exchange, begin, back_off).await?;
    exchange.tries = exchange.tries.saturating_add(1);
    let number = exchange.tries.into();
    let call = client.call();
    let back_off = call.worker.clock.now() - begin;
    let tracer = call.view.tracer.as_ref();
    let traced = tracer.zip(exchange.trace.as_ref());
    let tells = traced.is_some_and(|(tracer, trace)| tracer.tells_details(trace));
    if let Some(endpoint) = endpoint.filter(|_| tells && number <= MOST_BEFORE as u32 + 1) {
        let told = &mut exchange.rare().tries.told;
        let comma = if told.is_empty() { "" } else { "; " };
        // Writing to a `String` cannot fail.
        let _ = write!(
            told,
            "{comma}{}: {reason}, next after {back_off} us",
            endpoint.text
        );
    }
    exchange.rare().retried = Some(Retried {
        number,
        reason,
        back_off,
    });
    Ok(())
}

/// Waits, as long as the client is there and the route gives time.
async fn wait(
    client: &mut impl Waits,
    exchange: &Exchange,
    begin: Micros,
    time: Duration,
) -> Result<(), Failure> {
    let until = begin + time.as_micros() as u64;
    let timeout = exchange.timeout.filter(|timeout| !timeout.is_zero());
    let deadline = timeout.map(|timeout| exchange.onward + timeout.as_micros() as u64);
    let late = deadline.is_some_and(|deadline| deadline < until);
    pause(
        client,
        deadline.map_or(until, |deadline| until.min(deadline)),
    )
    .await?;
    match late {
        true => Err(Failure::RouteTimeout),
        false => Ok(()),
    }
}

/// The time of which a random part is waited after so many attempts.
fn interval(back_off: BackOff, tries: u32) -> Duration {
    let doubled = 2_u32.checked_pow(tries - 1);
    doubled
        .and_then(|times| back_off.base.checked_mul(times))
        .map_or(back_off.max, |time| time.min(back_off.max))
}

/// How long the endpoint wants to be left alone, if it says so and that is not too long.
fn reset(limited: &RateLimited, fields: &Fields, head: &[u8]) -> Option<Duration> {
    limited.headers.iter().find_map(|header| {
        let value = fields.all_by_text(&header.name, head).next()?;
        let seconds: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        let time = if header.is_moment {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            Duration::from_secs(seconds).checked_sub(now)?
        } else {
            Duration::from_secs(seconds)
        };
        (time <= limited.max).then_some(time)
    })
}

fn wants_response(policy: &RetryPolicy, status: u16, fields: &Fields, head: &[u8]) -> bool {
    let on = policy.on;
    let has = |condition: &HeaderMatch| {
        condition.matches_lines(fields.all_by_text(&condition.name, head))
    };
    let of_grpc = |code: u32| match code {
        1 => on.has(RetryOn::CANCELLED),
        4 => on.has(RetryOn::DEADLINE_EXCEEDED),
        8 => on.has(RetryOn::RESOURCE_EXHAUSTED),
        13 => on.has(RetryOn::INTERNAL),
        14 => on.has(RetryOn::UNAVAILABLE),
        _ => false,
    };
    let grpc = || GrpcStatus::in_fields(fields, head).and_then(|status| status.number());
    let wants = on.has(RetryOn::SERVER_ERROR) && status / 100 == 5
        || on.has(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504)
        || on.has(RetryOn::CONFLICT) && status == 409
        || on.has(RetryOn::STATUS_CODES) && policy.status_codes.contains(&status)
        || on.has(RetryOn::HEADERS) && policy.headers.iter().any(has)
        || grpc().is_some_and(of_grpc);
    if !wants && !on.has(RetryOn::RATE_LIMITED) {
        return false;
    }
    // It comes from another proxy, which does not want to be asked again.
    let limited = fields.all_by_text("x-envoy-ratelimited", head).next();
    match limited {
        Some(_) => on.has(RetryOn::RATE_LIMITED),
        None => wants,
    }
}

fn wants_failure(on: RetryOn, failure: &Failure) -> bool {
    const ANY: RetryOn = RetryOn::SERVER_ERROR
        .with(RetryOn::GATEWAY_ERROR)
        .with(RetryOn::RESET);
    let of_kind = match failure {
        Failure::Connect | Failure::Transport(_) | Failure::ConnectTimeout => {
            RetryOn::CONNECT_FAILURE.with(RetryOn::RESET_BEFORE_REQUEST)
        }
        Failure::Reset(Reason::REFUSED_STREAM) => RetryOn::REFUSED_STREAM,
        Failure::Terminated
        | Failure::Reset(_)
        | Failure::Protocol(_)
        | Failure::TryTimeout
        | Failure::TryIdle
        | Failure::AttemptTime { .. } => RetryOn::default(),
        _ => return false,
    };
    on.has(ANY.with(of_kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_double_up_to_the_longest() {
        let back_off = BackOff {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        };
        let times: Vec<u128> = [1, 2, 3, 4, 5, 40]
            .map(|tries| interval(back_off, tries).as_millis())
            .to_vec();
        assert_eq!(times, [25, 50, 100, 200, 250, 250]);
    }

    #[test]
    fn attempts_have_what_is_left_and_no_more_than_one_has() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (all, one, passed, left) in [
            (None, None, 5, None),
            (ms(0), None, 5, None),
            (ms(100), None, 30, Some(70)),
            (ms(100), None, 100, Some(1)),
            (ms(100), ms(50), 30, Some(50)),
            (ms(100), ms(50), 70, Some(30)),
            (ms(100), ms(50), 200, Some(1)),
            (None, ms(50), 200, Some(50)),
            (ms(0), ms(50), 200, Some(50)),
        ] {
            assert_eq!(
                time_left(all, one, passed),
                left,
                "{all:?} {one:?} {passed}"
            );
        }
    }

    #[test]
    fn failures_that_are_tried_again() {
        let connect = RetryOn::CONNECT_FAILURE;
        let cases = [
            (connect, Failure::Connect, true),
            (connect, Failure::ConnectTimeout, true),
            (connect, Failure::Terminated, false),
            (RetryOn::RESET, Failure::Terminated, true),
            (RetryOn::RESET, Failure::Connect, true),
            (RetryOn::RESET_BEFORE_REQUEST, Failure::Connect, true),
            (RetryOn::RESET_BEFORE_REQUEST, Failure::Terminated, false),
            (
                RetryOn::REFUSED_STREAM,
                Failure::Reset(Reason::REFUSED_STREAM),
                true,
            ),
            (
                RetryOn::REFUSED_STREAM,
                Failure::Reset(Reason::CANCEL),
                false,
            ),
            (RetryOn::SERVER_ERROR, Failure::TryTimeout, true),
            (RetryOn::SERVER_ERROR, Failure::RouteTimeout, false),
            (RetryOn::SERVER_ERROR, Failure::Overflow, false),
            (RetryOn::SERVER_ERROR, Failure::NoEndpoint, false),
            (RetryOn::SERVER_ERROR, Failure::ClientGone, false),
        ];
        for (on, failure, expected) in cases {
            assert_eq!(wants_failure(on, &failure), expected, "{on:?} {failure:?}");
        }
    }
}
