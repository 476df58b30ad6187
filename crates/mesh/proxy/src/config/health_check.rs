//! `HealthCheck`.

use std::ops::RangeInclusive;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::health_check as kinds;
use envoy_types::pb::envoy::config::core::v3::health_check::HealthChecker;
use envoy_types::pb::envoy::config::core::v3::health_check::payload::Payload;
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use envoy_types::pb::google::protobuf;

use super::check::{At, Refused, duration, flag, ignored, nothing_else};
use crate::snapshot::{GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Intervals, TcpCheck};

const DEFAULT_NO_TRAFFIC: Duration = Duration::from_secs(60);
const DEFAULT_BUFFER: usize = 1024;
const MAX_BUFFER: u64 = 64 * 1024;
/// The shortest time between two checks: less would be a load of its own.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

pub(super) fn compile(mut check: pb::HealthCheck, at: &At<'_>) -> Result<HealthCheck, Refused> {
    let timeout = required(check.timeout.take(), &at.field("timeout"))?;
    let intervals = intervals(&mut check, at)?;
    let threshold = |value: Option<protobuf::UInt32Value>, name| match value {
        Some(value) => Ok(value.value.max(1)),
        None => Err(at.field(name).refuse("it must be given")),
    };
    let unhealthy_threshold = threshold(check.unhealthy_threshold.take(), "unhealthy_threshold")?;
    let healthy_threshold = threshold(check.healthy_threshold.take(), "healthy_threshold")?;
    let port = match check.alt_port.take() {
        None => None,
        Some(port) => Some(u16::try_from(port.value).map_err(|_| {
            let reason = format!("{} is not a port", port.value);
            at.field("alt_port").refuse(reason)
        })?),
    };
    let reuses_connection = flag(check.reuse_connection.take(), true);
    let kind = match check.health_checker.take() {
        Some(HealthChecker::HttpHealthCheck(check)) => {
            HealthCheckKind::Http(http(check, &at.field("http_health_check"))?)
        }
        Some(HealthChecker::GrpcHealthCheck(check)) => {
            HealthCheckKind::Grpc(grpc(check, &at.field("grpc_health_check"))?)
        }
        Some(HealthChecker::TcpHealthCheck(check)) => {
            HealthCheckKind::Tcp(tcp(check, &at.field("tcp_health_check"))?)
        }
        Some(HealthChecker::CustomHealthCheck(check)) => {
            let reason = format!("{:?} is not supported", check.name);
            return Err(at.field("custom_health_check").refuse(reason));
        }
        None => return Err(at.refuse("its kind must be given")),
    };
    ignored!(check: event_log_path, event_logger, event_service,
        always_log_health_check_failures, always_log_health_check_success);
    nothing_else(&check, at)?;
    Ok(HealthCheck {
        timeout,
        intervals,
        unhealthy_threshold,
        healthy_threshold,
        port,
        reuses_connection,
        kind,
    })
}

fn intervals(check: &mut pb::HealthCheck, at: &At<'_>) -> Result<Intervals, Refused> {
    let usual = required(check.interval.take(), &at.field("interval"))?.max(MIN_INTERVAL);
    let time = |value, name, unset: Duration| {
        let given = duration(value, &at.field(name))?;
        Ok::<Duration, Refused>(given.filter(|time| !time.is_zero()).unwrap_or(unset))
    };
    let zero = Duration::ZERO;
    let no_traffic = check.no_traffic_interval.take();
    let no_traffic = time(no_traffic, "no_traffic_interval", DEFAULT_NO_TRAFFIC)?;
    let of_healthy = check.no_traffic_healthy_interval.take();
    let unhealthy = time(check.unhealthy_interval.take(), "unhealthy_interval", usual)?;
    let unhealthy_edge = check.unhealthy_edge_interval.take();
    let healthy_edge = check.healthy_edge_interval.take();
    Ok(Intervals {
        initial_jitter: time(check.initial_jitter.take(), "initial_jitter", zero)?,
        usual,
        no_traffic,
        no_traffic_healthy: time(of_healthy, "no_traffic_healthy_interval", no_traffic)?,
        unhealthy,
        unhealthy_edge: time(unhealthy_edge, "unhealthy_edge_interval", unhealthy)?,
        healthy_edge: time(healthy_edge, "healthy_edge_interval", usual)?,
        jitter: time(check.interval_jitter.take(), "interval_jitter", zero)?,
        jitter_percent: std::mem::take(&mut check.interval_jitter_percent),
    })
}

fn required(value: Option<protobuf::Duration>, at: &At<'_>) -> Result<Duration, Refused> {
    match duration(value, at)? {
        Some(time) if !time.is_zero() => Ok(time),
        _ => Err(at.refuse("it must be given, and more than 0s")),
    }
}

