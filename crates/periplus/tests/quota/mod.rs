//! A quota that two proxies share, ours and a real Envoy, over `periplus ratelimit` and a real Redis.

mod local;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use periplus_proxy::bootstrap::{Spec, render};
use serde_json::{Value, json};

use super::backend::Serve;
use super::support::{Answer, Program, free_base, get, get_json, get_with, patiently, request};

/// So many requests a user has, in an hour, however many proxies there are.
const MOST: u32 = 5;

/// A Redis; killed when it is dropped.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    fn start(port: u16, directory: &Path) -> Self {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .args(["--requirepass", "sesame"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let redis = Self {
            process: process.unwrap(),
            port,
        };
        patiently("Redis", || {
            std::net::TcpStream::connect(("127.0.0.1", redis.port)).ok()
        });
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn has_redis() -> bool {
    let found = Command::new("redis-server").arg("--version").output();
    if found.is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "redis-server is missing, run the tests with: cargo xtask test"
    );
    eprintln!("not run: there is no redis-server");
    false
}

fn limits(most: u32) -> String {
    format!(
        "domain: shop
descriptors:
- key: path
  value: counted
  descriptors:
  - key: user
    rate_limit: {{unit: hour, requests_per_unit: {most}, name: per-user}}
  - key: user
    value: admin
    rate_limit: {{unlimited: true}}
"
    )
}

fn mesh_config(fails_open: bool) -> String {
    format!(
        "extensionProviders:
- name: zipkin
  zipkin: {{service: zipkin.default.svc.cluster.local, port: 9411}}
- name: quota
  envoyRateLimitGrpc:
    service: ratelimit.default.svc.cluster.local
    port: 8081
    domain: shop
    timeout: 2s
    failOpen: {fails_open}
    limits:
    - selector: {{matchLabels: {{app: shop}}}}
      actions:
      - genericKey: {{descriptorKey: path, descriptorValue: counted}}
      - requestHeaders: {{headerName: x-user, descriptorKey: user}}
defaultProviders: {{tracing: [zipkin]}}
defaultConfig: {{tracing: {{sampling: 100}}}}
accessLogFile: /dev/stdout
"
    )
}

/// Two replicas of a workload, each behind a sidecar.
fn resources(quota: u16, zipkin: u16, origin: u16, inbound: [u16; 2]) -> String {
    let mut text = String::new();
    for (name, port, target, protocol) in [
        ("ratelimit", 8081, quota, "GRPC"),
        ("zipkin", 9411, zipkin, "HTTP"),
    ] {
        text += &format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: port, protocol: {protocol}, targetPort: {target}}}]
  endpoints: [{{address: 127.0.0.1}}]
---
"
        );
    }
    for (n, port) in inbound.into_iter().enumerate() {
        text += &format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop-{n}}}
spec:
  workloadSelector: {{labels: {{app: shop, replica: '{n}'}}}}
  ingress:
  - port: {{number: {port}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{origin}
---
"
        );
    }
    text
}

/// Answers each request with what it was asked.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                use std::io::Read as _;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                // A client that has gone needs none.
                let _ = stream.write_all(answer);
            });
        }
    });
    port
}

/// A replica of a workload, or of a gateway; the second one is a real Envoy, if there is one.
pub(crate) fn proxy(
    directory: &Path,
    (role, app): (&str, &str),
    n: usize,
    [xds, admin]: [u16; 2],
) -> Program {
    let at = |port: u16| ([127, 0, 0, 1], port).into();
    let spec = Spec {
        node_id: &format!("{role}~127.0.0.1~{app}-{n}.default~default.svc.cluster.local"),
        node_cluster: &format!("{app}.default"),
        metadata: &json!({
            "NAMESPACE": "default",
            "LABELS": {"app": app, "replica": n.to_string()},
            "INTERCEPTION_MODE": "NONE",
        }),
        control_plane: at(xds),
        admin: at(admin),
        agent: None,
    };
    let bootstrap = directory.join(format!("{app}-{n}.json"));
    std::fs::write(&bootstrap, render(&spec)).unwrap();
    let bootstrap = bootstrap.to_str().unwrap();
    let proxy = match std::env::var_os("PERIPLUS_ENVOY").filter(|_| n == 1) {
        None => Program::start(&["proxy", "-c", bootstrap]),
        Some(envoy) => {
            let mut command = Command::new(envoy);
            command.args([
                "-c",
                bootstrap,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--file-flush-interval-msec",
                "100",
            ]);
            Program::run(command)
        }
    };
    patiently("a proxy", || {
        (get(admin, "/ready").status == 200).then_some(())
    });
    proxy
}

fn ask(port: u16, user: &str) -> Answer {
    match user {
        "" => request(port, "GET", "/counted", &[], ""),
        user => get_with(port, "/counted", &[("x-user", user)]),
    }
}

