//! Limits of each proxy by itself: our proxy and a real Envoy get the same from the control plane, and do the same.

use tempfile::TempDir;

use super::super::support::{Program, free_base, get, get_with, patiently, request};
use super::{origin, proxy, stat};

/// So many a bucket has; it takes an hour until there is another one.
const MOST: u32 = 3;

fn mesh_config(most: u32) -> String {
    let bucket = format!("{{maxTokens: {most}, fillInterval: 3600s}}");
    format!(
        "extensionProviders:
- name: local
  envoyLocalRateLimit:
    limits:
    - selector: {{matchLabels: {{app: shop}}}}
      tokenBucket: {bucket}
      enableXRatelimitHeaders: true
    - selector: {{matchLabels: {{app: shop}}}}
      port: 1
      tokenBucket: {{maxTokens: 1, fillInterval: 3600s}}
    - namespace: elsewhere
      tokenBucket: {{maxTokens: 1, fillInterval: 3600s}}
    - selector: {{matchLabels: {{app: edge}}}}
      routes: [tea]
      tokenBucket: {bucket}
    - selector: {{matchLabels: {{app: edge}}}}
      routes: [milk]
      tokenBucket: {{maxTokens: 2, tokensPerFill: 2, fillInterval: 3600s}}
      enableXRatelimitHeaders: true
"
    )
}

/// Two replicas of a workload, each behind a sidecar, and two gateways.
fn resources(origin: u16, inbound: [u16; 2], edges: [u16; 2]) -> String {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: drinks}
spec:
  hosts: ['*']
  gateways: [edge-0, edge-1]
  http:
  - {name: tea, match: [{uri: {prefix: /tea}}], directResponse: {status: 200}}
  - {name: milk, match: [{uri: {prefix: /milk}}], directResponse: {status: 200}}
  - {name: water, directResponse: {status: 200}}
",
    );
    for n in 0..2 {
        text += &format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop-{n}}}
spec:
  workloadSelector: {{labels: {{app: shop, replica: '{n}'}}}}
  ingress:
  - port: {{number: {}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{origin}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge-{n}}}
spec:
  selector: {{app: edge, replica: '{n}'}}
  servers:
  - {{port: {{number: {}, name: http, protocol: HTTP}}, hosts: ['*'], bind: 127.0.0.1}}
",
            inbound[n], edges[n]
        );
    }
    text
}

/// A control plane, and of each kind of proxy one of ours and a real Envoy.
struct World {
    directory: TempDir,
    control: Program,
    sidecars: [Program; 2],
    _gateways: [Program; 2],
    inbound: [u16; 2],
    edges: [u16; 2],
    /// Those of the sidecars.
    admin: [u16; 2],
}

