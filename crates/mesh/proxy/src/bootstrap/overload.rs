//! `overload_manager`: what is measured, and what is done when it is too much.

use std::time::Duration;

use serde::Deserialize;

use super::file::{Problem, problem};

const REFRESH: Duration = Duration::from_secs(1);
const MONITORS: &str = "overload_manager.resource_monitors";
const ACTIONS: &str = "overload_manager.actions";

/// `OverloadManager`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overload {
    /// `refresh_interval`: how often it is measured; a second unless it is set.
    pub refresh: Duration,
    /// `envoy.resource_monitors.global_downstream_max_connections`: the most downstream connections.
    pub max_connections: Option<u64>,
    /// `envoy.resource_monitors.fixed_heap`: the resident memory in bytes that counts as all of it.
    pub max_heap: Option<u64>,
    /// `envoy.resource_monitors.cgroup_memory`: all memory of the control group is its limit, or less if so
    /// many bytes are given.
    pub cgroup: Option<Option<u64>>,
    /// `buffer_factory_config.minimum_account_to_track_power_of_two`: how much memory an exchange must hold to be
    /// reset for it, as a power of two of bytes. There if, and only if, the action is.
    pub least_account: Option<u32>,
    /// `actions`, each with what triggers it.
    pub actions: Vec<(Action, Vec<Trigger>)>,
}

/// What can be done.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Action {
    /// Requests are answered with 503.
    #[serde(rename = "envoy.overload_actions.stop_accepting_requests")]
    StopAcceptingRequests,
    /// No connection is accepted.
    #[serde(rename = "envoy.overload_actions.stop_accepting_connections")]
    StopAcceptingConnections,
    /// Connections are closed as soon as they are accepted.
    #[serde(rename = "envoy.overload_actions.reject_incoming_connections")]
    RejectIncomingConnections,
    /// Connections of HTTP end after their current exchange.
    #[serde(rename = "envoy.overload_actions.disable_http_keepalive")]
    DisableHttpKeepalive,
    /// Exchanges over HTTP/2 that hold the most memory are reset.
    #[serde(rename = "envoy.overload_actions.reset_high_memory_stream")]
    ResetHighMemoryStream,
}

/// What is measured, as a share of what there is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Resource {
    /// Resident memory.
    #[serde(rename = "envoy.resource_monitors.fixed_heap")]
    FixedHeap,
    /// Memory of the control group.
    #[serde(rename = "envoy.resource_monitors.cgroup_memory")]
    CgroupMemory,
    /// Downstream connections.
    #[serde(rename = "envoy.resource_monitors.global_downstream_max_connections")]
    DownstreamConnections,
}

