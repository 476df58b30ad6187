//! `envoy.filters.http.fault`.

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay as PbDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;

use crate::config::check::{At, Refused, duration, ignored, nothing_else};
use crate::config::{fraction, matcher};
use crate::snapshot::{AbortAnswer, Fault, FaultAbort, FaultDelay, Share};

pub(super) fn compile(mut config: pb::HttpFault, at: &At<'_>) -> Result<Fault, Refused> {
    let delay = match config.delay.take() {
        Some(given) => delay(given, &at.field("delay"))?,
        None => None,
    };
    let abort = match config.abort.take() {
        Some(given) => Some(abort(given, &at.field("abort"))?),
        None => None,
    };
    let at_headers = &at.field("headers");
    let headers = std::mem::take(&mut config.headers)
        .into_iter()
        .enumerate()
        .map(|(index, condition)| matcher::header(condition, &at_headers.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    let cluster = std::mem::take(&mut config.upstream_cluster);
    let fault = Fault {
        cluster: Some(cluster).filter(|name| !name.is_empty()),
        headers,
        delay,
        abort,
        max_active: config.max_active_faults.take().map(|most| most.value),
    };
    // There is no runtime; and what is counted is counted for all callers together.
    ignored!(config: delay_percent_runtime, abort_percent_runtime, delay_duration_runtime,
        abort_http_status_runtime, max_active_faults_runtime, response_rate_limit_percent_runtime,
        abort_grpc_status_runtime, disable_downstream_cluster_stats, filter_metadata);
    nothing_else(&config, at)?;
    Ok(fault)
}

fn delay(mut config: PbDelay, at: &At<'_>) -> Result<Option<FaultDelay>, Refused> {
    let share = share(config.percentage.take(), &at.field("percentage"))?;
    let time = match config.fault_delay_secifier.take() {
        Some(FaultDelaySecifier::FixedDelay(time)) => {
            let at = &at.field("fixed_delay");
            match duration(Some(time), at)? {
                Some(time) if time.is_zero() => return Err(at.refuse("it must be more than 0s")),
                time => time,
            }
        }
        Some(FaultDelaySecifier::HeaderDelay(_)) => None,
        None => return Err(at.refuse("one of fixed_delay and header_delay must be given")),
    };
    Ok(Some(FaultDelay { share, time }))
}

fn abort(mut config: pb::FaultAbort, at: &At<'_>) -> Result<FaultAbort, Refused> {
    let share = share(config.percentage.take(), &at.field("percentage"))?;
    let answer = match config.error_type.take() {
        Some(ErrorType::HttpStatus(status)) => match u16::try_from(status) {
            Ok(status) if (200..600).contains(&status) => AbortAnswer::Http(status),
            _ => return Err(at.field("http_status").refuse("it must be 200 to 599")),
        },
        Some(ErrorType::GrpcStatus(status)) => match u8::try_from(status) {
            Ok(status) => AbortAnswer::Grpc(status),
            Err(_) => return Err(at.field("grpc_status").refuse("it must be less than 256")),
        },
        Some(ErrorType::HeaderAbort(_)) => AbortAnswer::Header,
        None => {
            let one = "one of http_status, grpc_status and header_abort must be given";
            return Err(at.refuse(one));
        }
    };
    let body = match std::mem::take(&mut config.response_body) {
        unset if unset.is_empty() => "fault filter abort".to_owned(),
        body => body,
    };
    nothing_else(&config, at)?;
    Ok(FaultAbort {
        share,
        answer,
        body,
    })
}

fn share(given: Option<FractionalPercent>, at: &At<'_>) -> Result<Share, Refused> {
    let given = given.unwrap_or_default();
    Ok(Share {
        unit: fraction::unit(&given, at)?,
        per_million: fraction::per_million(given, at)?,
    })
}