pub(crate) fn stat(admin: u16, name: &str) -> u64 {
    let stats = get(admin, "/stats").body;
    let value = stats
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn two_proxies_share_a_quota_over_redis() {
    if !has_redis() {
        return;
    }
    let base = free_base();
    let [xds, monitoring, redis_port, quota, pages] = [0, 1, 2, 3, 4].map(|n| base + n);
    let (inbound, admin) = ([base + 10, base + 11], [base + 12, base + 13]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    let file = |name: &str| path.join(name).to_str().unwrap().to_owned();
    let serve = Serve::start();
    let zipkin = serve.addresses["Zipkin"].port();
    std::fs::create_dir(path.join("config")).unwrap();
    write(
        "config/mesh.yaml",
        &resources(quota, zipkin, origin(), inbound),
    );
    write("mesh-config.yaml", &mesh_config(true));
    write("limits.yaml", &limits(MOST));
    periplus_identity::private::write(&path.join("password"), "sesame\n").unwrap();
    let redis = Redis::start(redis_port, path);
    let mut service = Program::start(&[
        "ratelimit",
        "--config",
        &file("limits.yaml"),
        "--redis",
        &format!("127.0.0.1:{redis_port}"),
        "--redis-password-file",
        &file("password"),
        "--port",
        &quota.to_string(),
        "--monitoring-port",
        &pages.to_string(),
    ]);
    service.wait_for(&["rate limit service is ready"]);
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
    let mut proxies = [0, 1].map(|n| proxy(path, ("sidecar", "shop"), n, [xds, admin[n]]));
    for port in inbound {
        patiently("a listener", || (ask(port, "").status == 200).then_some(()));
    }

    // Taken in turns, the limit is that of both together, and clients are told how much is left.
    for count in 1..=MOST {
        let answer = ask(inbound[count as usize % 2], "ada");
        assert_eq!(answer.status, 200, "request {count}: {}", answer.head);
        let limit = format!("{MOST}, {MOST};w=3600;name=\"per-user\"");
        assert_eq!(answer.header("x-ratelimit-limit"), Some(limit.as_str()));
        let left = (MOST - count).to_string();
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left.as_str()));
        assert_eq!(answer.header("x-envoy-ratelimited"), None);
    }
    for port in inbound {
        let answer = ask(port, "ada");
        assert_eq!(answer.status, 429, "{}", answer.head);
        assert_eq!(answer.header("x-envoy-ratelimited"), Some("true"));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
        let reset: u64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&reset));
    }
    // Others have theirs; who has no limit, or is not counted, is not told of one.
    let bob = ask(inbound[0], "bob");
    assert_eq!(
        (bob.status, bob.header("x-ratelimit-remaining")),
        (200, Some("4"))
    );
    for user in ["admin", ""] {
        let answer = ask(inbound[0], user);
        assert_eq!(
            (answer.status, answer.header("x-ratelimit-limit")),
            (200, None)
        );
    }

    // The access log and the span say it.
    proxies[0].wait_for(&["\"GET /counted HTTP/1.1\" 429 RL request_rate_limited"]);
    let ui = serve.addresses["UI"].port();
    let tags = patiently("the span of a request that was refused", || {
        let found = get_json(ui, "/api/traces?service=shop.default&limit=100");
        let traces = found["data"].as_array()?.clone();
        traces.iter().find_map(|trace| {
            let spans = trace["spans"].as_array()?;
            let of = |key: &str, value: &str| {
                let is_it = |tag: &Value| tag["key"] == key && tag["value"] == value;
                let has = |span: &&Value| span["tags"].as_array().unwrap().iter().any(is_it);
                spans.iter().find(has).cloned()
            };
            of("ratelimit_status", "over_limit")?;
            of("ratelimit.result", "over_limit")
        })
    });
    let has = |key: &str, value: &str| {
        let mut tags = tags["tags"].as_array().unwrap().iter();
        tags.any(|tag| tag["key"] == key && tag["value"] == value)
    };
    assert!(
        has("response_flags", "RL") && has("http.status_code", "429"),
        "{tags:#}"
    );
    assert!(
        has(
            "ratelimit.provider",
            "outbound|8081||ratelimit.default.svc.cluster.local"
        ),
        "{tags:#}"
    );
    let of_cluster = |name: &str| format!("cluster.inbound|{}||.ratelimit.{name}", inbound[0]);
    assert_eq!(
        stat(admin[0], &of_cluster("over_limit")),
        1,
        "{}",
        get(admin[0], "/stats").body
    );
    assert_eq!(stat(admin[0], &of_cluster("ok")), 4);
    let metrics = get(pages, "/metrics").body;
    for line in [
        "periplus_ratelimit_over_limit_total 2",
        "periplus_ratelimit_limit_over_total{limit=\"shop.path_counted.user\"} 2",
        "periplus_ratelimit_failed_total 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }

    // Other limits hold at once, a file that is wrong changes nothing.
    write("limits.yaml", &limits(1000));
    service.wait_for(&["2 limits from now on"]);
    assert_eq!(ask(inbound[1], "ada").status, 200);
    write("limits.yaml", "domain: shop\ndescriptors: [{key: ''}]\n");
    service.wait_for(&["the limits stay what they are", "its key must not be empty"]);
    assert_eq!(
        ask(inbound[1], "ada").header("x-ratelimit-remaining"),
        Some("991")
    );

    // Without Redis requests go on where the mesh wants it so, and are refused where it does not.
    drop(redis);
    let answer = ask(inbound[0], "ada");
    assert_eq!(
        (answer.status, answer.header("x-ratelimit-limit")),
        (200, None)
    );
    assert!(stat(admin[0], &of_cluster("failure_mode_allowed")) > 0);
    service.wait_for(&["requests are not counted", "Redis"]);
    write("mesh-config.yaml", &mesh_config(false));
    patiently("closed", || {
        (ask(inbound[0], "ada").status == 500).then_some(())
    });
    proxies[0].wait_for(&["\"GET /counted HTTP/1.1\" 500 RLSE rate_limiter_error"]);
    // Whoever is not counted goes on.
    assert_eq!(ask(inbound[0], "").status, 200);
    let _back = Redis::start(redis_port, path);
    patiently("counted again", || {
        (ask(inbound[0], "ada").status == 200).then_some(())
    });
    service.wait_for(&["requests are counted again"]);
}