/// From which pressure on an action is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    /// Of which resource.
    pub resource: Resource,
    /// Above this pressure, from 0 to 1, a part is done,
    pub from: f64,
    /// and from this one on all of it.
    pub full: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverloadManager {
    #[serde(default, alias = "refreshInterval")]
    refresh_interval: Option<String>,
    #[serde(default, alias = "resourceMonitors")]
    resource_monitors: Vec<Monitor>,
    #[serde(default)]
    actions: Vec<ActionSpec>,
    #[serde(default, alias = "bufferFactoryConfig")]
    buffer_factory_config: Option<BufferFactory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BufferFactory {
    #[serde(alias = "minimumAccountToTrackPowerOfTwo")]
    minimum_account_to_track_power_of_two: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Monitor {
    name: Resource,
    #[serde(alias = "typedConfig")]
    typed_config: MonitorConfig,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "@type", deny_unknown_fields)]
enum MonitorConfig {
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    )]
    FixedHeap {
        #[serde(alias = "maxHeapSizeBytes")]
        max_heap_size_bytes: u64,
    },
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig"
    )]
    CgroupMemory {
        #[serde(default, alias = "maxMemoryBytes")]
        max_memory_bytes: Option<u64>,
    },
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    )]
    DownstreamConnections {
        #[serde(alias = "maxActiveDownstreamConnections")]
        max_active_downstream_connections: u64,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionSpec {
    name: Action,
    #[serde(default)]
    triggers: Vec<TriggerSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerSpec {
    name: Resource,
    threshold: Option<Threshold>,
    scaled: Option<Scaled>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Threshold {
    value: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scaled {
    #[serde(alias = "scalingThreshold")]
    scaling_threshold: f64,
    #[serde(alias = "saturationThreshold")]
    saturation_threshold: f64,
}

impl OverloadManager {
    pub(super) fn check(self) -> Result<Overload, Problem> {
        let refresh = match &self.refresh_interval {
            None => REFRESH,
            Some(text) => seconds(text).ok_or_else(|| {
                let message = format!("{text:?} is not a time such as 0.25s");
                problem("overload_manager.refresh_interval", message)
            })?,
        };
        let mut overload = Overload {
            refresh,
            ..Overload::default()
        };
        for (index, monitor) in self.resource_monitors.into_iter().enumerate() {
            let at = format!("{MONITORS}[{index}]");
            monitor.add_to(&mut overload, &at)?;
        }
        for (index, action) in self.actions.into_iter().enumerate() {
            let at = format!("{ACTIONS}[{index}]");
            if overload
                .actions
                .iter()
                .any(|(other, _)| *other == action.name)
            {
                return Err(problem(&format!("{at}.name"), "the action is there twice"));
            }
            let action = (action.name, action.triggers(&overload, &at)?);
            overload.actions.push(action);
        }
        let resets = |(action, _): &(Action, _)| *action == Action::ResetHighMemoryStream;
        if overload.actions.iter().any(resets) {
            overload.least_account = Some(least_account(self.buffer_factory_config)?);
        }
        Ok(overload)
    }
}

/// From which power of two of bytes on exchanges may be reset.
fn least_account(config: Option<BufferFactory>) -> Result<u32, Problem> {
    let at = "overload_manager.buffer_factory_config.minimum_account_to_track_power_of_two";
    match config.map(|config| config.minimum_account_to_track_power_of_two) {
        Some(power @ 10..=56) => Ok(power),
        Some(_) => Err(problem(at, "it must be from 10 to 56")),
        None => {
            let message = "the action envoy.overload_actions.reset_high_memory_stream needs it";
            Err(problem(at, message))
        }
    }
}

impl Monitor {
    fn add_to(self, overload: &mut Overload, at: &str) -> Result<(), Problem> {
        if overload.measures(self.name) {
            return Err(problem(&format!("{at}.name"), "the monitor is there twice"));
        }
        match (self.name, self.typed_config) {
            (
                Resource::FixedHeap,
                MonitorConfig::FixedHeap {
                    max_heap_size_bytes: max @ 1..,
                },
            ) => overload.max_heap = Some(max),
            (Resource::CgroupMemory, MonitorConfig::CgroupMemory { max_memory_bytes }) => {
                overload.cgroup = Some(max_memory_bytes.filter(|max| *max > 0));
            }
            (
                Resource::DownstreamConnections,
                MonitorConfig::DownstreamConnections {
                    max_active_downstream_connections: max @ 1..,
                },
            ) => overload.max_connections = Some(max),
            (_, MonitorConfig::FixedHeap { .. } | MonitorConfig::DownstreamConnections { .. }) => {
                let message = "the most must be above zero, and the type that of the name";
                return Err(problem(&format!("{at}.typed_config"), message));
            }
            (_, MonitorConfig::CgroupMemory { .. }) => {
                let message = "the type must be that of the name";
                return Err(problem(&format!("{at}.typed_config"), message));
            }
        }
        Ok(())
    }
}

impl ActionSpec {
    fn triggers(self, overload: &Overload, at: &str) -> Result<Vec<Trigger>, Problem> {
        if self.triggers.is_empty() {
            return Err(problem(&format!("{at}.triggers"), "there is none"));
        }
        let triggers = self.triggers.into_iter().enumerate();
        let checked = triggers.map(|(index, trigger)| {
            let at = format!("{at}.triggers[{index}]");
            if !overload.measures(trigger.name) {
                let message = format!("there is no such monitor in {MONITORS}");
                return Err(problem(&format!("{at}.name"), message));
            }
            let (from, full) = match (trigger.threshold, trigger.scaled) {
                (Some(threshold), None) => (threshold.value, threshold.value),
                (None, Some(scaled)) => (scaled.scaling_threshold, scaled.saturation_threshold),
                _ => return Err(problem(&at, "it must have either threshold or scaled")),
            };
            if !(0.0..=1.0).contains(&from) || !(from..=1.0).contains(&full) {
                let message = "thresholds must be from 0 to 1, and the second not below the first";
                return Err(problem(&at, message));
            }
            Ok(Trigger {
                resource: trigger.name,
                from,
                full,
            })
        });
        checked.collect()
    }
}

impl Overload {
    /// Whether there is a monitor for it.
    pub(crate) fn measures(&self, resource: Resource) -> bool {
        match resource {
            Resource::FixedHeap => self.max_heap.is_some(),
            Resource::CgroupMemory => self.cgroup.is_some(),
            Resource::DownstreamConnections => self.max_connections.is_some(),
        }
    }
}

impl Trigger {
    /// How much of the action is due at a pressure.
    pub(crate) fn share(&self, pressure: f64) -> f64 {
        if pressure >= self.full {
            1.0
        } else if pressure <= self.from {
            0.0
        } else {
            (pressure - self.from) / (self.full - self.from)
        }
    }
}

impl Resource {
    /// Envoy's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FixedHeap => "envoy.resource_monitors.fixed_heap",
            Self::CgroupMemory => "envoy.resource_monitors.cgroup_memory",
            Self::DownstreamConnections => {
                "envoy.resource_monitors.global_downstream_max_connections"
            }
        }
    }
}

impl Action {
    /// Envoy's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StopAcceptingRequests => "envoy.overload_actions.stop_accepting_requests",
            Self::StopAcceptingConnections => "envoy.overload_actions.stop_accepting_connections",
            Self::RejectIncomingConnections => "envoy.overload_actions.reject_incoming_connections",
            Self::DisableHttpKeepalive => "envoy.overload_actions.disable_http_keepalive",
            Self::ResetHighMemoryStream => "envoy.overload_actions.reset_high_memory_stream",
        }
    }
}

