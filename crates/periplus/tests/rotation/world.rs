//! A control plane whose root ends soon, a client's sidecar, and two servers': ours, and a real Envoy if there is one.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use periplus_identity::{Material, private};
use periplus_proxy::bootstrap::{Spec, render};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plugged_in::workload;
use crate::support::{Program, free_base, get, patiently};

/// Of each server one whose connections last, and one that has another for each request.
pub(super) const HOSTS: [&str; 4] = [
    "ours.default.svc.cluster.local",
    "ours-once.default.svc.cluster.local",
    "envoy.default.svc.cluster.local",
    "envoy-once.default.svc.cluster.local",
];
/// Roots hold for so many times the time of a certificate: the least that the control plane takes.
const OF_ROOT: u32 = 10;

/// The ports of a server's sidecar.
#[derive(Clone, Copy)]
pub(super) struct Server {
    pub(super) inbound: u16,
    pub(super) admin: u16,
}

pub(super) struct World {
    control: Program,
    _proxies: Vec<Program>,
    directory: TempDir,
    secured: u16,
    pub(super) monitoring: u16,
    /// Of the client's sidecar.
    pub(super) outbound: u16,
    pub(super) admin: u16,
    pub(super) ours: Server,
    pub(super) envoy: Option<Server>,
}

impl World {
    /// Starts all; the root is due for replacement after about so long.
    pub(super) fn start(leaf: Duration, due: Duration) -> Self {
        let base = free_base();
        let [xds, monitoring, outbound, admin, secured] =
            [base, base + 1, base + 2, base + 3, base + 4];
        let server = |n: u16| Server {
            inbound: base + n,
            admin: base + n + 1,
        };
        let (ours, theirs) = (server(10), server(20));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let config = path.join("config");
        std::fs::create_dir(&config).unwrap();
        let resources = resources(outbound, origin(), [ours, theirs]);
        std::fs::write(config.join("mesh.yaml"), resources).unwrap();
        let identity = path.join("identity");
        ageing_root(&identity.join("ca"), leaf * OF_ROOT, due);
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let mut control = Program::start(&[
            "control",
            "--dir",
            text(&config),
            "--xds-port",
            &xds.to_string(),
            "--tls-port",
            &secured.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
            "--identity-dir",
            text(&identity),
            "--workload-cert-ttl",
            &seconds(leaf),
            "--max-workload-cert-ttl",
            &seconds(leaf),
            "--root-cert-ttl",
            &seconds(leaf * OF_ROOT),
        ]);
        control.wait_for(&["control plane is ready"]);
        let start = |account: &str, admin: u16, envoy: Option<PathBuf>| {
            let proxy = Proxy {
                directory: path,
                account,
                token_of: account,
                secured,
                admin,
                role: "sidecar",
                labels: json!({"app": account}),
            };
            proxy.start(envoy)
        };
        let real = real_envoy();
        let mut proxies = vec![start("ours", ours.admin, None)];
        let envoy = real.map(|real| {
            proxies.push(start("envoy", theirs.admin, Some(real)));
            theirs
        });
        proxies.push(start("client", admin, None));
        for admin in [Some(ours), envoy].iter().flatten().map(|it| it.admin) {
            patiently("a server", || {
                (get(admin, "/ready").status == 200).then_some(())
            });
        }
        patiently("the client", || {
            (get(admin, "/ready").status == 200).then_some(())
        });
        Self {
            control,
            _proxies: proxies,
            directory,
            secured,
            monitoring,
            outbound,
            admin,
            ours,
            envoy,
        }
    }

    /// A proxy that says it is that of `ours`, with the token of somebody else.
    pub(super) fn thief(&self) -> Program {
        let thief = Proxy {
            directory: self.directory.path(),
            account: "ours",
            token_of: "client",
            secured: self.secured,
            admin: self.ours.admin + 1,
            role: "sidecar",
            labels: json!({"app": "ours"}),
        };
        thief.start(None)
    }

    /// What the control plane has logged.
    pub(super) fn finish(mut self) -> String {
        self.control.signal(Signal::TERM);
        self.control.finish().1
    }
}

/// Without one it is said; on CI there must be one.
fn real_envoy() -> Option<PathBuf> {
    let envoy = std::env::var_os("PERIPLUS_ENVOY").map(PathBuf::from);
    if envoy.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy binary on CI"
        );
        eprintln!("not tried with Envoy: PERIPLUS_ENVOY does not name one");
    }
    envoy
}

