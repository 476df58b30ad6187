//! `TcpKeepalive`, and the socket options that say the same.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::socket_option::Value;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::check::{At, Refused, ignored, nothing_else};
use crate::snapshot::TcpKeepalive;

/// What Linux takes for times, in seconds, and for the number of probes.
const MAX_SECONDS: u32 = 32_767;
const MAX_PROBES: u32 = 127;

/// None if it says that there is to be none.
pub(super) fn compile(
    mut given: pb::TcpKeepalive,
    at: &At<'_>,
) -> Result<Option<TcpKeepalive>, Refused> {
    let of = |value: Option<UInt32Value>, name, most| match value {
        Some(UInt32Value { value }) if value > most => {
            Err(at.field(name).refuse(format!("it must be 0 to {most}")))
        }
        other => Ok(other.map(|value| value.value)),
    };
    let probes = of(
        given.keepalive_probes.take(),
        "keepalive_probes",
        MAX_PROBES,
    )?;
    let time = of(given.keepalive_time.take(), "keepalive_time", MAX_SECONDS)?;
    let interval = given.keepalive_interval.take();
    let interval = of(interval, "keepalive_interval", MAX_SECONDS)?;
    nothing_else(&given, at)?;
    if [probes, time, interval].contains(&Some(0)) {
        return Ok(None);
    }
    let seconds = |count: u32| Duration::from_secs(count.into());
    Ok(Some(TcpKeepalive {
        probes,
        time: time.map(seconds),
        interval: interval.map(seconds),
    }))
}

/// What socket options say about it, if they do: no others are taken. The numbers are Linux's.
pub(super) fn of_options(
    options: Vec<pb::SocketOption>,
    at: &At<'_>,
) -> Result<Option<TcpKeepalive>, Refused> {
    const SOL_SOCKET: i64 = 1;
    const SO_KEEPALIVE: i64 = 9;
    const IPPROTO_TCP: i64 = 6;
    if options.is_empty() {
        return Ok(Some(TcpKeepalive::UNLESS_TOLD));
    }
    let mut is_on = false;
    let mut given = pb::TcpKeepalive::default();
    for (index, mut option) in options.into_iter().enumerate() {
        let at = &at.index(index);
        let (level, name) = (option.level, option.name);
        let value = match option.value.take() {
            Some(Value::IntValue(value)) => u32::try_from(value).ok(),
            _ => None,
        };
        let Some(value) = value else {
            return Err(at
                .field("int_value")
                .refuse("it must be given, and not be negative"));
        };
        let number = Some(UInt32Value { value });
        match (level, name) {
            (SOL_SOCKET, SO_KEEPALIVE) => is_on = value > 0,
            (IPPROTO_TCP, 4) => given.keepalive_time = number,
            (IPPROTO_TCP, 5) => given.keepalive_interval = number,
            (IPPROTO_TCP, 6) => given.keepalive_probes = number,
            _ => {
                return Err(at.refuse(format!(
                    "option {name} of level {level} is not supported, only SO_KEEPALIVE, TCP_KEEPIDLE, \
                     TCP_KEEPINTVL and TCP_KEEPCNT of Linux are"
                )));
            }
        }
        // Options of all kinds of sockets, set whenever there is time to.
        ignored!(option: description, level, name, state);
        nothing_else(&option, at)?;
    }
    let keepalive = compile(given, at)?;
    Ok(keepalive.filter(|_| is_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u32) -> Option<UInt32Value> {
        Some(UInt32Value { value })
    }

    #[test]
    fn what_is_said_in_either_form() {
        let option = |level, name, value| pb::SocketOption {
            level,
            name,
            value: Some(Value::IntValue(value)),
            ..Default::default()
        };
        let whole = TcpKeepalive {
            probes: Some(3),
            time: Some(Duration::from_secs(30)),
            interval: Some(Duration::from_secs(5)),
        };
        let given = pb::TcpKeepalive {
            keepalive_probes: number(3),
            keepalive_time: number(30),
            keepalive_interval: number(5),
        };
        let at = &At::ROOT;
        assert_eq!(compile(given, at), Ok(Some(whole)));
        let unset = compile(pb::TcpKeepalive::default(), at);
        assert_eq!(unset, Ok(Some(TcpKeepalive::default())));
        let off = pb::TcpKeepalive {
            keepalive_time: number(0),
            ..given
        };
        assert_eq!(compile(off, at), Ok(None));

        let options = [option(6, 4, 30), option(6, 5, 5), option(6, 6, 3)].to_vec();
        assert_eq!(of_options(options.clone(), at), Ok(None));
        let options = [options, vec![option(1, 9, 1)]].concat();
        assert_eq!(of_options(options, at), Ok(Some(whole)));
        let unless_told = of_options(Vec::new(), at);
        assert_eq!(unless_told, Ok(Some(TcpKeepalive::UNLESS_TOLD)));
    }

    #[test]
    fn what_is_refused() {
        let at = &At::ROOT.field("socket_options");
        let text = |options| of_options(options, at).expect_err("refused").to_string();
        let fast_open = pb::SocketOption {
            level: 6,
            name: 23,
            value: Some(Value::IntValue(4)),
            ..Default::default()
        };
        assert_eq!(
            text(vec![fast_open.clone()]),
            "socket_options[0]: option 23 of level 6 is not supported, only SO_KEEPALIVE, TCP_KEEPIDLE, \
             TCP_KEEPINTVL and TCP_KEEPCNT of Linux are"
        );
        let without_value = pb::SocketOption {
            value: None,
            ..fast_open
        };
        assert_eq!(
            text(vec![without_value]),
            "socket_options[0].int_value: it must be given, and not be negative"
        );
        let long = pb::TcpKeepalive {
            keepalive_time: number(40_000),
            ..Default::default()
        };
        assert_eq!(
            compile(long, at).expect_err("refused").to_string(),
            "socket_options.keepalive_time: it must be 0 to 32767"
        );
    }
}
