//! `periplus doctor tracing` names the first step on which spans get lost: the complaints of Istio's users, one by one.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fake::control_plane;
use super::{MESH, RULES, run_in};

const PROVIDER: &str = "extensionProviders: [{name: z, zipkin: {service: zipkin.default.svc.cluster.local, port: 9411}}]\n";
const DEFAULT: &str = "defaultProviders: {tracing: [z]}\n";
const SAMPLED: &str = "defaultConfig: {tracing: {sampling: 100}}\n";

fn collector(port: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin}}
spec:
  hosts: [zipkin.default.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http, targetPort: {port}}}]
  endpoints: [{{address: 127.0.0.1}}]
"
    )
}

fn telemetry(tracing: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: mine, namespace: istio-system}}
spec: {{tracing: [{{{tracing}}}]}}
"
    )
}

#[test]
fn the_first_step_that_fails_is_named() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listening.local_addr().unwrap().port();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let whole = format!("{PROVIDER}{DEFAULT}{SAMPLED}");
    for (complaint, mesh_config, more, step, part) in [
        (
            "nothing is configured",
            String::new(),
            String::new(),
            "provider",
            "no `extensionProviders`",
        ),
        (
            "a provider without `defaultProviders` (istio/istio#54436, #35750)",
            PROVIDER.to_owned(),
            collector(open),
            "provider",
            "nothing says that z is to be used",
        ),
        (
            "a Telemetry without a provider (istio/istio#38920)",
            PROVIDER.to_owned(),
            collector(open) + &telemetry("randomSamplingPercentage: 100"),
            "provider",
            "asks for tracing",
        ),
        (
            "a provider by another name (istio/istio#56180)",
            whole.clone(),
            collector(open) + &telemetry("providers: [{name: zipkin}]"),
            "provider",
            "no provider of tracing `zipkin`",
        ),
        (
            "tracing is turned off",
            format!("{whole}enableTracing: false\n"),
            collector(open),
            "provider",
            "`enableTracing: false`",
        ),
        (
            "the collector is not in the registry (istio/istio#37829)",
            whole.clone(),
            String::new(),
            "cluster",
            "there is no service `zipkin.default.svc.cluster.local`",
        ),
        (
            "the collector has another port",
            whole.replace("9411", "9412"),
            collector(open),
            "cluster",
            "has no port 9412",
        ),
        (
            "reports are disabled by a Telemetry",
            whole.clone(),
            collector(open) + &telemetry("disableSpanReporting: true"),
            "cluster",
            "no workload or Gateway that is described is traced",
        ),
        (
            "nobody listens (istio/istio#35750)",
            whole.clone(),
            collector(closed),
            "reachable",
            "does not take connections",
        ),
        (
            "a sampling that overrides the mesh's (istio/istio#34161)",
            whole.clone(),
            collector(open) + &telemetry("randomSamplingPercentage: 0"),
            "sampled",
            "0 % of the requests",
        ),
        (
            "no control plane",
            whole.clone(),
            collector(open),
            "exported",
            "start it with `periplus control`",
        ),
    ] {
        let directory = super::directory(RULES);
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("mesh/mesh.yaml", &format!("{MESH}{more}"));
        write("config.yaml", &mesh_config);
        let output = run_in(
            directory.path(),
            &[
                "doctor",
                "tracing",
                "--dir",
                "mesh",
                "--mesh-config",
                "config.yaml",
                "--control",
                "http://127.0.0.1:1",
                "-o",
                "json",
            ],
        );
        let error = String::from_utf8_lossy(&output.stderr);
        let steps: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{complaint}: {error}"));
        assert_eq!(output.status.code(), Some(1), "{complaint}: {steps:#?}");
        assert_eq!(steps.len(), 7, "{complaint}");
        let failed = steps.iter().find(|step| step["state"] == "failed").unwrap();
        assert_eq!(failed["name"], step, "{complaint}: {steps:#?}");
        let said = failed["said"].as_str().unwrap();
        assert!(said.contains(part), "{complaint}: {said}");
        let behind = steps
            .iter()
            .skip_while(|step| step["name"] != failed["name"])
            .skip(1);
        assert!(
            behind.clone().all(|step| step["state"] == "skipped"),
            "{complaint}: {steps:#?}"
        );
    }
}

#[test]
fn proxies_that_do_not_answer_are_waited_for_together() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let silent: Vec<_> = (0..12)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let row = |(n, listener): (usize, &TcpListener)| {
        json!({
            "proxy": format!("p-{n}.default"),
            "admin": listener.local_addr().unwrap().to_string(),
            "resources": {},
            "notes": [],
        })
    };
    let rows: Vec<Value> = silent.iter().enumerate().map(row).collect();
    let control = format!("http://127.0.0.1:{}", control_plane(&rows));
    let directory = super::directory(RULES);
    let begin = Instant::now();
    let output = run_in(
        directory.path(),
        &[
            "doctor",
            "--control",
            &control,
            "--timeout",
            "2s",
            "-o",
            "json",
        ],
    );
    let error = String::from_utf8_lossy(&output.stderr);
    let steps: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let proxies = steps.iter().find(|step| step["name"] == "proxies").unwrap();
    let said = proxies["said"].as_str().unwrap();
    for n in 0..silent.len() {
        assert!(said.contains(&format!("p-{n}.default: ")), "{said}");
    }
    // One after the other they would take twelve times as long.
    let took = begin.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT * 6, "{took:?}: {said}");
}
