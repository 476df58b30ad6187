//! Shared quotas: before a request goes on, a service is asked over gRPC whether it is one too many
//! (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`).

mod answer;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

use self::answer::Answered;
use crate::acquire::Waits;
use crate::call::Call;
use crate::clock::Micros;
use crate::errand::{self, Answer, Errand, framed};
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::grpc;
use crate::policy::authz::{tell_of_framing, while_there};
use crate::reply::{Failure, Reply};
use crate::snapshot::{LimitField, LimitRule, OfHost};
use crate::stats::{Count, QuotaStats, Registry};
use crate::trace::errand::Child;

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// The most bytes of an answer.
const MOST_ANSWER: usize = 1024 * 1024;

/// Envoy's `RateLimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `domain`: whose limits they are, to the service.
    pub(crate) domain: String,
    /// The service's cluster,
    pub(crate) cluster: String,
    /// the host that it is asked as,
    pub(crate) host: String,
    /// the lines of more fields,
    pub(crate) fields: Vec<u8>,
    /// and how long it has.
    pub(crate) timeout: Option<Duration>,
    /// `rate_limits`: in place of those of routes.
    pub(crate) rules: Vec<LimitRule>,
    /// `stage`: of the rules of routes, only those of this one count.
    pub(crate) stage: u32,
    /// Of so many of a million requests the service is asked about,
    pub(crate) enabled: u32,
    /// so many are refused if they are too many,
    pub(crate) enforced: u32,
    /// and so many of those about which there is no answer.
    pub(crate) denied_on_failure: u32,
    /// `rate_limited_status`.
    pub(crate) status: u16,
    /// `status_on_error`.
    pub(crate) status_on_error: u16,
    /// gRPC clients are told RESOURCE_EXHAUSTED.
    pub(crate) is_exhausted: bool,
    /// `enable_x_ratelimit_headers`: clients are told how much is left.
    pub(crate) tells: bool,
    /// Clients that are refused are told so in `x-envoy-ratelimited`.
    pub(crate) marks: bool,
    /// `enable_retry_after_header`: and when to come back.
    pub(crate) tells_when: bool,
    /// `response_headers_to_add`: to answers to those that are refused.
    pub(crate) response: Vec<LimitField>,
    /// `stat_prefix`.
    pub(crate) stat_prefix: String,
}

/// The filter as a worker has it.
#[derive(Debug)]
pub(crate) struct QuotaView {
    pub(crate) quota: Arc<Quota>,
    /// By the name of the cluster that a request goes to: looked up once.
    of_clusters: RefCell<HashMap<String, Arc<QuotaStats>>>,
}

/// What a request's span tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    /// Whom the request was counted by.
    pub(crate) quota: Arc<Quota>,
    /// `ok`, `over_limit`, `error`, or `failure_mode_allowed`.
    pub(crate) result: &'static str,
    /// How long it took.
    pub(crate) took: Micros,
}

impl QuotaView {
    pub(crate) fn new(quota: &Arc<Quota>) -> Self {
        Self {
            quota: quota.clone(),
            of_clusters: RefCell::default(),
        }
    }

    /// The counts of those of its requests that go to a cluster.
    fn of_cluster(&self, cluster: &str, registry: &Registry) -> Arc<QuotaStats> {
        let mut known = self.of_clusters.borrow_mut();
        if let Some(stats) = known.get(cluster) {
            return stats.clone();
        }
        let prefix = match self.quota.stat_prefix.as_str() {
            "" => format!("cluster.{cluster}.ratelimit"),
            own => format!("cluster.{cluster}.ratelimit.{own}"),
        };
        let stats = registry.quota(&prefix);
        known.insert(cluster.to_owned(), stats.clone());
        stats
    }
}

/// Asks the service about a request: an answer, if it is not to go on.
pub(crate) async fn run(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    view: &QuotaView,
) -> Result<Option<Reply<'static>>, Failure> {
    let quota = &view.quota;
    let call = client.call();
    // As in Envoy, what has no route, or no cluster there, is not counted.
    let cluster = exchange
        .cluster
        .as_ref()
        .filter(|_| exchange.route.is_some());
    let Some(cluster) = cluster.map(|cluster| cluster.cluster.name.clone()) else {
        return Ok(None);
    };
    if !call.is_in(quota.enabled) {
        return Ok(None);
    }
    let rules = (quota.rules.as_slice(), quota.stage, OfHost::Override);
    let descriptors = call.descriptors(exchange, rules);
    if descriptors.is_empty() {
        return Ok(None);
    }
    let entry = |(key, value)| Entry { key, value };
    let descriptors = descriptors.into_iter().map(|parts| RateLimitDescriptor {
        entries: parts.into_iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    });
    let body = framed(&RateLimitRequest {
        domain: quota.domain.clone(),
        descriptors: descriptors.collect(),
        hits_addend: 0,
    });
    let (answered, took) = ask(client, exchange, quota, &body).await?;
    let stats = view.of_cluster(&cluster, &client.call().worker.registry);
    let limited = |result| Limited {
        quota: quota.clone(),
        result,
        took,
    };
    Ok(client
        .call_mut()
        .settle_quota(exchange, answered, &stats, &limited))
}

