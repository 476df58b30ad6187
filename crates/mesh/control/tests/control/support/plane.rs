//! A running control plane over a directory that a test edits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use periplus_control::{
    CertificateOptions, CertificateSource, ControlPlane, Debounce, Mesh, Options,
};
use periplus_identity::{Lifetimes, Rotation};
use periplus_xds::server::AdsServer;
use tokio::net::TcpListener;

use super::PATIENCE;

pub(crate) struct Plane {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) mesh_config: PathBuf,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) ads: AdsServer,
    pub(crate) xds: SocketAddr,
    pub(crate) monitoring: SocketAddr,
}

impl Plane {
    pub(crate) async fn start(files: &[(&str, String)], mesh_config: &str) -> Self {
        Self::start_with(files, mesh_config, false).await
    }

    /// With an authority for certificates, or without.
    pub(crate) async fn start_with(
        files: &[(&str, String)],
        mesh_config: &str,
        is_certified: bool,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let resources = directory.path().join("config");
        std::fs::create_dir(&resources).expect("a directory");
        for (name, text) in files {
            std::fs::write(resources.join(name), text).expect("a file");
        }
        let path = directory.path().join("mesh-config.yaml");
        std::fs::write(&path, mesh_config).expect("a file");
        let plane = ControlPlane::load(Options {
            certificates: is_certified.then(|| CertificateOptions {
                directory: directory.path().join("identity"),
                source: CertificateSource::Own,
                lifetimes: Lifetimes::default(),
                rotation: Rotation::default(),
                issuers: Vec::new(),
            }),
            directories: vec![resources],
            mesh_config: Some(path.clone()),
            debounce: Debounce {
                quiet: Duration::from_millis(50),
                longest: Duration::from_secs(1),
            },
        })
        .expect("the directory can be read");
        Self::serve(plane, (directory, path)).await
    }

    /// Serves a control plane beside a directory.
    pub(crate) async fn serve(
        plane: ControlPlane,
        (directory, mesh_config): (tempfile::TempDir, PathBuf),
    ) -> Self {
        let xds = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let monitoring = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let this = Self {
            directory,
            mesh_config,
            mesh: plane.mesh(),
            ads: plane.ads(),
            xds: xds.local_addr().expect("an address"),
            monitoring: monitoring.local_addr().expect("an address"),
        };
        let ads = plane.ads();
        tokio::spawn(async move { ads.serve(xds, std::future::pending()).await });
        let router = plane.monitoring();
        tokio::spawn(async move { axum::serve(monitoring, router).await });
        tokio::spawn(plane.run());
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("config").join(name)
    }

    /// Replaces a file as careful programs do: a new file, renamed over the old one.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        let temporary = self.path(&format!(".{name}.tmp"));
        std::fs::write(&temporary, text).expect("a file");
        std::fs::rename(temporary, self.path(name)).expect("a file");
    }

    /// Truncates a file and writes it anew.
    pub(crate) fn overwrite(&self, path: &PathBuf, text: &str) {
        std::fs::write(path, text).expect("a file");
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let state = self.mesh.state();
        state.problems.iter().map(ToString::to_string).collect()
    }

    /// Waits until the problems are such.
    pub(crate) async fn wait_for_problems(&self, wanted: impl Fn(&[String]) -> bool) {
        super::wait_until("the problems to be others", || {
            let problems = self.problems();
            wanted(&problems).then_some(()).ok_or(problems)
        })
        .await;
    }

    /// Waits until a problem says this.
    pub(crate) async fn wait_for_problem(&self, text: &str) {
        self.wait_for_problems(|problems| problems.iter().any(|problem| problem.contains(text)))
            .await;
    }

    /// One GET at the monitoring port: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.monitoring);
        let answer = super::http::get(self.monitoring, &url, &[]);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.expect("an answer in time").expect("an answer");
        (answer.status, answer.body)
    }
    /// The value of a series of the metrics.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| {
            let value = line.strip_prefix(series)?.strip_prefix(' ')?;
            value.parse().ok()
        });
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    }
}
