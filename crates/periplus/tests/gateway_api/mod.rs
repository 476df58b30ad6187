//! Gateway API's conformance cases that need no cluster, as tables: resources, requests, and what becomes of them at
//! a gateway and two sidecars. Each route of a table has a host of its own, so that all are there at once.

pub(crate) mod backend;
mod cases;
mod statuses;
mod world;

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde_json::Value;

use self::world::World;
use crate::support::patiently;

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

    mirrors_a_share(&world, envoy.is_some());
    let statuses = world.statuses();
    for (name, path, expected) in statuses::STATUSES {
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
    listeners_come_and_go(&world);
}

/// HTTPRouteRequestPercentageMirror: of requests with paths of their own, which of them have a copy.
fn mirrors_a_share(world: &World, is_envoy: bool) {
    const CALLS: usize = 300;
    let path = |call: usize| format!("/copies-{is_envoy}/{call}");
    for call in 0..CALLS {
        let host = format!("copies.test{}", path(call));
        assert_eq!(world.who_answers(world::Proxy::Gateway, &host), "v1");
    }
    patiently("a fifth of them to be copied", || {
        let heard = backend::heard();
        let copied = |call: &usize| heard.contains(&("v2".to_owned(), path(*call)));
        let percent = 100 * (0..CALLS).filter(copied).count() / CALLS;
        (8..=32).contains(&percent).then_some(())
    });
}

/// GatewayModifyListeners, GatewayObservedGenerationBump, GatewayWithAttachedRoutes: the Gateway has another generation
/// and other listeners each time.
fn listeners_come_and_go(world: &World) {
    const FILE: &str = "late.yaml";
    for (generation, listeners) in [(1, &["one"][..]), (2, &["one", "two"]), (3, &["two"])] {
        let mut text = format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: late, namespace: infra}}
spec: {{parentRefs: [{{name: late}}], rules: [{{backendRefs: [{{name: v1, port: 8080}}]}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: late, namespace: infra, generation: {generation}}}
spec:
  gatewayClassName: istio
  addresses: [{{type: Hostname, value: ingress}}]
  listeners:
"
        );
        for name in listeners {
            text += &format!(
                "  - {{name: {name}, port: 80, protocol: HTTP, hostname: {name}.late.test}}\n"
            );
        }
        world.write(FILE, Some(&text));
        patiently("the listeners", || {
            let statuses = world.statuses();
            let late = statuses
                .iter()
                .find(|one| one["kind"] == "Gateway" && one["name"] == "late");
            let status = &late?["status"];
            let conditions = status["conditions"].as_array()?;
            let is_seen = conditions
                .iter()
                .all(|one| one["observedGeneration"] == generation);
            let names = status["listeners"].as_array()?.iter();
            let attached = names.clone().all(|one| one["attachedRoutes"] == 1);
            (is_seen && attached && names.map(|one| &one["name"]).eq(listeners)).then_some(())
        });
        for name in ["one", "two"] {
            let expected = if listeners.contains(&name) {
                "v1"
            } else {
                "404"
            };
            patiently(&format!("{expected} of {name}"), || {
                let host = format!("{name}.late.test/");
                (world.who_answers(world::Proxy::Gateway, &host) == expected).then_some(())
            });
        }
    }
    world.write(FILE, None);
    patiently("the Gateway to go", || {
        let statuses = world.statuses();
        statuses
            .iter()
            .all(|one| one["name"] != "late")
            .then_some(())
    });
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
