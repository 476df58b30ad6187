//! Gateway API's conformance cases that need no cluster, as tables: resources, requests, and what becomes of them at
//! a gateway and two sidecars. Each route of a table has a host of its own, so that all are there at once.

pub(crate) mod backend;
mod cases;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde_json::Value;

use self::world::World;

#[test]
fn gateway_api_conformance() {
    conforms(None);
}

/// `PERIPLUS_ENVOY` names the binary. Without it the test fails on CI, and elsewhere says so and passes.
#[test]
fn gateway_api_conformance_with_envoy() {
    let envoy = std::env::var_os("PERIPLUS_ENVOY");
    if envoy.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy on CI"
        );
        eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy");
        return;
    }
    conforms(envoy.as_deref());
}

fn conforms(envoy: Option<&OsStr>) {
    let world = World::start(envoy);
    let mut wrong = Vec::new();
    for (proxy, table) in cases::TABLES {
        let lines = table.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Err(reason) = world.check(proxy, line) {
                wrong.push(format!("{proxy}: {line}\n    {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for (name, who) in cases::NAMES {
        assert_eq!(world.hear(name), who, "{name}");
    }

    for (proxy, host, shares) in cases::SHARES {
        const CALLS: usize = 300;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..CALLS {
            *seen.entry(world.who_answers(*proxy, host)).or_default() += 1;
        }
        let percent = |who: &&str| 100 * seen.get(*who).copied().unwrap_or(0) / CALLS;
        let whole: usize = shares.iter().map(|(who, _)| percent(who)).sum();
        assert!(whole > 95, "{host}: {seen:?}");
        for (who, share) in *shares {
            let is_near = percent(who).abs_diff(*share) <= 12;
            assert!(is_near, "{host}: {who} should get {share} %: {seen:?}");
        }
    }

    let statuses = world.statuses();
    for (name, path, expected) in cases::STATUSES {
        let status = statuses.iter().find(|one| {
            format!(
                "{} {}",
                one["kind"].as_str().unwrap(),
                one["name"].as_str().unwrap()
            ) == *name
        });
        let status = status.unwrap_or_else(|| panic!("{name} has a status"));
        let found = status["status"].pointer(path).unwrap_or(&Value::Null);
        assert_eq!(summary(found), *expected, "{name} {path}: {status:#}");
    }
}

/// Conditions as `Type=Status/Reason`, anything else as it is.
pub(crate) fn summary(value: &Value) -> String {
    let conditions = match value {
        Value::Array(all) if all.iter().all(|one| one["type"].is_string()) => all,
        other => return other.to_string(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let condition = |one: &Value| {
        format!(
            "{}={}/{}",
            text(&one["type"]),
            text(&one["status"]),
            text(&one["reason"])
        )
    };
    let conditions: Vec<_> = conditions.iter().map(condition).collect();
    conditions.join(" ")
}
