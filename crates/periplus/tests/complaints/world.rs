//! Two workloads behind sidecars, the first of which calls the second, a control plane, and a trace backend.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use periplus_proxy::bootstrap::{Spec, render};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backend::Serve;
use crate::support::{Program, free_base, get, get_json, patiently};

/// What an application does with the headers of the request that it works on.
#[derive(Clone, Copy)]
pub(super) enum App {
    HandsOn,
    HandsOnB3,
    /// It has a library of its own, which knows B3 alone.
    BeginsB3,
    Drops,
}

/// The first application.
#[derive(Clone, Default)]
pub(super) struct Front(Arc<AtomicU8>);

impl Front {
    pub(super) fn behaves(&self, app: App) {
        self.0.store(app as u8, Ordering::SeqCst);
    }
}

pub(super) struct World {
    directory: TempDir,
    serve: Serve,
    _control: Program,
    proxies: Vec<Program>,
    xds: u16,
    monitoring: u16,
    /// Where requests come in.
    inbound: u16,
    outbound: [u16; 2],
    apps: [u16; 2],
    inbounds: [u16; 2],
    pub(super) front: Front,
    /// A port at which nobody listens.
    pub(super) closed: u16,
}

/// What the doctor says.
#[derive(Debug)]
pub(super) struct Found(Vec<Value>);

impl Found {
    fn step(&self, name: &str) -> &Value {
        self.0.iter().find(|step| step["name"] == name).unwrap()
    }

    /// The step that failed, and that nothing behind it was looked at.
    pub(super) fn failed(&self) -> Option<(&str, bool)> {
        let at = self.0.iter().position(|step| step["state"] == "failed")?;
        let behind = self.0[at + 1..].iter();
        let is_last = behind.clone().all(|step| step["state"] == "skipped");
        Some((self.0[at]["name"].as_str()?, is_last))
    }

    pub(super) fn state(&self, step: &str) -> &str {
        self.step(step)["state"].as_str().unwrap()
    }

    pub(super) fn says(&self, step: &str, text: &str) -> bool {
        self.step(step)["said"].as_str().unwrap().contains(text)
    }

    pub(super) fn advises(&self, step: &str) -> bool {
        let step = self.step(step);
        // What is wrong between resources says itself what to do.
        step["advice"].is_string() || step["said"].as_str().unwrap().contains(": ")
    }
}

const APPS: [&str; 2] = ["front", "back"];