/// A root that was made so long ago that it must be replaced after this time: when a fifth of its own is left.
fn ageing_root(directory: &Path, lifetime: Duration, due: Duration) {
    let left = lifetime / 5 + due;
    let made = Material::self_signed("cluster.local", left, SystemTime::now()).unwrap();
    private::make_directory(directory).unwrap();
    for (name, text) in [
        ("ca-cert.pem", &made.certificate),
        ("ca-key.pem", &made.key),
        ("root-cert.pem", &made.roots),
    ] {
        private::write(&directory.join(name), text).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A sidecar, and the files that it needs.
pub(crate) struct Proxy<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) account: &'a str,
    /// Whose token it has.
    pub(crate) token_of: &'a str,
    /// The control plane's port with TLS.
    pub(crate) secured: u16,
    pub(crate) admin: u16,
    /// `sidecar` or `router`.
    pub(crate) role: &'static str,
    pub(crate) labels: Value,
}

impl Proxy<'_> {
    pub(crate) fn start(&self, envoy: Option<PathBuf>) -> Program {
        let Self {
            account,
            token_of,
            role,
            ..
        } = self;
        let file = |name: &str| {
            self.directory
                .join(format!("{account}.of.{token_of}.{name}"))
        };
        let (token, bootstrap, socket) = (file("jwt"), file("json"), file("sds"));
        let made = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args(["token", "-a", token_of, "--identity-dir"])
            .arg(self.directory.join("identity"))
            .arg("-o")
            .arg(&token)
            .status();
        assert!(made.unwrap().success());
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let spec = Spec {
            node_id: &format!("{role}~127.0.0.1~{account}-v1.default~default.svc.cluster.local"),
            node_cluster: &format!("{account}.default"),
            metadata: &json!({
                "NAMESPACE": "default",
                "LABELS": self.labels,
                "SERVICE_ACCOUNT": account,
                "INTERCEPTION_MODE": "NONE",
            }),
            control_plane: at(self.secured),
            admin: at(self.admin),
            agent: envoy.as_ref().map(|_| socket.as_path()),
        };
        let roots = self.directory.join("identity/ca/root-cert.pem");
        let mut made: Value = serde_json::from_str(&render(&spec)).unwrap();
        let context = match envoy {
            None => json!({"validation_context": {"trusted_ca": {"filename": roots}}}),
            Some(_) => json!({
                "tls_certificate_sds_secret_configs": [by_agent("default")],
                "validation_context_sds_secret_config": by_agent("ROOTCA"),
            }),
        };
        made["static_resources"]["clusters"][0]["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "istiod.istio-system.svc",
                "common_tls_context": context,
            },
        });
        std::fs::write(&bootstrap, made.to_string()).unwrap();
        let Some(envoy) = envoy else {
            let flags = ["--token-file", text(&token), "--log-level", "warn"];
            return Program::start(&[&["proxy", "-c", text(&bootstrap)], &flags[..]].concat());
        };
        Program::start(&[
            "guard",
            "--sds",
            text(&socket),
            "--account",
            &format!("default/{account}"),
            "--token-file",
            text(&token),
            "--ca",
            &format!("https://127.0.0.1:{}", self.secured),
            "--ca-roots",
            text(&roots),
            text(&envoy),
            "--",
            "-c",
            text(&bootstrap),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ])
    }
}

/// A secret that a stock Envoy gets from its agent.
fn by_agent(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
            },
        },
    })
}

fn resources(outbound: u16, origin: u16, servers: [Server; 2]) -> String {
    let mut text = format!(
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
"
    );
    for (app, Server { inbound, .. }) in ["ours", "envoy"].into_iter().zip(servers) {
        text += &workload(app, inbound, origin);
        for (name, requests) in [(app.to_owned(), 0), (format!("{app}-once"), 1)] {
            text += &format!(
                "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {app}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {name}.default.svc.cluster.local
  trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: {requests}}}}}}}
"
            );
        }
    }
    text
}

/// A server of HTTP/1.1 whose connections last.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(&stream));
        }
    });
    port
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
}

/// A client with one connection to its sidecar.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// The status of the answer, whose body is read to its end.
    pub(super) fn ask(&mut self, host: &str) -> io::Result<u16> {
        let request = format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (None, None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok();
            }
        }
        let body = length.ok_or(io::ErrorKind::InvalidData)?;
        self.0.read_exact(&mut vec![0; body])?;
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
