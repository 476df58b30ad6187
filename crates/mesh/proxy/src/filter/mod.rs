//! HTTP filters: worked off one after the other, before a request goes on.
//!
//! What a route's requests meet is worked out when routes are compiled; where that is nothing, a request
//! costs nothing here.

mod fault;

pub(crate) use self::fault::Faults;

use crate::acquire::Waits;
use crate::call::Call;
use crate::exchange::Exchange;
use crate::plan::Plan;
use crate::reply::Failure;
use crate::snapshot::{Filter, HttpFilter, PerFilter, PerFilters};

/// The filters that the requests of a route meet.
pub(crate) fn active<'a>(
    filters: &'a [HttpFilter],
    wanted: impl Fn(&str) -> Option<&'a PerFilter>,
) -> Vec<Filter> {
    let of_route = |filter: &HttpFilter| match wanted(&filter.name) {
        Some(PerFilter::Off) => None,
        Some(PerFilter::On) => Some(filter.filter.clone()),
        // The configuration of another filter under this one's name is none of its.
        Some(PerFilter::Own(own)) if is_same(own, &filter.filter) => Some(own.clone()),
        Some(PerFilter::Own(_)) | None if filter.disabled => None,
        Some(PerFilter::Own(_)) | None => Some(filter.filter.clone()),
    };
    let does_something = |filter: &Filter| match filter {
        Filter::Fault(fault) => fault.delay.is_some() || fault.abort.is_some(),
    };
    let wanted = filters.iter().filter_map(of_route);
    wanted.filter(does_something).collect()
}

fn is_same(one: &Filter, other: &Filter) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// What the most specific level wants of a filter.
pub(crate) fn of_levels<'a>(
    levels: [Option<&'a PerFilters>; 2],
    name: &str,
) -> Option<&'a PerFilter> {
    levels
        .into_iter()
        .flatten()
        .find_map(|level| level.get(name))
}

impl Call {
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
        };
        if let Some(reply) = answer {
            return Ok(Plan::Reply(reply));
        }
    }
    exchange.onward = client.call().worker.clock.now();
    Ok(plan)
}
