//! HTTP filters: worked off one after the other, before a request goes on.
//!
//! What a route's requests meet is worked out when routes are compiled; where that is nothing, a request
//! costs nothing here.

mod cors;
mod fault;
mod limit;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use self::fault::Faults;
use crate::acquire::Waits;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::plan::Plan;
use crate::reply::Failure;
use crate::snapshot::{ConnectionManager, Filter, HttpFilter, PerFilter, PerFilters};
use crate::stats::{CorsStats, LimitStats};
use crate::worker::Worker;

/// What the filters of a connection manager have in common, if there are any of a kind.
#[derive(Debug)]
pub(crate) struct Shared {
    faults: Option<Rc<Faults>>,
    cors: Option<Arc<CorsStats>>,
    /// By their prefix, as far as they were asked for.
    limits: RefCell<Vec<(String, Arc<LimitStats>)>>,
}

impl Shared {
    pub(crate) fn new(manager: &ConnectionManager, worker: &Worker) -> Self {
        let (prefix, registry) = (&manager.stat_prefix, &worker.registry);
        let has = |is_it: fn(&Filter) -> bool| manager.filters.iter().any(|one| is_it(&one.filter));
        Self {
            faults: has(|filter| matches!(filter, Filter::Fault(_))).then(|| {
                Rc::new(Faults {
                    stats: registry.faults(prefix),
                    active: worker.usages.faults(prefix),
                })
            }),
            cors: has(|filter| matches!(filter, Filter::Cors(_))).then(|| registry.cors(prefix)),
            limits: RefCell::default(),
        }
    }
}

/// The filters that the requests of a route meet.
pub(crate) fn active(filters: &[HttpFilter], wanted: &PerFilters) -> Vec<Filter> {
    let of_route = |filter: &HttpFilter| match wanted.get(&filter.name) {
        Some(PerFilter::Off) => None,
        Some(PerFilter::On) => Some(filter.filter.clone()),
        // The configuration of another filter under this one's name is none of its.
        Some(PerFilter::Own(own)) if is_same(own, &filter.filter) => Some(own.clone()),
        Some(PerFilter::Own(_)) | None if filter.disabled => None,
        Some(PerFilter::Own(_)) | None => Some(filter.filter.clone()),
    };
    let does_something = |filter: &Filter| match filter {
        Filter::Fault(fault) => fault.delay.is_some() || fault.abort.is_some(),
        Filter::Limit(limit) => limit.enabled > 0,
        Filter::Cors(cors) => cors.enabled != Some(0) || cors.shadow.is_some(),
    };
    let wanted = filters.iter().filter_map(of_route);
    wanted.filter(does_something).collect()
}

fn is_same(one: &Filter, other: &Filter) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

impl Call {
    /// Whether a request is one of a share.
    pub(crate) fn is_in(&self, per_million: u32) -> bool {
        self.worker.random() % 1_000_000 < u64::from(per_million)
    }

    /// The counts of a rate limit.
    fn limit_stats(&self, prefix: &str) -> Arc<LimitStats> {
        let mut known = self.view.filters.limits.borrow_mut();
        if let Some((_, stats)) = known.iter().find(|(of, _)| of == prefix) {
            return stats.clone();
        }
        let stats = self.worker.registry.limit(prefix);
        known.push((prefix.to_owned(), stats.clone()));
        stats
    }

    /// The filters that a request meets.
    #[inline]
    pub(crate) fn filters(&self, exchange: &Exchange) -> &[Filter] {
        match &self.view.router {
            Some(router) => router.filters(exchange.route),
            None => &[],
        }
    }
}

/// Works the filters off: what becomes of the plan.
pub(crate) async fn work_off(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    plan: Plan,
) -> Result<Plan, Failure> {
    let count = client.call().filters(exchange).len();
    for index in 0..count {
        let filter = client.call().filters(exchange)[index].clone();
        let answer = match &filter {
            Filter::Fault(fault) => fault::run(client, exchange, fault).await?,
            Filter::Cors(policy) => client.call().cors(exchange, policy),
            Filter::Limit(limit) => client.call_mut().limit_rate(exchange, limit),
        };
        if let Some(reply) = answer {
            return Ok(Plan::Reply(reply));
        }
    }
    exchange.onward = client.call().worker.clock.now();
    Ok(plan)
}