fn http(mut check: kinds::HttpHealthCheck, at: &At<'_>) -> Result<HttpCheck, Refused> {
    let path = std::mem::take(&mut check.path);
    if !path.starts_with('/') {
        return Err(at.field("path").refuse("it must begin with a slash"));
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(at.field("path").refuse("it must be one token"));
    }
    let method = match pb::RequestMethod::try_from(std::mem::take(&mut check.method)) {
        Ok(pb::RequestMethod::MethodUnspecified) => "GET",
        Ok(pb::RequestMethod::Connect) => {
            return Err(at.field("method").refuse("CONNECT is not supported"));
        }
        Ok(method) => method.as_str_name(),
        Err(_) => return Err(at.field("method").refuse("is not known")),
    };
    let codec = CodecClientType::try_from(std::mem::take(&mut check.codec_client_type));
    let is_http2 = match codec {
        Ok(CodecClientType::Http1) => false,
        Ok(CodecClientType::Http2) => true,
        Ok(CodecClientType::Http3) => {
            return Err(at
                .field("codec_client_type")
                .refuse("HTTP3 is not supported"));
        }
        Err(_) => return Err(at.field("codec_client_type").refuse("is not known")),
    };
    let mut expected = statuses(
        std::mem::take(&mut check.expected_statuses),
        &at.field("expected_statuses"),
    )?;
    if expected.is_empty() {
        expected.push(200..=200);
    }
    let retriable = std::mem::take(&mut check.retriable_statuses);
    let receive = std::mem::take(&mut check.receive);
    let size = check
        .response_buffer_size
        .take()
        .map_or(0, |size| size.value);
    if size > MAX_BUFFER {
        let reason = format!("it must not be more than {MAX_BUFFER}");
        return Err(at.field("response_buffer_size").refuse(reason));
    }
    let host = std::mem::take(&mut check.host);
    let added = std::mem::take(&mut check.request_headers_to_add);
    let compiled = HttpCheck {
        host,
        path,
        method,
        headers: headers(added, &at.field("request_headers_to_add"))?,
        expected,
        retriable: statuses(retriable, &at.field("retriable_statuses"))?,
        receive: payloads(receive, &at.field("receive"))?,
        response_buffer_size: if size == 0 {
            DEFAULT_BUFFER
        } else {
            size as usize
        },
        is_http2,
    };
    nothing_else(&check, at)?;
    Ok(compiled)
}

fn grpc(mut check: kinds::GrpcHealthCheck, at: &At<'_>) -> Result<GrpcCheck, Refused> {
    let metadata = std::mem::take(&mut check.initial_metadata);
    let compiled = GrpcCheck {
        service: std::mem::take(&mut check.service_name),
        authority: std::mem::take(&mut check.authority),
        metadata: headers(metadata, &at.field("initial_metadata"))?,
    };
    nothing_else(&check, at)?;
    Ok(compiled)
}

fn tcp(mut check: kinds::TcpHealthCheck, at: &At<'_>) -> Result<TcpCheck, Refused> {
    let send = match check.send.take() {
        Some(payload) => self::payload(payload, &at.field("send"))?,
        None => Vec::new(),
    };
    let receive = std::mem::take(&mut check.receive);
    let compiled = TcpCheck {
        send,
        receive: payloads(receive, &at.field("receive"))?,
    };
    nothing_else(&check, at)?;
    Ok(compiled)
}

/// The end of a range does not belong to it.
fn statuses(ranges: Vec<Int64Range>, at: &At<'_>) -> Result<Vec<RangeInclusive<u16>>, Refused> {
    let of_range = |(index, range): (usize, Int64Range)| {
        let valid = 100 <= range.start && range.start < range.end && range.end <= 600;
        if !valid {
            let at = at.index(index);
            return Err(at.refuse("it must lie between 100 and 600, and not be empty"));
        }
        Ok(range.start as u16..=(range.end - 1) as u16)
    };
    ranges.into_iter().enumerate().map(of_range).collect()
}

fn payloads(list: Vec<kinds::Payload>, at: &At<'_>) -> Result<Vec<Vec<u8>>, Refused> {
    let of_payload = |(index, one)| payload(one, &at.index(index));
    list.into_iter().enumerate().map(of_payload).collect()
}

fn payload(payload: kinds::Payload, at: &At<'_>) -> Result<Vec<u8>, Refused> {
    match payload.payload {
        Some(Payload::Binary(bytes)) => Ok(bytes),
        Some(Payload::Text(text)) => {
            let digits = text.as_bytes();
            let pairs = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2);
                pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
            });
            let bytes: Option<Vec<u8>> = pairs.collect();
            let bytes = bytes.filter(|bytes| !bytes.is_empty());
            bytes.ok_or_else(|| at.field("text").refuse("it must be hexadecimal digits"))
        }
        None => Err(at.refuse("it must be text or binary")),
    }
}

fn headers(
    list: Vec<pb::HeaderValueOption>,
    at: &At<'_>,
) -> Result<Vec<(String, String)>, Refused> {
    let of_option = |(index, option): (usize, pb::HeaderValueOption)| {
        let at = &at.index(index);
        let mut option = option;
        let header = option.header.take().unwrap_or_default();
        let name = header.key.to_ascii_lowercase();
        let is_token = !name.is_empty() && http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if !is_token || http::HeaderValue::from_str(&header.value).is_err() {
            return Err(at.field("header").refuse("it is not a valid header"));
        }
        if header.value.contains('%') {
            let at = at.field("header");
            return Err(at.field("value").refuse("formats are not supported"));
        }
        if !header.raw_value.is_empty() {
            let at = at.field("header");
            return Err(at.field("raw_value").refuse("is not supported"));
        }
        // Nothing else is there yet that a header could be added to, or replace.
        option.append_action = HeaderAppendAction::AppendIfExistsOrAdd as i32;
        ignored!(option: append, keep_empty_value);
        nothing_else(&option, at)?;
        Ok((name, header.value))
    };
    list.into_iter().enumerate().map(of_option).collect()
}
