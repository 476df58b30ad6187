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
        let (status, details) = match self.sick(filter) {
            _ if fails => (503, "health_check_failed"),
            Some(why) => (503, why),
            None if filter.least_healthy.is_empty() => (200, "health_check_ok"),
            None => (200, "health_check_ok_cluster_healthy"),
        };
        if status != 200 {
            exchange.flags.set(Flag::LH);
        }
        exchange.rare().details = Some(details.into());
        Some(Reply::new(status, ""))
    }

    /// Why not enough endpoints of a cluster are healthy, of which that is asked.
    fn sick(&self, filter: &HealthFilter) -> Option<&'static str> {
        let view = self.worker.view();
        filter.least_healthy.iter().find_map(|(cluster, share)| {
            let Some(cluster) = view.clusters.get(cluster) else {
                return Some("health_check_failed_no_cluster_found");
            };
            let counts = cluster.counts();
            match counts.total {
                0 if *share > 0 => Some("health_check_failed_cluster_empty"),
                total if counts.healthy * 1_000_000 < total * share => {
                    Some("health_check_failed_cluster_unhealthy")
                }
                _ => None,
            }
        })
    }
}
