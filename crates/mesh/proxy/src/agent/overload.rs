//! Measures how much of what there is is in use, and tells the workers what to do about it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::time::sleep;

use crate::agent::Shared;
use crate::bootstrap::{Action, Overload, Resource, Trigger};
use crate::overload::{Actions, Share};

/// What was measured last, and what is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pressures {
    /// As a share of what there is.
    measured: Vec<(Resource, f64)>,
    failed: Vec<(Resource, u64)>,
    shares: Vec<(Action, Share)>,
}

/// Looks again and again, if there is anything to look at.
pub(super) async fn watch(shared: Arc<Shared>) {
    let overload = shared.bootstrap.overload.clone();
    if overload.actions.is_empty() {
        return;
    }
    let mut told = Actions::default();
    loop {
        let connections = shared.proxy.connections();
        let actions = {
            let mut state = shared.state();
            state.pressures.measure(&overload, connections);
            state.pressures.actions()
        };
        let is_new = actions != told;
        if is_new {
            tracing::warn!(?actions, "what is done about overload has changed");
        }
        // Streams are reset for as long as memory is short.
        if is_new || !actions.reset_streams.is_none() {
            shared.proxy.shed(actions);
            told = actions;
        }
        sleep(overload.refresh).await;
    }
}

impl Pressures {
    fn measure(&mut self, overload: &Overload, connections: usize) {
        for resource in [
            Resource::FixedHeap,
            Resource::CgroupMemory,
            Resource::DownstreamConnections,
        ] {
            if !overload.measures(resource) {
                continue;
            }
            match pressure(resource, overload, connections) {
                Some(pressure) => put(&mut self.measured, resource, pressure),
                None => {
                    let before = of(&self.failed, resource).unwrap_or_default();
                    if before == 0 {
                        tracing::warn!(resource = resource.name(), "cannot be measured");
                    }
                    put(&mut self.failed, resource, before + 1);
                }
            }
        }
        let shares = overload.actions.iter().map(|(action, triggers)| {
            let due = |trigger: &Trigger| {
                of(&self.measured, trigger.resource).map(|pressure| trigger.share(pressure))
            };
            let most = triggers.iter().filter_map(due).fold(0.0, f64::max);
            (*action, Share::of(most))
        });
        self.shares = shares.collect();
    }

    fn actions(&self) -> Actions {
        let share = |action| of(&self.shares, action).unwrap_or_default();
        Actions {
            stop_requests: share(Action::StopAcceptingRequests),
            reject_connections: share(Action::RejectIncomingConnections),
            stop_connections: share(Action::StopAcceptingConnections),
            no_keepalive: share(Action::DisableHttpKeepalive),
            reset_streams: share(Action::ResetHighMemoryStream),
        }
    }

    /// The gauges, by Envoy's names.
    pub(crate) fn stats(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let measured = self.measured.iter().map(|(resource, pressure)| {
            let name = format!("overload.{}.pressure", resource.name());
            (name, (pressure * 100.0) as u64)
        });
        let failed = self.failed.iter().map(|(resource, count)| {
            (
                format!("overload.{}.failed_updates", resource.name()),
                *count,
            )
        });
        let shares = self.shares.iter().flat_map(|(action, share)| {
            let name = action.name();
            [
                (format!("overload.{name}.active"), u64::from(share.is_all())),
                (format!("overload.{name}.scale_percent"), share.percent()),
            ]
        });
        measured.chain(failed).chain(shares)
    }
}

fn of<K: Copy + PartialEq, V: Copy>(list: &[(K, V)], key: K) -> Option<V> {
    list.iter()
        .find(|(other, _)| *other == key)
        .map(|(_, value)| *value)
}

fn put<K: PartialEq, V>(list: &mut Vec<(K, V)>, key: K, value: V) {
    match list.iter_mut().find(|(other, _)| *other == key) {
        Some((_, old)) => *old = value,
        None => list.push((key, value)),
    }
}

/// How much of a resource is in use; none if that is not to be found out.
fn pressure(resource: Resource, overload: &Overload, connections: usize) -> Option<f64> {
    let share = |used: u64, all: u64| used as f64 / all.max(1) as f64;
    Some(match resource {
        Resource::FixedHeap => share(resident_bytes()?, overload.max_heap?),
        Resource::DownstreamConnections => share(connections as u64, overload.max_connections?),
        Resource::CgroupMemory => {
            let (used, limit) = cgroup_memory()?;
            share(used, limit.min(overload.cgroup?.unwrap_or(u64::MAX)))
        }
    })
}

/// The resident memory of this process (`VmRSS` of proc(5)).
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What the control group of this process uses, and may use: of version 2, else of version 1.
fn cgroup_memory() -> Option<(u64, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let find = |prefix: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (controllers == prefix).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let v2 = find("").and_then(|path| {
        memory_of(
            Path::new("/sys/fs/cgroup"),
            &path,
            ["memory.current", "memory.max"],
        )
    });
    v2.or_else(|| {
        let files = ["memory.usage_in_bytes", "memory.limit_in_bytes"];
        memory_of(Path::new("/sys/fs/cgroup/memory"), &find("memory")?, files)
    })
}

/// In a container the path is that of the host, and its group is the root.
fn memory_of(root: &Path, path: &str, [used, limit]: [&str; 2]) -> Option<(u64, u64)> {
    [root.join(path), root.to_path_buf()].iter().find_map(|at| {
        let used = fs::read_to_string(at.join(used))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let limit = fs::read_to_string(at.join(limit)).ok()?;
        let limit = match limit.trim() {
            "max" => u64::MAX,
            limit => limit.parse().ok()?,
        };
        Some((used, limit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_found_out() {
        let bytes = resident_bytes().expect("a process has memory");
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }

    #[test]
    fn memory_of_control_groups_is_read_of_both_versions() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("one")).expect("a directory");
            fs::write(path, text).expect("a file");
        };
        let files = ["memory.current", "memory.max"];
        assert_eq!(memory_of(root.path(), "a/b", files), None);
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        assert_eq!(memory_of(root.path(), "a/b", files), Some((4096, u64::MAX)));
        write("a/b/memory.current", "100\n");
        write("a/b/memory.max", "200\n");
        assert_eq!(memory_of(root.path(), "a/b", files), Some((100, 200)));
    }

    #[test]
    fn the_strongest_trigger_decides() {
        let trigger = |resource, full| Trigger {
            resource,
            from: full,
            full,
        };
        let overload = Overload {
            max_connections: Some(10),
            max_heap: Some(u64::MAX),
            actions: vec![
                (
                    Action::StopAcceptingRequests,
                    vec![
                        trigger(Resource::FixedHeap, 0.9),
                        trigger(Resource::DownstreamConnections, 0.8),
                    ],
                ),
                (
                    Action::DisableHttpKeepalive,
                    vec![trigger(Resource::FixedHeap, 0.9)],
                ),
            ],
            ..Overload::default()
        };
        let mut pressures = Pressures::default();
        for (connections, stops) in [(7, false), (8, true), (0, false)] {
            pressures.measure(&overload, connections);
            let actions = pressures.actions();
            assert_eq!(actions.stop_requests.is_all(), stops, "{connections}");
            assert_eq!(actions.no_keepalive, Share::default());
        }
        let stats: Vec<_> = pressures.stats().map(|(name, _)| name).collect();
        assert!(stats.contains(
            &"overload.envoy.overload_actions.stop_accepting_requests.scale_percent".to_owned()
        ));
    }
}
