//! Leave to send a request, to wait for a connection, to open one: the circuit breakers.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::balance::{Ask, Chance, Elsewhere};
use crate::reply::Failure;
use crate::trace::Occupied;
use crate::upstream::connection::Slot;
use crate::upstream::usage::Counter;
use crate::upstream::{ClusterState, EndpointState, Permit, Pooled};

/// A request that may be sent to an endpoint; it counts as active until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    cluster: Rc<ClusterState>,
    endpoint: Rc<EndpointState>,
    _permit: Permit,
}

impl ClusterState {
    /// Picks an endpoint, unless there is none or the circuit breaker is open.
    #[inline]
    pub(crate) fn admit(
        self: &Rc<Self>,
        ask: Ask<'_>,
        chance: &impl Chance,
    ) -> Result<Admitted, Failure> {
        if self.cluster.spread.drops_per_million > 0 {
            self.drop_some(chance)?;
        }
        self.admit_at(self.pick(ask, chance), ask.is_high_priority)
    }

    #[inline]
    fn admit_at(
        self: &Rc<Self>,
        endpoint: Option<Rc<EndpointState>>,
        is_high_priority: bool,
    ) -> Result<Admitted, Failure> {
        let Some(endpoint) = endpoint else {
            self.stats.cx_none_healthy.increment();
            return Err(Failure::NoEndpoint);
        };
        let Some(permit) = self.request_permit(is_high_priority) else {
            self.stats.rq_pending_overflow.increment();
            return Err(Failure::Overflow);
        };
        self.stats.rq_total.increment();
        self.stats.rq_active.increment();
        endpoint.active.set(endpoint.active.get() + 1);
        Ok(Admitted {
            cluster: self.clone(),
            endpoint,
            _permit: permit,
        })
    }

    /// The same for another attempt: up to so many times another endpoint is chosen than those before.
    #[cold]
    pub(crate) fn admit_again(
        self: &Rc<Self>,
        ask: Ask<'_>,
        chance: &impl Chance,
        before: &[SocketAddr],
        (attempts, other_priorities): (u32, Option<NonZeroU32>),
    ) -> Result<Admitted, Failure> {
        let priority = |address: &SocketAddr| {
            let mut endpoints = self.cluster.endpoints.iter();
            Some(endpoints.find(|one| one.address == *address)?.priority)
        };
        let had: Vec<u32> = match other_priorities {
            Some(_) => before.iter().filter_map(priority).collect(),
            None => Vec::new(),
        };
        let elsewhere = other_priorities.map(|every| Elsewhere { had: &had, every });
        let pick = |ask: Ask<'_>| self.pick_from(elsewhere.as_ref(), ask, chance);
        let mut endpoint = pick(ask);
        for passed_over in 1..=attempts {
            let is_known = |picked: &Rc<EndpointState>| before.contains(&picked.address);
            if !endpoint.as_ref().is_some_and(is_known) {
                break;
            }
            let ask = Ask { passed_over, ..ask };
            endpoint = pick(ask);
        }
        self.admit_at(endpoint, ask.is_high_priority)
    }

    /// What is in use.
    pub(crate) fn occupied(&self, endpoint: Option<&EndpointState>, is_high: bool) -> Occupied {
        let used = self.usage.of(is_high);
        let now = |count: &AtomicU32| count.load(Ordering::Relaxed);
        Occupied {
            requests: now(&used.requests),
            pending: now(&used.pending),
            connections: now(&used.connections),
            retries: now(&used.retries),
            active: endpoint.map_or(0, |endpoint| endpoint.active.get()),
            open: endpoint.map_or(0, EndpointState::connections),
            is_high,
        }
    }

    /// Leave to have one more retry under way.
    pub(crate) fn retry_permit(&self, is_high: bool) -> Option<Permit> {
        let thresholds = self.cluster.limits.of(is_high);
        let limit = match thresholds.retry_budget {
            Some(budget) => budget.most(self.usage.of(is_high).active()),
            None => thresholds.max_retries,
        };
        Permit::take(&self.usage, Counter::retries(is_high), limit)
    }

    /// Refuses the share of the requests that the control plane wants to be refused.
    #[cold]
    fn drop_some(&self, chance: &impl Chance) -> Result<(), Failure> {
        let share = self.cluster.spread.drops_per_million;
        if chance.random() % 1_000_000 >= u64::from(share) {
            return Ok(());
        }
        self.stats.rq_dropped.increment();
        Err(Failure::Dropped {
            always: share >= 1_000_000,
        })
    }

    /// Leave to have one more request under way, unless the circuit breaker is open.
    #[inline]
    fn request_permit(&self, is_high: bool) -> Option<Permit> {
        let limit = self.cluster.limits.of(is_high).max_requests;
        Permit::take(&self.usage, Counter::requests(is_high), limit)
    }

    /// Leave to have one more request waiting for a connection.
    pub(crate) fn pending_permit(&self, is_high: bool) -> Option<Permit> {
        let limit = self.cluster.limits.of(is_high).max_pending_requests;
        Permit::take(&self.usage, Counter::pending(is_high), limit)
    }

    /// A connection of the endpoint's pool, or leave to open one.
    pub(crate) fn checkout(&self, endpoint: &Rc<EndpointState>, is_high: bool) -> Pooled {
        endpoint.checkout(&self.stats, |first| {
            self.connection_permit(endpoint, first, is_high)
        })
    }

    /// Leave to open a connection to the endpoint.
    pub(super) fn slot(&self, endpoint: &Rc<EndpointState>, is_high: bool) -> Option<Slot> {
        endpoint.slot(&self.stats, |first| {
            self.connection_permit(endpoint, first, is_high)
        })
    }

    /// Leave to open a connection to the endpoint that no pool will have.
    pub(crate) fn own_slot(&self, endpoint: &Rc<EndpointState>) -> Option<Slot> {
        // Nobody waits for it, so that the limit holds for the first one too.
        endpoint.slot(&self.stats, |_| {
            self.connection_permit(endpoint, false, false)
        })
    }

    /// Leave to have one more connection; the first one to an endpoint is always allowed.
    fn connection_permit(
        &self,
        endpoint: &EndpointState,
        first: bool,
        is_high: bool,
    ) -> Option<Permit> {
        let counter = Counter::connections(is_high);
        let limits = &self.cluster.limits;
        let limit = limits.of(is_high).max_connections;
        let is_full = |most: u32| endpoint.connections() >= most;
        let permit = if limits.connections_per_host.is_some_and(is_full) {
            None
        } else {
            Permit::take(&self.usage, counter, limit)
        };
        if permit.is_none() {
            self.stats.cx_overflow.increment();
            if first {
                return Some(Permit::force(&self.usage, counter, limit));
            }
        }
        permit
    }
}

impl Admitted {
    /// Where to.
    pub(crate) fn endpoint(&self) -> &Rc<EndpointState> {
        &self.endpoint
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let active = &self.endpoint.active;
        active.set(active.get() - 1);
        self.cluster.stats.rq_active.decrement();
    }
}
