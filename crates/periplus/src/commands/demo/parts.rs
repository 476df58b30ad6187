//! The processes of the demo.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use periplus_bookinfo::{Environment, Role};
use periplus_local::{Claim, Mesh, Part, Probe, Restart, Workload};

use super::state::{GATEWAY, State, local, sidecar_of};
use super::{Args, ProxyChoice};

/// The part that is the trace backend.
pub(super) const SERVE: &str = "serve";
/// The part that is the control plane.
pub(super) const CONTROL: &str = "control";

/// Variables that Bookinfo heeds: those of whoever runs the demo are not meant for it.
const FOREIGN: [&str; 14] = [
    "SERVICES_DOMAIN",
    "DETAILS_HOSTNAME",
    "DETAILS_SERVICE_PORT",
    "REVIEWS_HOSTNAME",
    "REVIEWS_SERVICE_PORT",
    "RATINGS_HOSTNAME",
    "RATINGS_SERVICE_PORT",
    "FLOOD_FACTOR",
    "ENABLE_EXTERNAL_BOOK_SERVICE",
    "ENABLE_RATINGS",
    "STAR_COLOR",
    "CLUSTER_NAME",
    "BOOKINFO_DROP_HEADERS",
    "no_proxy",
];

/// Every port that a part will listen on.
pub(super) fn claims(mesh: &Mesh) -> Vec<Claim> {
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
        Claim::new(ports.gateway, GATEWAY, "product page"),
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

/// All parts. Sidecars come after what they need, the gateway comes last: so nothing is asked
/// before it can answer, and when everything stops, in reverse, spans still find the backend.
pub(super) fn parts(mesh: &Mesh, state: &State, args: &Args) -> anyhow::Result<Vec<Part>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let maker = Maker {
        program,
        state,
        proxy: &args.proxy,
        certificate_lifetime: args.certificate_lifetime,
        ca: format!("http://{}", local(mesh.ports.xds)),
    };
    let mut parts = vec![maker.serve(mesh), maker.control(mesh)];
    for workload in &mesh.workloads {
        parts.push(maker.application(mesh, workload, &args.drop_headers)?);
    }
    for workload in &mesh.workloads {
        let after = [SERVE, CONTROL, &workload.name];
        let admin = mesh.ports.workloads[&workload.name].admin;
        let account = (mesh.namespace.as_str(), workload.service_account.as_str());
        parts.push(maker.proxy(&sidecar_of(&workload.name), account, admin, &after));
    }
    let sidecars: Vec<String> = mesh
        .workloads
        .iter()
        .map(|workload| sidecar_of(&workload.name))
        .collect();
    let after: Vec<&str> = sidecars.iter().map(String::as_str).collect();
    let gateway = mesh.gateway();
    let account = (gateway.namespace.as_str(), gateway.service_account.as_str());
    parts.push(maker.proxy(GATEWAY, account, mesh.ports.gateway_admin, &after));
    Ok(parts)
}

struct Maker<'a> {
    program: PathBuf,
    state: &'a State,
    proxy: &'a ProxyChoice,
    certificate_lifetime: Duration,
    /// Where proxies get their certificates.
    ca: String,
}

impl Maker<'_> {
    fn serve(&self, mesh: &Mesh) -> Part {
        let backend = &mesh.ports.backend;
        let mut arguments = vec![SERVE.to_owned()];
        for (flag, port) in [
            ("--ui-port", backend.ui),
            ("--otlp-grpc-port", backend.otlp_grpc),
            ("--otlp-http-port", backend.otlp_http),
            ("--zipkin-port", backend.zipkin),
            ("--health-port", backend.health),
            ("--metrics-port", backend.metrics),
            // Nothing in the demo uses these: any port will do.
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
        // Settings of whoever runs the demo are not meant for it.
        part.environment = ["PERIPLUS_CONFIG", "MULTI_TENANCY_ENABLED"]
            .map(|name| (name.to_owned(), String::new()))
            .to_vec();
        part
    }

    fn control(&self, mesh: &Mesh) -> Part {
        let arguments = [
            CONTROL.to_owned(),
            "--dir".to_owned(),
            self.state.config().display().to_string(),
            "--mesh-config".to_owned(),
            self.state.mesh_config().display().to_string(),
            "--xds-port".to_owned(),
            mesh.ports.xds.to_string(),
            "--monitoring-port".to_owned(),
            mesh.ports.monitoring.to_string(),
            "--identity-dir".to_owned(),
            self.state.identity().display().to_string(),
            "--workload-cert-ttl".to_owned(),
            format!("{}ms", self.certificate_lifetime.as_millis()),
            // Nothing in the demo uses it: any port will do.
            "--tls-port".to_owned(),
            "0".to_owned(),
        ];
        let ready = Probe::Http {
            address: local(mesh.ports.monitoring),
            path: "/ready".to_owned(),
        };
        self.part(CONTROL, arguments.to_vec(), ready, &[])
    }

    fn application(
        &self,
        mesh: &Mesh,
        workload: &Workload,
        forgetful: &[Role],
    ) -> anyhow::Result<Part> {
        let role: Role = workload.app.parse()?;
        let ports = mesh.ports.workloads[&workload.name];
        let arguments = [
            "bookinfo",
            role.name(),
            "--port",
            &ports.app.to_string(),
            "--version",
            &workload.version,
        ];
        let ready = Probe::Http {
            address: local(ports.app),
            path: "/health".to_owned(),
        };
        let arguments = arguments.map(str::to_owned).to_vec();
        let mut part = self.part(&workload.name, arguments, ready, &[]);

        let own = role.with_version(&workload.version, Environment::default())?;
        let foreign = FOREIGN.iter().map(|&name| (name, ""));
        part.environment = foreign
            .chain(own.iter())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let proxy = format!("http://127.0.0.1:{}", ports.outbound);
        part.environment.push(("http_proxy".to_owned(), proxy));
        if forgetful.contains(&role) {
            let switch = ("BOOKINFO_DROP_HEADERS".to_owned(), "1".to_owned());
            part.environment.push(switch);
        }
        Ok(part)
    }

    fn proxy(
        &self,
        name: &str,
        (namespace, account): (&str, &str),
        admin: u16,
        after: &[&str],
    ) -> Part {
        let bootstrap = self.state.bootstrap(name).display().to_string();
        let token = self.state.token(name).display().to_string();
        let arguments = match self.proxy {
            ProxyChoice::Periplus => ["proxy", "-c", &bootstrap, "--token-file", &token]
                .map(str::to_owned)
                .to_vec(),
            ProxyChoice::Envoy(path) => [
                "guard",
                "--sds",
                &self.state.agent(name).display().to_string(),
                "--account",
                &format!("{namespace}/{account}"),
                "--token-file",
                &token,
                "--ca",
                &self.ca,
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

    fn part(&self, name: &str, arguments: Vec<String>, ready: Probe, after: &[&str]) -> Part {
        Part {
            name: name.to_owned(),
            program: self.program.clone(),
            arguments,
            environment: Vec::new(),
            after: after.iter().map(|&name| name.to_owned()).collect(),
            ready,
            restart: Restart::Always,
            log: self.state.log(name),
        }
    }
}