impl World {
    pub(super) fn start() -> Self {
        let base = free_base();
        let [xds, monitoring] = [base, base + 1];
        let inbounds = [base + 10, base + 20];
        let outbound = [base + 11, base + 21];
        let admins = [base + 12, base + 22];
        let front = Front::default();
        let apps = [
            application(Some((outbound[0], front.clone()))),
            application(None),
        ];
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("config")).unwrap();
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
        write("mesh-config.yaml", "").unwrap();
        write("config/case.yaml", "").unwrap();
        let text = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let imports = ["*/*"];
        let workloads = workloads((inbounds, outbound, apps), &imports);
        write("config/workloads.yaml", &workloads).unwrap();
        let mut control = Program::start(&[
            "control",
            "--dir",
            &text("config"),
            "--mesh-config",
            &text("mesh-config.yaml"),
            "--xds-port",
            &xds.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let proxies = [0, 1].map(|n| {
            let app = APPS[n];
            let at = |port: u16| ([127, 0, 0, 1], port).into();
            let spec = Spec {
                node_id: &format!("sidecar~127.0.0.1~{app}-v1.default~default.svc.cluster.local"),
                node_cluster: &format!("{app}.default"),
                metadata: &json!({
                    "NAMESPACE": "default",
                    "LABELS": {"app": app},
                    "INTERCEPTION_MODE": "NONE",
                }),
                control_plane: at(xds),
                admin: at(admins[n]),
                agent: None,
            };
            write(&format!("{app}.json"), &render(&spec)).unwrap();
            let bootstrap = text(&format!("{app}.json"));
            let mut proxy = Program::start(&["proxy", "-c", &bootstrap, "--log-level", "info"]);
            proxy.wait_for(&["proxy is ready"]);
            proxy
        });
        Self {
            serve: Serve::start(),
            _control: control,
            proxies: proxies.into(),
            xds,
            monitoring,
            inbound: inbounds[0],
            outbound,
            apps,
            inbounds,
            front,
            closed,
            directory,
        }
    }

    /// The same, but that requests come in by a gateway, and no workload has a sidecar.
    pub(super) fn start_with_gateway() -> Self {
        let mut world = Self::start();
        world.proxies.clear();
        let base = free_base();
        let [gateway, admin] = [base, base + 1];
        let ports = world.apps;
        world.write(
            "config/workloads.yaml",
            &workloads((ports, world.outbound, ports), &["*/*"]),
        );
        world.write("config/gateway.yaml", &by_gateway(gateway));
        let at = |port: u16| ([127, 0, 0, 1], port).into();
        let spec = Spec {
            node_id: "router~127.0.0.1~edge.istio-system~istio-system.svc.cluster.local",
            node_cluster: "edge.istio-system",
            metadata: &json!({
                "NAMESPACE": "istio-system",
                "LABELS": {"istio": "edge"},
                "INTERCEPTION_MODE": "NONE",
            }),
            control_plane: at(world.xds),
            admin: at(admin),
            agent: None,
        };
        world.write("edge.json", &render(&spec));
        let bootstrap = world.directory.path().join("edge.json");
        let mut proxy = Program::start(&["proxy", "-c", bootstrap.to_str().unwrap()]);
        proxy.wait_for(&["proxy is ready"]);
        world.proxies.push(proxy);
        world.inbound = gateway;
        // It is ready with what the control plane knew, and that may not have been the Gateway yet.
        patiently("the gateway's listener", || {
            (get(gateway, "/").status == 200).then_some(())
        });
        world
    }

    /// A port of the trace backend.
    pub(super) fn port(&self, name: &str) -> u16 {
        self.serve.addresses[name].port()
    }

    /// The collector, which listens there.
    pub(super) fn collector(&self, port: u16, protocol: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin, namespace: istio-system}}
spec:
  hosts: [zipkin.istio-system.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http, protocol: {protocol}, targetPort: {port}}}]
  endpoints: [{{address: 127.0.0.1}}]
---
"
        )
    }

    fn write(&self, name: &str, text: &str) {
        // Whole at once: what is half written is another complaint.
        let path = self.directory.path().join(name);
        let temporary = self.directory.path().join("temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, path).unwrap();
    }

    pub(super) fn apply(&self, mesh_config: &str, resources: &str) {
        self.write("mesh-config.yaml", mesh_config);
        self.write("config/case.yaml", resources);
    }

    /// Lets the sidecars see their own namespace alone.
    pub(super) fn hide_others(&self) {
        let ports = (self.inbounds, self.outbound, self.apps);
        self.write("config/workloads.yaml", &workloads(ports, &["./*"]));
    }

    /// The Telemetry in which the collector is named says whether it takes spans, and so do metrics.
    pub(super) fn wait_until_collector_is(&self, reachable: bool) {
        let status = if reachable { "True" } else { "False" };
        patiently("the state of the collector", || {
            let page = get_json(self.monitoring, "/debug/telemetry");
            let telemetry = page.as_array()?.first()?.clone();
            let [resolved, reached] = telemetry["conditions"].as_array()?.as_slice() else {
                panic!("{telemetry}");
            };
            assert_eq!(resolved["type"], "ProvidersResolved");
            assert_eq!(reached["type"], "ProvidersReachable");
            let has_told = (resolved["status"] == "True" && reached["status"] == status)
                && (reachable
                    || reached["message"]
                        .as_str()?
                        .contains("does not take connections"));
            has_told.then_some(())
        });
        let problems = get_json(self.monitoring, "/debug/config_errors");
        let lost = problems.as_array().unwrap().iter();
        let lost: Vec<_> = lost.filter(|one| one["code"] == "PER0206").collect();
        assert_eq!(lost.is_empty(), reachable, "{problems}");
        let metric = format!(
            "periplus_tracing_provider_reachable{{provider=\"z\"}} {}",
            u8::from(reachable)
        );
        let metrics = get(self.monitoring, "/metrics").body;
        assert!(metrics.contains(&metric), "{metrics}");
    }

    /// The services that the backend has spans of.
    pub(super) fn services(&self) -> Vec<String> {
        let found = get_json(self.port("UI"), "/api/services");
        let names = found["data"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// Sends requests, and asks the doctor, until he says this.
    pub(super) fn ask_until(&self, complaint: &str, wanted: impl Fn(&Found) -> bool) -> Found {
        let mut last = None;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            patiently(complaint, || {
                let answer = get(self.inbound, "/");
                assert_eq!(answer.status, 200, "{complaint}: {}", answer.body);
                let found = self.doctor();
                match wanted(&found) {
                    true => Some(found),
                    false => {
                        last = Some(found);
                        None
                    }
                }
            })
        }));
        found.unwrap_or_else(|_| panic!("{complaint}: the doctor has said {last:#?}"))
    }

    fn doctor(&self) -> Found {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args(["doctor", "tracing", "-o", "json", "--dir"])
            .arg(self.directory.path().join("config"))
            .arg("--mesh-config")
            .arg(self.directory.path().join("mesh-config.yaml"))
            .args(["--control", &url(self.monitoring)])
            .args(["--server", &url(self.port("UI"))])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let steps: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let has_failed = steps.iter().any(|step| step["state"] == "failed");
        assert_eq!(output.status.code(), Some(i32::from(has_failed)));
        Found(steps)
    }
}

