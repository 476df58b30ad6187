//! `envoy.filters.http.health_check`.

use envoy_types::pb::envoy::extensions::filters::http::health_check::v3 as pb;

use crate::config::check::{At, Refused, nothing_else};
use crate::config::matcher;
use crate::snapshot::HealthFilter;

pub(super) fn compile(mut given: pb::HealthCheck, at: &At<'_>) -> Result<HealthFilter, Refused> {
    let passes = given.pass_through_mode.take();
    let passes = passes.ok_or_else(|| at.field("pass_through_mode").refuse("it must be given"))?;
    let at_headers = &at.field("headers");
    let headers = std::mem::take(&mut given.headers).into_iter().enumerate();
    let headers = headers.map(|(index, one)| matcher::header(one, &at_headers.index(index)));
    let headers = headers.collect::<Result<_, _>>()?;
    let percentages = std::mem::take(&mut given.cluster_min_healthy_percentages);
    if passes.value && !percentages.is_empty() {
        let at = at.field("cluster_min_healthy_percentages");
        return Err(at.refuse("it goes with pass_through_mode false only"));
    }
    let percentages = percentages.into_iter();
    let mut least_healthy: Vec<_> = percentages
        .map(|(cluster, percent)| (cluster, (percent.value.clamp(0.0, 100.0) * 10_000.0) as u64))
        .collect();
    least_healthy.sort();
    nothing_else(&given, at)?;
    Ok(HealthFilter {
        passes: passes.value,
        headers,
        least_healthy,
    })
}
