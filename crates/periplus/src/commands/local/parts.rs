//! The processes of a mesh.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use periplus_local::{Claim, Mesh, Part, Probe, ProxyNode, Restart};

use super::ProxyChoice;
use super::state::{GATEWAY, State, local, sidecar_of};

/// The part that is the trace backend.
pub(crate) const SERVE: &str = "serve";
/// The part that is the control plane.
pub(crate) const CONTROL: &str = "control";

/// Every port that a part will listen on, but for those that the gateway is told by its resources.
pub(crate) fn claims(mesh: &Mesh) -> Vec<Claim> {
    let ports = &mesh.ports;
    let backend = &ports.backend;
    let mut claims = vec![
        Claim::new(backend.ui, SERVE, "UI"),
        Claim::new(backend.otlp_grpc, SERVE, "OTLP/gRPC"),
        Claim::new(backend.otlp_http, SERVE, "OTLP/HTTP"),
        Claim::new(backend.zipkin, SERVE, "Zipkin"),
        Claim::new(backend.health, SERVE, "health"),
        Claim::new(backend.metrics, SERVE, "metrics"),
        Claim::new(ports.xds, CONTROL, "xDS"),
        Claim::new(ports.monitoring, CONTROL, "monitoring"),
        Claim::new(ports.gateway_admin, GATEWAY, "admin"),
    ];
    for workload in &mesh.workloads {
        let name = &workload.name;
        let sidecar = sidecar_of(name);
        let ports = ports.workloads[name];
        claims.extend([
            Claim::new(ports.app, name, "application"),
            Claim::new(ports.inbound, &sidecar, "inbound"),
            Claim::new(ports.outbound, &sidecar, "outbound"),
            Claim::new(ports.admin, &sidecar, "admin"),
        ]);
    }
    claims
}

/// Makes the parts of a mesh.
pub(crate) struct Maker<'a> {
    /// This program.
    program: PathBuf,
    mesh: &'a Mesh,
    state: &'a State,
    proxy: &'a ProxyChoice,
    certificate_lifetime: Duration,
    /// Directories of resources besides those that are generated.
    rules: &'a [PathBuf],
}

impl<'a> Maker<'a> {
    pub(crate) fn new(
        mesh: &'a Mesh,
        state: &'a State,
        proxy: &'a ProxyChoice,
        certificate_lifetime: Duration,
        rules: &'a [PathBuf],
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Self {
            program,
            mesh,
            state,
            proxy,
            certificate_lifetime,
            rules,
        })
    }

    /// All parts: these applications, one for each workload, and what is around them. Sidecars come after
    /// what they need, the gateway comes last: so nothing is asked before it can answer, and when
    /// everything stops, in reverse, spans still find the backend.
    pub(crate) fn with(&self, applications: Vec<Part>) -> Vec<Part> {
        let mesh = self.mesh;
        let mut parts = vec![self.serve(), self.control()];
        parts.extend(applications);
        let mut sidecars = Vec::new();
        for workload in &mesh.workloads {
            let sidecar = sidecar_of(&workload.name);
            let after = [SERVE, CONTROL, &workload.name];
            let admin = mesh.ports.workloads[&workload.name].admin;
            parts.push(self.proxy(&sidecar, &mesh.sidecar(workload), admin, &after));
            sidecars.push(sidecar);
        }
        let after: Vec<&str> = sidecars.iter().map(String::as_str).collect();
        parts.push(self.proxy(GATEWAY, &mesh.gateway(), mesh.ports.gateway_admin, &after));
        parts
    }

    fn serve(&self) -> Part {
        let backend = &self.mesh.ports.backend;
        let mut arguments = vec![SERVE.to_owned()];
        for (flag, port) in [
            ("--ui-port", backend.ui),
            ("--otlp-grpc-port", backend.otlp_grpc),
            ("--otlp-http-port", backend.otlp_http),
            ("--zipkin-port", backend.zipkin),
            ("--health-port", backend.health),
            ("--metrics-port", backend.metrics),
            // Nothing here uses these: any port will do.
            ("--query-grpc-port", 0),
            ("--jaeger-grpc-port", 0),
            ("--jaeger-http-port", 0),
            ("--jaeger-compact-port", 0),
            ("--jaeger-binary-port", 0),
            // Its sidecars take their share from the mesh: any port will do.
            ("--sampling-port", 0),
            ("--sampling-grpc-port", 0),
        ] {
            arguments.extend([flag.to_owned(), port.to_string()]);
        }
        let data = self.state.traces().display().to_string();
        arguments.extend(["--data".to_owned(), data]);
        let ready = Probe::Http {
            address: local(backend.ui),
            path: "/api/periplus/v1/boot".to_owned(),
        };
        let mut part = self.part(SERVE, arguments, ready, &[]);
        // Settings of whoever runs it are not meant for it.
        part.environment = ["PERIPLUS_CONFIG", "MULTI_TENANCY_ENABLED"]
            .map(|name| (name.to_owned(), String::new()))
            .to_vec();
        part
    }

    fn control(&self) -> Part {
        let ports = &self.mesh.ports;
        let mut arguments = vec![CONTROL.to_owned()];
        let config = self.state.config();
        for directory in std::iter::once(&config).chain(self.rules) {
            arguments.extend(["--dir".to_owned(), directory.display().to_string()]);
        }
        arguments.extend([
            "--mesh-config".to_owned(),
            self.state.mesh_config().display().to_string(),
            "--xds-port".to_owned(),
            ports.xds.to_string(),
            "--monitoring-port".to_owned(),
            ports.monitoring.to_string(),
            "--identity-dir".to_owned(),
            self.state.identity().display().to_string(),
            "--workload-cert-ttl".to_owned(),
            format!("{}ms", self.certificate_lifetime.as_millis()),
            // Nothing here uses it: any port will do.
            "--tls-port".to_owned(),
            "0".to_owned(),
        ]);
        let ready = Probe::Http {
            address: local(ports.monitoring),
            path: "/ready".to_owned(),
        };
        self.part(CONTROL, arguments, ready, &[])
    }

    fn proxy(&self, name: &str, node: &ProxyNode, admin: u16, after: &[&str]) -> Part {
        let bootstrap = self.state.bootstrap(name).display().to_string();
        let token = self.state.token(name).display().to_string();
        let arguments = match self.proxy {
            ProxyChoice::Periplus => [
                "proxy",
                "-c",
                &bootstrap,
                "--token-file",
                &token,
                "--span-details",
                "--otel-b3",
            ]
            .map(str::to_owned)
            .to_vec(),
            ProxyChoice::Envoy(path) => [
                "guard",
                "--sds",
                &self.state.agent(name).display().to_string(),
                "--account",
                &format!("{}/{}", node.namespace, node.service_account),
                "--token-file",
                &token,
                "--ca",
                &format!("http://{}", local(self.mesh.ports.xds)),
                &path.display().to_string(),
                "--",
                "-c",
                &bootstrap,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        let ready = Probe::Http {
            address: local(admin),
            path: "/ready".to_owned(),
        };
        self.part(name, arguments, ready, after)
    }

    /// A command of this program.
    pub(crate) fn part(
        &self,
        name: &str,
        arguments: Vec<String>,
        ready: Probe,
        after: &[&str],
    ) -> Part {
        Part {
            name: name.to_owned(),
            program: self.program.clone(),
            arguments,
            directory: None,
            environment: Vec::new(),
            after: after.iter().map(|&name| name.to_owned()).collect(),
            ready,
            restart: Restart::Always,
            log: self.state.log(name),
        }
    }
}
