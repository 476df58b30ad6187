//! Sidecars in namespaces, their control plane, and a collector of their spans.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::namespaces::{Side, World, wait_for};

pub(crate) const MESH_CONFIG: &str = "
extensionProviders: [{name: zipkin, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}]
defaultProviders: {tracing: [zipkin]}
defaultConfig: {tracing: {sampling: 100}}
";

const COLLECTOR: u16 = 9411;
const XDS: u16 = 15010;

/// A program that ends with this.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real Envoy; none, and a notice, where there is none. On CI there must be one.
pub(crate) fn envoy() -> Option<OsString> {
    let envoy = std::env::var_os("PERIPLUS_ENVOY");
    if envoy.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy on CI"
        );
        eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy");
    }
    envoy
}

/// Where a control plane that certifies has its keys, in its directory.
pub(crate) const IDENTITY: &str = "identity";

/// Starts a control plane with these resources, and these flags besides; its files are in `directory`.
pub(crate) fn control_plane(
    world: &World,
    side: Side,
    directory: &Path,
    resources: &str,
    flags: &[&str],
) -> Program {
    std::fs::create_dir(directory.join("config")).unwrap();
    std::fs::write(directory.join("config/mesh.yaml"), resources).unwrap();
    std::fs::write(directory.join("mesh-config.yaml"), MESH_CONFIG).unwrap();
    let log = std::fs::File::create(directory.join("control.log")).unwrap();
    let mut command = world.command(side, env!("CARGO_BIN_EXE_periplus"));
    command.args(["control", "--dir", "config", "--bind", "::"]);
    command
        .args(["--mesh-config", "mesh-config.yaml"])
        .args(flags);
    command.current_dir(directory);
    command.stdout(Stdio::null()).stderr(log);
    Program(command.spawn().unwrap())
}

/// What a proxy is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Redirected,
    Transparent,
    Gateway,
}

/// A workload's proxy, in the namespace of the workload.
pub(crate) struct Sidecar {
    pub(crate) kind: Kind,
    pub(crate) side: Side,
    pub(crate) address: IpAddr,
    pub(crate) app: &'static str,
    /// Where its control plane is.
    pub(crate) control: IpAddr,
    /// Whether it gets a certificate there.
    pub(crate) is_certified: bool,
    /// Whether it answers its workload's questions for addresses.
    pub(crate) captures_dns: bool,
}