fn by_gateway(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: edge}}
  servers:
  - {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*'], bind: 127.0.0.1}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: front}}
spec:
  hosts: ['*']
  gateways: [istio-system/edge]
  http: [{{route: [{{destination: {{host: back.default.svc.cluster.local}}}}]}}]
"
    )
}

fn workloads(
    (inbounds, outbounds, apps): ([u16; 2], [u16; 2], [u16; 2]),
    imports: &[&str],
) -> String {
    let mut text = String::new();
    let imports = imports.join("', '");
    for (n, app) in APPS.into_iter().enumerate() {
        let (inbound, outbound, application) = (inbounds[n], outbounds[n], apps[n]);
        text += &format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {app}}}
spec:
  hosts: [{app}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {app}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {app}-v1}}
spec: {{address: 127.0.0.1, labels: {{app: {app}}}, ports: {{http: {inbound}}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {app}}}
spec:
  workloadSelector: {{labels: {{app: {app}}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{application}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['{imports}']
---
"
        );
    }
    text
}

/// An application; one that calls the other does so through its sidecar.
fn application(calls: Option<(u16, Front)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let calls = calls.clone();
            // A connection that breaks ends alone.
            std::thread::spawn(move || work(&stream, calls.as_ref()));
        }
    });
    port
}

fn work(stream: &TcpStream, calls: Option<&(u16, Front)>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut handed_on = String::new();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let name = line
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            let is_b3 = name == "b3" || name.starts_with("x-b3-");
            let is_w3c = name == "traceparent" || name == "tracestate";
            let app = calls.map_or(App::Drops as u8, |(_, front)| {
                front.0.load(Ordering::SeqCst)
            });
            let is_handed_on = match app {
                app if app == App::HandsOn as u8 => is_b3 || is_w3c || name == "x-request-id",
                app if app == App::HandsOnB3 as u8 => is_b3 || name == "x-request-id",
                _ => false,
            };
            if is_handed_on {
                handed_on += &line;
            }
        }
        if let Some((outbound, front)) = calls {
            if front.0.load(Ordering::SeqCst) == App::BeginsB3 as u8 {
                handed_on += "x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\n\
                              x-b3-spanid: a2fb4a1d1a96d312\r\nx-b3-sampled: 1\r\n";
            }
            let mut call = TcpStream::connect(("127.0.0.1", *outbound))?;
            write!(
                call,
                "GET http://back.default.svc.cluster.local/ HTTP/1.1\r\n\
                 host: back.default.svc.cluster.local\r\nconnection: close\r\n{handed_on}\r\n"
            )?;
            call.read_to_end(&mut Vec::new())?;
        }
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
}
