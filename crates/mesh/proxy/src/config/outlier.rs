//! `OutlierDetection`.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::check::{At, Refused, duration, flag, nothing_else};
use crate::snapshot::{Enforcing, OutlierDetection};

pub(super) fn compile(
    mut config: pb::OutlierDetection,
    at: &At<'_>,
) -> Result<OutlierDetection, Refused> {
    let unset = OutlierDetection::default();
    let time = |value, name, unset| {
        let value = duration(value, &at.field(name))?.unwrap_or(unset);
        Ok::<Duration, Refused>(value)
    };
    let number = |value: Option<UInt32Value>, unset: u32| value.map_or(unset, |value| value.value);
    let interval = time(config.interval.take(), "interval", unset.interval)?;
    if interval.is_zero() {
        return Err(at.field("interval").refuse("it must be more than 0s"));
    }
    let base = config.base_ejection_time.take();
    let base = time(base, "base_ejection_time", unset.base_ejection_time)?;
    let longest = unset.max_ejection_time.max(base);
    let longest = time(
        config.max_ejection_time.take(),
        "max_ejection_time",
        longest,
    )?;
    if longest < base {
        let at = at.field("max_ejection_time");
        return Err(at.refuse("it must not be less than base_ejection_time"));
    }
    let jitter = config.max_ejection_time_jitter.take();
    let most = config.max_ejection_percent.take();
    let minimum = config.success_rate_minimum_hosts.take();
    let of_percentage = config.failure_percentage_minimum_hosts.take();
    let threshold = config.failure_percentage_threshold.take();
    let compiled = OutlierDetection {
        consecutive_5xx: number(config.consecutive_5xx.take(), unset.consecutive_5xx),
        consecutive_gateway_failure: number(
            config.consecutive_gateway_failure.take(),
            unset.consecutive_gateway_failure,
        ),
        consecutive_local_origin_failure: number(
            config.consecutive_local_origin_failure.take(),
            unset.consecutive_local_origin_failure,
        ),
        splits_origins: std::mem::take(&mut config.split_external_local_origin_errors),
        interval,
        base_ejection_time: base,
        max_ejection_time: longest,
        max_ejection_time_jitter: time(jitter, "max_ejection_time_jitter", Duration::ZERO)?,
        max_ejection_percent: percent(
            most,
            unset.max_ejection_percent,
            at,
            "max_ejection_percent",
        )?,
        always_ejects_one: flag(config.always_eject_one_host.take(), false),
        enforcing: enforcing(&mut config, &unset.enforcing, at)?,
        success_rate_minimum_hosts: minimum
            .map_or(unset.success_rate_minimum_hosts, |n| n.value as usize),
        success_rate_request_volume: config
            .success_rate_request_volume
            .take()
            .map_or(unset.success_rate_request_volume, |n| n.value.into()),
        success_rate_stdev_factor: number(
            config.success_rate_stdev_factor.take(),
            unset.success_rate_stdev_factor,
        ),
        failure_percentage_threshold: percent(
            threshold,
            unset.failure_percentage_threshold,
            at,
            "failure_percentage_threshold",
        )?,
        failure_percentage_minimum_hosts: of_percentage
            .map_or(unset.failure_percentage_minimum_hosts, |n| n.value as usize),
        failure_percentage_request_volume: config
            .failure_percentage_request_volume
            .take()
            .map_or(unset.failure_percentage_request_volume, |n| n.value.into()),
        check_unejects: flag(
            config.successful_active_health_check_uneject_host.take(),
            true,
        ),
    };
    nothing_else(&config, at)?;
    Ok(compiled)
}

fn enforcing(
    config: &mut pb::OutlierDetection,
    unset: &Enforcing,
    at: &At<'_>,
) -> Result<Enforcing, Refused> {
    let share =
        |value: &mut Option<UInt32Value>, unset, name| percent(value.take(), unset, at, name);
    Ok(Enforcing {
        consecutive_5xx: share(
            &mut config.enforcing_consecutive_5xx,
            unset.consecutive_5xx,
            "enforcing_consecutive_5xx",
        )?,
        consecutive_gateway_failure: share(
            &mut config.enforcing_consecutive_gateway_failure,
            unset.consecutive_gateway_failure,
            "enforcing_consecutive_gateway_failure",
        )?,
        consecutive_local_origin_failure: share(
            &mut config.enforcing_consecutive_local_origin_failure,
            unset.consecutive_local_origin_failure,
            "enforcing_consecutive_local_origin_failure",
        )?,
        success_rate: share(
            &mut config.enforcing_success_rate,
            unset.success_rate,
            "enforcing_success_rate",
        )?,
        local_origin_success_rate: share(
            &mut config.enforcing_local_origin_success_rate,
            unset.local_origin_success_rate,
            "enforcing_local_origin_success_rate",
        )?,
        failure_percentage: share(
            &mut config.enforcing_failure_percentage,
            unset.failure_percentage,
            "enforcing_failure_percentage",
        )?,
        failure_percentage_local_origin: share(
            &mut config.enforcing_failure_percentage_local_origin,
            unset.failure_percentage_local_origin,
            "enforcing_failure_percentage_local_origin",
        )?,
    })
}

fn percent(
    value: Option<UInt32Value>,
    unset: u32,
    at: &At<'_>,
    name: &str,
) -> Result<u32, Refused> {
    match value {
        None => Ok(unset),
        Some(value) if value.value <= 100 => Ok(value.value),
        Some(_) => Err(at.field(name).refuse("it must not be more than 100")),
    }
}