/// A duration as protobuf's JSON has it; zero and what is over a day is none.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    let sensible = seconds > 0.0 && seconds <= 86_400.0;
    sensible.then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HEAP: &str =
        "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig";

    fn sample() -> Value {
        json!({
            "refresh_interval": "0.25s",
            "resource_monitors": [{
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {"@type": HEAP, "max_heap_size_bytes": 1000},
            }],
            "actions": [{
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{
                    "name": "envoy.resource_monitors.fixed_heap",
                    "scaled": {"scaling_threshold": 0.5, "saturation_threshold": 0.9},
                }],
            }],
        })
    }

    fn check(value: Value) -> Result<Overload, String> {
        let parsed: OverloadManager =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        parsed
            .check()
            .map_err(|(field, message)| format!("{field}: {message}"))
    }

    #[test]
    fn monitors_and_actions_are_read() {
        let overload = check(sample()).expect("valid");
        assert_eq!(overload.refresh, Duration::from_millis(250));
        assert_eq!(overload.max_heap, Some(1000));
        let (action, triggers) = &overload.actions[0];
        assert_eq!(*action, Action::StopAcceptingRequests);
        for (pressure, share) in [(0.4, 0.0), (0.5, 0.0), (0.7, 0.5), (0.9, 1.0), (2.0, 1.0)] {
            assert!(
                (triggers[0].share(pressure) - share).abs() < 1e-9,
                "{pressure}"
            );
        }
    }

    #[test]
    fn accounts_are_tracked_only_if_streams_may_be_reset() {
        let mut value = sample();
        let mut least = |name: &str, power: u32| {
            value["actions"][0]["name"] = json!(format!("envoy.overload_actions.{name}"));
            value["buffer_factory_config"] =
                json!({"minimum_account_to_track_power_of_two": power});
            check(value.clone()).map(|overload| overload.least_account)
        };
        assert_eq!(least("reset_high_memory_stream", 20), Ok(Some(20)));
        assert_eq!(least("disable_http_keepalive", 20), Ok(None));
        let refused = least("reset_high_memory_stream", 9).expect_err("too little");
        assert!(refused.contains("must be from 10 to 56"), "{refused}");
    }

    #[test]
    fn what_is_not_usable_is_named() {
        for (pointer, value, expected) in [
            (
                "/refresh_interval",
                json!("1"),
                "is not a time such as 0.25s",
            ),
            (
                "/resource_monitors/0/name",
                json!("envoy.resource_monitors.cpu"),
                "unknown variant",
            ),
            (
                "/resource_monitors/0/name",
                json!("envoy.resource_monitors.cgroup_memory"),
                "resource_monitors[0].typed_config: the most",
            ),
            (
                "/resource_monitors/0/typed_config/max_heap_size_bytes",
                json!(0),
                "must be above zero",
            ),
            (
                "/actions/0/name",
                json!("envoy.overload_actions.shrink_heap"),
                "unknown variant",
            ),
            (
                "/actions/0/name",
                json!("envoy.overload_actions.reset_high_memory_stream"),
                "minimum_account_to_track_power_of_two: the action envoy.overload_actions.reset_high",
            ),
            (
                "/actions/0/triggers",
                json!([]),
                "actions[0].triggers: there is none",
            ),
            (
                "/actions/0/triggers/0/name",
                json!("envoy.resource_monitors.cgroup_memory"),
                "there is no such monitor",
            ),
            (
                "/actions/0/triggers/0/scaled/saturation_threshold",
                json!(0.1),
                "thresholds must be",
            ),
            (
                "/actions/0/triggers/0/scaled",
                Value::Null,
                "either threshold or scaled",
            ),
        ] {
            let mut sample = sample();
            *sample.pointer_mut(pointer).expect("in the sample") = value;
            let error = check(sample).expect_err(expected);
            assert!(error.contains(expected), "{pointer}: {error}");
        }
    }
}