impl World {
    fn start(mesh_config: &str) -> Self {
        let base = free_base();
        let [xds, monitoring] = [base, base + 1];
        let (inbound, edges) = ([base + 10, base + 11], [base + 12, base + 13]);
        let admin = [14, 15, 16, 17].map(|n| base + n);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let file = |name: &str| path.join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(path.join("config")).unwrap();
        std::fs::write(
            path.join("config/mesh.yaml"),
            resources(origin(), inbound, edges),
        )
        .unwrap();
        std::fs::write(path.join("mesh-config.yaml"), mesh_config).unwrap();
        let mut control = Program::start(&[
            "control",
            "--dir",
            &file("config"),
            "--mesh-config",
            &file("mesh-config.yaml"),
            "--xds-port",
            &xds.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let sidecars = [0, 1].map(|n| proxy(path, ("sidecar", "shop"), n, [xds, admin[n]]));
        let gateways = [0, 1].map(|n| proxy(path, ("router", "edge"), n, [xds, admin[n + 2]]));
        for (admin, port) in admin.into_iter().zip(inbound.into_iter().chain(edges)) {
            patiently("a listener", || {
                let listeners = get(admin, "/listeners").body;
                listeners.contains(&format!(":{port}")).then_some(())
            });
        }
        Self {
            control,
            sidecars,
            _gateways: gateways,
            inbound,
            edges,
            admin: [admin[0], admin[1]],
            directory,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }
}

#[test]
fn each_proxy_limits_rates_by_itself_as_envoy_does() {
    let mut world = World::start(&mesh_config(MOST));
    let (inbound, edges, admin) = (world.inbound, world.edges, world.admin);
    for (port, admin) in inbound.into_iter().zip(admin) {
        for count in 1..=MOST {
            let answer = get(port, "/");
            assert_eq!(answer.status, 200, "request {count}: {}", answer.head);
            let told = ["limit", "remaining"].map(|what| {
                answer
                    .header(&format!("x-ratelimit-{what}"))
                    .unwrap()
                    .to_owned()
            });
            assert_eq!(told, [MOST.to_string(), (MOST - count).to_string()]);
        }
        let answer = get(port, "/");
        assert_eq!(answer.status, 429, "{}", answer.head);
        assert_eq!(answer.body, "local_rate_limited");
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
        let reset: u32 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&reset), "{reset}");
        // A client of gRPC is told in its own words.
        let answer = get_with(port, "/", &[("content-type", "application/grpc")]);
        assert_eq!(
            (answer.status, answer.header("grpc-status")),
            (200, Some("8")),
            "{}",
            answer.head
        );
        let counted = |name: &str| stat(admin, &format!("local.0.http_local_rate_limit.{name}"));
        assert_eq!(
            ["enabled", "ok", "rate_limited", "enforced"].map(counted),
            [5, 3, 2, 2]
        );
        let others = stat(admin, "local.1.http_local_rate_limit.enabled")
            + stat(admin, "local.2.http_local_rate_limit.enabled");
        assert_eq!(others, 0, "limits of another port and of another namespace");
    }

    // Each route of a gateway has its own bucket, and one that no limit names has none.
    for port in edges {
        for (path, most, tells) in [("/tea", MOST, false), ("/milk", 2, true)] {
            for count in 1..=most + 1 {
                let answer = get(port, path);
                let wanted = if count > most { 429 } else { 200 };
                assert_eq!(answer.status, wanted, "{path} {count}: {}", answer.head);
                let limit = most.to_string();
                let told = answer.header("x-ratelimit-limit");
                assert_eq!(told, tells.then_some(limit.as_str()), "{path} {count}");
            }
        }
        for _ in 0..MOST + 2 {
            assert_eq!(get(port, "/water").status, 200);
        }
    }

    // Another limit holds at once; one that is wrong changes nothing.
    world.write("mesh-config.yaml", &mesh_config(MOST + 1));
    for port in inbound {
        patiently("a bucket that is full again", || {
            (get(port, "/").header("x-ratelimit-limit") == Some("4")).then_some(())
        });
    }
    world.write("mesh-config.yaml", &mesh_config(0));
    world.control.wait_for(&["maxTokens: must be at least 1"]);
    for port in inbound {
        assert_eq!(get(port, "/").header("x-ratelimit-limit"), Some("4"));
    }
}

#[test]
fn a_policy_that_is_only_tried_is_told_by_the_logs_of_both() {
    const KEYS: &str = "envoy.filters.http.rbac:istio_dry_run_deny_shadow";
    let format = format!(
        "%REQ(:METHOD)% %RESPONSE_CODE% %DYNAMIC_METADATA({KEYS}_engine_result)% by \
         %DYNAMIC_METADATA({KEYS}_effective_policy_id)%"
    );
    let mut world = World::start(&format!(
        "accessLogFile: /dev/stdout\naccessLogFormat: \"{format}\\n\"\n"
    ));
    world.write(
        "config/policies.yaml",
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: try, annotations: {istio.io/dry-run: 'true'}}
spec: {action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
",
    );
    for (port, sidecar) in world.inbound.into_iter().zip(&mut world.sidecars) {
        patiently("the policy", || {
            assert_eq!(request(port, "DELETE", "/", &[], "").status, 200);
            let line = "DELETE 200 denied by ns[default]-policy[try]-rule[0]";
            sidecar.has_said(line).then_some(())
        });
        assert_eq!(get(port, "/").status, 200);
        sidecar.wait_for(&["GET 200 allowed by -"]);
    }
}