/// Asks the service: what it says, and how long that took.
async fn ask(
    client: &mut impl Waits,
    exchange: &Exchange,
    quota: &Quota,
    body: &[u8],
) -> Result<(Answered, Micros), Failure> {
    let call = client.call();
    let begin = call.worker.clock.now();
    let mut fields = b"te: trailers\r\ncontent-type: application/grpc\r\n".to_vec();
    fields.extend_from_slice(&quota.fields);
    let span = call.inject_child(exchange, &mut fields);
    let worker = call.worker.clone();
    let mut answer = Answer::default();
    let errand = Errand {
        cluster: &quota.cluster,
        method: "POST",
        host: &quota.host,
        path: METHOD,
        fields: &fields,
        body: Some([body, b""]),
        timeout: quota.timeout,
        most_bytes: MOST_ANSWER,
    };
    let asked = while_there(client, errand::run(&worker, errand, &mut answer)).await?;
    let answered = match asked {
        Err(trouble) => Err(trouble.to_string()),
        Ok(()) => answer.message::<RateLimitResponse>(),
    };
    let answered = Answered::of(answered);
    let call = client.call();
    if let Some(span) = span {
        let child = Child {
            cluster: &quota.cluster,
            name: "async envoy.service.ratelimit.v3.RateLimitService.ShouldRateLimit egress",
            tag: answered.word().map(|word| ("ratelimit_status", word)),
            trouble: answered.trouble(),
        };
        call.report_child(&span, &child, (begin, &answer));
    }
    Ok((answered, call.worker.clock.now().saturating_sub(begin)))
}

impl Call {
    /// Does what the service says: an answer, if the request is not to go on.
    fn settle_quota(
        &mut self,
        exchange: &mut Exchange,
        mut answered: Answered,
        stats: &QuotaStats,
        limited: &dyn Fn(&'static str) -> Limited,
    ) -> Option<Reply<'static>> {
        let tell = |exchange: &mut Exchange, count: &Count, result| {
            count.increment();
            let limited = limited(result);
            let quota = limited.quota.clone();
            exchange.rare().limited = Some(limited);
            quota
        };
        let left_out = answered.leave_out_framing();
        if left_out > 0 {
            stats.ignored_framing_headers.add(left_out as u64);
            tell_of_framing(&limited("").quota.cluster);
        }
        let response = match answered {
            Answered::Failed(reason) => {
                let quota = tell(exchange, &stats.error, "error");
                let cluster = &quota.cluster;
                tracing::debug!(cluster, reason, "no quota could be asked for");
                if self.is_in(quota.denied_on_failure) {
                    exchange.flags.set(Flag::RLSE);
                    exchange.rare().details = Some("rate_limiter_error".into());
                    return Some(Reply::new(quota.status_on_error, ""));
                }
                tell(
                    exchange,
                    &stats.failure_mode_allowed,
                    "failure_mode_allowed",
                );
                return None;
            }
            Answered::Ok(response) => {
                let quota = tell(exchange, &stats.ok, "ok");
                let said = response.said(&quota, false);
                exchange.rare().said.extend(said);
                response
            }
            Answered::Over(response) => {
                let quota = tell(exchange, &stats.over_limit, "over_limit");
                if let Some(cluster) = &exchange.cluster {
                    cluster.stats.rq.count(quota.status);
                }
                let said = response.said(&quota, true);
                exchange.rare().said.extend(said);
                if self.is_in(quota.enforced) {
                    exchange.flags.set(Flag::RL);
                    exchange.rare().details = Some("request_rate_limited".into());
                    return Some(Reply {
                        grpc_status: quota.is_exhausted.then_some(grpc::RESOURCE_EXHAUSTED),
                        ..Reply::new(quota.status, response.body())
                    });
                }
                response
            }
        };
        self.edit_head(&[], &response.added())
    }
}
