//! `envoy.filters.http.health_check`: answers those who ask how this proxy is, or lets them ask the application.

use crate::call::Call;
use crate::exchange::{Exchange, Said};
use crate::flags::Flag;
use crate::reply::Reply;
use crate::snapshot::HealthFilter;

impl Call {
    /// The answer to a question after the proxy's health, unless the application is to be asked.
    pub(super) fn tell_health(
        &self,
        exchange: &mut Exchange,
        filter: &HealthFilter,
    ) -> Option<Reply<'static>> {
        let fails = self.worker.open.fails_checks();
        let asking = self.asking(exchange);
        if !filter.headers.iter().all(|one| asking.has(one)) {
            if fails {
                let rare = exchange.rare();
                let told = Said::new("x-envoy-immediate-health-check-fail", b"true");
                rare.said.push(told);
            }
            return None;
        }
        let cluster = self.worker.node.cluster.as_bytes();
        let rare = exchange.rare();
        rare.is_health_check = true;
        let told = Said::new("x-envoy-upstream-healthchecked-cluster", cluster);
        rare.said.push(told);
        // As in Envoy, whatever was decided before.
        if let Some(trace) = &mut exchange.trace {
            trace.span.sampled = false;
        }
        if filter.passes && !fails {
            return None;
        }
        let status = match !fails && self.are_healthy(filter) {
            true => 200,
            false => 503,
        };
        if status != 200 {
            exchange.flags.set(Flag::LH);
        }
        Some(Reply::new(status, ""))
    }

    /// Whether enough endpoints of each cluster are, of which that is asked.
    fn are_healthy(&self, filter: &HealthFilter) -> bool {
        let view = self.worker.view();
        filter.least_healthy.iter().all(|(cluster, per_million)| {
            let counts = view.clusters.get(cluster).map(|cluster| cluster.counts());
            counts.is_some_and(|counts| match counts.total {
                0 => *per_million == 0,
                total => counts.healthy * 1_000_000 >= total * per_million,
            })
        })
    }
}
