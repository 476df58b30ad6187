//! `Http2ProtocolOptions`.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;

use super::check::{At, Refused, duration, ignored, nothing_else};
use crate::snapshot::{Http2Options, Keepalive};

/// Windows may not be smaller than what RFC 9113 §6.9.2 starts with; Envoy says the same.
const SMALLEST_WINDOW: u32 = 65_535;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// `interval_jitter`, when it is not set.
const DEFAULT_JITTER_PERCENT: u32 = 15;

pub(crate) fn compile(
    mut options: core::Http2ProtocolOptions,
    at: &At<'_>,
) -> Result<Http2Options, Refused> {
    let unset = Http2Options::default();
    let value = |value: Option<_>, unset, at: &At<'_>, low, high| {
        let value = value.map_or(
            unset,
            |v: envoy_types::pb::google::protobuf::UInt32Value| v.value,
        );
        if (low..=high).contains(&value) {
            return Ok(value);
        }
        Err(at.refuse(format!("it must be {low} to {high}")))
    };
    let window =
        |window, unset, at: &At<'_>| value(window, unset, at, SMALLEST_WINDOW, LARGEST_WINDOW);
    let compiled = Http2Options {
        header_table_size: value(
            options.hpack_table_size.take(),
            unset.header_table_size,
            &at.field("hpack_table_size"),
            0,
            u32::MAX,
        )?,
        max_concurrent_streams: value(
            options.max_concurrent_streams.take(),
            unset.max_concurrent_streams,
            &at.field("max_concurrent_streams"),
            1,
            LARGEST_WINDOW,
        )?,
        initial_stream_window_size: window(
            options.initial_stream_window_size.take(),
            unset.initial_stream_window_size,
            &at.field("initial_stream_window_size"),
        )?,
        initial_connection_window_size: window(
            options.initial_connection_window_size.take(),
            unset.initial_connection_window_size,
            &at.field("initial_connection_window_size"),
        )?,
        keepalive: match options.connection_keepalive.take() {
            Some(settings) => keepalive(settings, &at.field("connection_keepalive"))?,
            None => None,
        },
        allow_connect: std::mem::take(&mut options.allow_connect),
    };
    // Floods are met by limits of the codec's own, and a stream in error never ends the connection.
    ignored!(options: max_outbound_frames, max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging, override_stream_error_on_invalid_http_message,
        use_oghttp2_codec);
    nothing_else(&options, at)?;
    Ok(compiled)
}

fn keepalive(
    mut settings: core::KeepaliveSettings,
    at: &At<'_>,
) -> Result<Option<Keepalive>, Refused> {
    let interval = duration(settings.interval.take(), &at.field("interval"))?;
    let answer = duration(settings.timeout.take(), &at.field("timeout"))?;
    let Some(answer) = answer.filter(|timeout| *timeout >= Duration::from_millis(1)) else {
        return Err(at.field("timeout").refuse("it must be at least 0.001s"));
    };
    let jitter = settings.interval_jitter.take();
    nothing_else(&settings, at)?;
    Ok(interval
        .filter(|interval| !interval.is_zero())
        .map(|interval| Keepalive {
            interval,
            timeout: answer,
            jitter_percent: jitter.map_or(DEFAULT_JITTER_PERCENT, |percent| {
                percent.value.clamp(0.0, 100.0) as u32
            }),
        }))
}
