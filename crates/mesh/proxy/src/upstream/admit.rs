//! Leave to send a request.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::reply::Failure;
use crate::upstream::{ClusterState, EndpointState, Permit};

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
        original: Option<SocketAddr>,
        random: impl FnMut() -> u64,
    ) -> Result<Admitted, Failure> {
        let Some(endpoint) = self.pick(original, random) else {
            self.stats.cx_none_healthy.increment();
            return Err(Failure::NoEndpoint);
        };
        let Some(permit) = self.request_permit() else {
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