impl Sidecar {
    /// Starts it, or Envoy in its place, and waits for its listeners.
    pub(crate) fn start(&self, world: &World, directory: &Path, envoy: Option<&OsStr>) -> Program {
        let name = format!("{}.json", self.app);
        let socket = format!("{}.sock", self.app);
        let mut bootstrap = self.bootstrap();
        if self.is_certified && envoy.is_some() {
            let clusters = bootstrap["static_resources"]["clusters"]
                .as_array_mut()
                .unwrap();
            let mut agent = clusters[0].clone();
            agent["name"] = json!("sds-grpc");
            let endpoint = &mut agent["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
            endpoint["endpoint"]["address"] = json!({"pipe": {"path": socket}});
            clusters.push(agent);
        }
        std::fs::write(directory.join(&name), bootstrap.to_string()).unwrap();
        let log = std::fs::File::create(directory.join(format!("{}.log", self.app))).unwrap();
        let mut command = if let Some(envoy) = envoy {
            let periplus = OsStr::new(env!("CARGO_BIN_EXE_periplus"));
            let mut command = self.command(world, if self.is_certified { periplus } else { envoy });
            if self.is_certified {
                // An agent, which gives it its certificate over SDS.
                let account = format!("default/{}", self.app);
                let authority = format!("http://{}", SocketAddr::new(self.control, XDS));
                command.args(["guard", "--sds", &socket, "--account", &account]);
                command.args(["--token-file", &self.token(directory), "--ca", &authority]);
                // The agent is killed when the test ends, and nobody would tell Envoy.
                command
                    .args(["setpriv", "--", "--pdeathsig", "KILL"])
                    .arg(envoy);
            }
            command.args(["--concurrency", "1", "--disable-hot-restart"]);
            command
        } else {
            let mut command = self.command(world, OsStr::new(env!("CARGO_BIN_EXE_periplus")));
            command.arg("proxy");
            if self.is_certified {
                command.args(["--token-file", &self.token(directory)]);
            }
            command
        };
        command.args(["-c", &name]).current_dir(directory);
        command.stdout(Stdio::null()).stderr(log);
        let program = Program(command.spawn().unwrap());
        if self.kind != Kind::Gateway {
            self.wait_for(world, 15001);
            self.wait_for(world, 15006);
        }
        program
    }

    /// Makes the file of its token.
    fn token(&self, directory: &Path) -> String {
        let file = format!("{}.jwt", self.app);
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command.args([
            "token",
            "--identity-dir",
            IDENTITY,
            "-a",
            self.app,
            "-o",
            &file,
        ]);
        let output = command.current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        file
    }

    /// A program in the workload's namespace, run as the rules know the proxy: by its user, or, where it must be root
    /// as with TPROXY, by its group.
    fn command(&self, world: &World, program: &OsStr) -> Command {
        if self.kind != Kind::Transparent {
            return world.command(self.side, program);
        }
        let mut command = world.command(self.side, "setpriv");
        command.args(["--regid", "1337", "--clear-groups"]);
        command.arg(program);
        command
    }

    /// Waits until somebody listens on a port of the workload.
    pub(crate) fn wait_for(&self, world: &World, port: u16) {
        wait_for("a listener of the workload", || {
            let mut probe = world.command(self.side, "bash");
            let script = format!("exec 3<>/dev/tcp/{}/{port}", self.address);
            let output = probe.args(["-c", &script]).output().unwrap();
            output.status.success().then_some(())
        });
    }

    /// Redirects the workload's connections to it.
    pub(crate) fn intercept(&self, world: &World, flags: &[&str]) {
        let owner = match self.kind {
            Kind::Transparent => "1337",
            Kind::Redirected | Kind::Gateway => "0",
        };
        let output = world
            .command(self.side, env!("CARGO_BIN_EXE_periplus"))
            .args(["proxy-init", "-u", owner, "-g", owner, "-m", self.mode()])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn mode(&self) -> &'static str {
        match self.kind {
            Kind::Redirected => "REDIRECT",
            Kind::Transparent => "TPROXY",
            Kind::Gateway => "NONE",
        }
    }

    fn bootstrap(&self) -> Value {
        let (address, app) = (self.address, self.app);
        let role = match self.kind {
            Kind::Gateway => "router",
            Kind::Redirected | Kind::Transparent => "sidecar",
        };
        let at =
            |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
        let control = at(&self.control.to_string(), XDS);
        json!({
            "node": {
                "id": format!("{role}~{address}~{app}-1.default~default.svc.cluster.local"),
                "cluster": format!("{app}.default"),
                "metadata": {
                    "NAMESPACE": "default",
                    "LABELS": {"app": app},
                    "SERVICE_ACCOUNT": app,
                    "INTERCEPTION_MODE": self.mode(),
                    "DNS_CAPTURE": self.captures_dns.to_string(),
                },
            },
            "admin": {"address": at("127.0.0.1", 15000)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                },
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {
                "clusters": [{
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "http2_protocol_options": {},
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": control}}]}],
                    },
                }],
            },
        })
    }
}

/// A collector outside that takes Zipkin's JSON.
pub(crate) struct Collector(Arc<Mutex<Vec<Value>>>);

impl Collector {
    pub(crate) fn start(world: &World) -> Self {
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let all = Arc::clone(&spans);
        let listener = world.listen_outside(COLLECTOR);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    while let Some(body) = read_body(&mut reader) {
                        let told: Vec<Value> = serde_json::from_slice(&body).unwrap();
                        all.lock().unwrap().extend(told);
                        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
                        (&stream).write_all(answer).unwrap();
                    }
                });
            }
        });
        Self(spans)
    }

    /// Waits until what came so far has something in it.
    pub(crate) fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[Value]) -> Option<T>) -> T {
        wait_for(what, || find(&self.0.lock().unwrap()))
    }

    /// Waits for a span of this name: its kind and its service.
    pub(crate) fn service(&self, name: &str) -> (String, String) {
        self.wait_for(name, |spans| {
            let span = spans.iter().find(|span| span["name"] == name)?;
            Some((text(&span["kind"]), text(service(span))))
        })
    }
}

/// The service that has reported a span.
pub(crate) fn service(span: &Value) -> &Value {
    &span["localEndpoint"]["serviceName"]
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The body of the next request, whole or in chunks; none at the end of the connection.
fn read_body(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut line, mut length, mut is_chunked) = (String::new(), 0, false);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        match lower.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
            None if lower.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while is_chunked {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        is_chunked = size > 0;
    }
    Some(body)
}
