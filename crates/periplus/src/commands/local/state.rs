//! The directory of a mesh: the configuration that is generated, which its user may edit while it runs,
//! traces, certificates and logs.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use periplus_identity::{Bearer, ServiceAccount, private};
use periplus_local::{Mesh, ProxyNode};
use periplus_proxy::bootstrap;

use super::{ProxyChoice, TOKEN_LIFETIME};
use crate::commands::identity::Tokens;

/// The directory.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    temporary: bool,
    /// Two meshes in one directory would overwrite each other's files.
    _lock: File,
}

/// The part that is the gateway.
pub(crate) const GATEWAY: &str = "gateway";

/// The part that is the sidecar of a workload.
pub(crate) fn sidecar_of(workload: &str) -> String {
    format!("{workload}-sidecar")
}

impl State {
    /// Makes the directory, a temporary one if none is given, and writes everything that the parts read, and
    /// these files.
    pub(crate) fn create(
        directory: Option<PathBuf>,
        mesh: &Mesh,
        proxy: &ProxyChoice,
        files: &[(PathBuf, String)],
    ) -> anyhow::Result<Self> {
        let temporary = directory.is_none();
        let directory = match directory {
            // The parts are told absolute paths: they must not depend on where they run.
            Some(directory) => fs::create_dir_all(&directory)
                .and_then(|()| directory.canonicalize())
                .with_context(|| format!("cannot make the directory {}", directory.display()))?,
            None => fresh_directory()?,
        };
        let state = Self {
            _lock: lock(&directory)?,
            directory,
            temporary,
        };
        for directory in [state.config(), state.logs(), state.bootstraps()] {
            make_directory(&directory)?;
        }
        let needs_agent = matches!(proxy, ProxyChoice::Envoy(_));
        state.write_all(mesh, needs_agent)?;
        for (file, text) in files {
            let path = state.directory.join(file);
            if let Some(directory) = path.parent() {
                make_directory(directory)?;
            }
            write(&path, text)?;
        }
        state.issue_tokens(mesh)?;
        Ok(state)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether nobody has asked for this directory.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// What the control plane reads, and the user may edit.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("config")
    }

    pub(crate) fn mesh_config(&self) -> PathBuf {
        self.directory.join("mesh-config.yaml")
    }

    /// Where the backend keeps spans.
    pub(crate) fn traces(&self) -> PathBuf {
        self.directory.join("traces")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.logs().join(format!("{part}.log"))
    }

    /// The bootstrap file of a proxy, by the name of its part.
    pub(crate) fn bootstrap(&self, part: &str) -> PathBuf {
        self.bootstraps().join(format!("{part}.json"))
    }

    /// The keys of the certificate authority, and the tokens: for this user alone.
    pub(crate) fn identity(&self) -> PathBuf {
        self.directory.join("identity")
    }

    /// The token of a proxy, by the name of its part.
    pub(crate) fn token(&self, part: &str) -> PathBuf {
        self.identity().join(format!("{part}.jwt"))
    }

    /// The socket of an Envoy's agent.
    pub(crate) fn agent(&self, part: &str) -> PathBuf {
        self.identity().join(format!("{part}.sds"))
    }

    /// Makes the tokens of all proxies, in place of those that there are.
    pub(crate) fn issue_tokens(&self, mesh: &Mesh) -> anyhow::Result<()> {
        let tokens = Tokens::open(&self.identity())?;
        let issue = |part: &str, node: &ProxyNode| -> anyhow::Result<()> {
            let bearer = Bearer {
                account: ServiceAccount::new(&node.namespace, &node.service_account)?,
                workload: part.to_owned(),
            };
            let token = tokens.issue(&bearer, TOKEN_LIFETIME);
            Ok(private::write(&self.token(part), &token)?)
        };
        for workload in &mesh.workloads {
            issue(&sidecar_of(&workload.name), &mesh.sidecar(workload))?;
        }
        issue(GATEWAY, &mesh.gateway())
    }

    /// Removes the directory if it is not the user's.
    pub(crate) fn remove_if_temporary(&self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.directory)
        {
            tracing::warn!(%error, directory = %self.directory.display(), "cannot clean up");
        }
    }

    fn bootstraps(&self) -> PathBuf {
        self.directory.join("bootstrap")
    }

    fn write_all(&self, mesh: &Mesh, needs_agent: bool) -> anyhow::Result<()> {
        let config = self.config();
        for (file, text) in mesh.resources() {
            write(&config.join(file), &text)?;
        }
        write(&self.mesh_config(), &mesh.mesh_config())?;

        for workload in &mesh.workloads {
            let admin = mesh.ports.workloads[&workload.name].admin;
            let part = sidecar_of(&workload.name);
            let ports = (admin, mesh.ports.xds);
            self.write_bootstrap(&part, &mesh.sidecar(workload), ports, needs_agent)?;
        }
        let admin = mesh.ports.gateway_admin;
        let ports = (admin, mesh.ports.xds);
        self.write_bootstrap(GATEWAY, &mesh.gateway(), ports, needs_agent)
    }

    fn write_bootstrap(
        &self,
        part: &str,
        node: &ProxyNode,
        (admin, xds): (u16, u16),
        needs_agent: bool,
    ) -> anyhow::Result<()> {
        let agent = needs_agent.then(|| self.agent(part));
        let text = bootstrap::render(&bootstrap::Spec {
            node_id: &node.id,
            node_cluster: &node.cluster,
            metadata: &node.metadata,
            control_plane: local(xds),
            admin: local(admin),
            agent: agent.as_deref(),
        });
        write(&self.bootstrap(part), &text)
    }
}

/// An address of this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another mesh runs in {}: give this one a directory of its own with --dir",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn fresh_directory() -> anyhow::Result<PathBuf> {
    const TRIES: u32 = 100;
    let parent = std::env::temp_dir();
    let process = std::process::id();
    for attempt in 0..TRIES {
        let directory = parent.join(format!("periplus-{process}-{attempt}"));
        // For this user alone, and never a directory that somebody else has put there.
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "cannot make a directory in {}: give one with --dir",
                        parent.display()
                    )
                });
            }
        }
    }
    bail!(
        "cannot make a fresh directory in {}: give one with --dir",
        parent.display()
    )
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::mesh::bookinfo;

    #[test]
    fn everything_is_written_and_the_users_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mesh = bookinfo(Some(30_000)).unwrap();
        let path = directory.path().join("demo");
        let state = State::create(Some(path.clone()), &mesh, &ProxyChoice::Periplus, &[]).unwrap();
        let rules = state.config().join("routes.yaml");
        fs::write(&rules, "mine").unwrap();
        let error =
            State::create(Some(path.clone()), &mesh, &ProxyChoice::Periplus, &[]).unwrap_err();
        assert!(
            error.to_string().contains("another mesh runs in"),
            "{error}"
        );
        drop(state);
        let state = State::create(Some(path), &mesh, &ProxyChoice::Periplus, &[]).unwrap();
        assert_eq!(fs::read_to_string(rules).unwrap(), "mine");

        assert_eq!(fs::read_dir(state.bootstraps()).unwrap().count(), 7);
        let bootstrap = bootstrap::read(&state.bootstrap("reviews-v2-sidecar")).unwrap();
        assert_eq!(bootstrap.node.cluster, "reviews.default");
        assert_eq!(bootstrap.control_plane, "http://127.0.0.1:30005");
        let gateway = bootstrap::read(&state.bootstrap(GATEWAY)).unwrap();
        assert_eq!(gateway.admin, Some(local(30_007)));
    }

    #[test]
    fn only_temporary_directories_are_removed() {
        let mesh = bookinfo(None).unwrap();
        let own = tempfile::tempdir().unwrap();
        let state = State::create(
            Some(own.path().to_owned()),
            &mesh,
            &ProxyChoice::Periplus,
            &[],
        )
        .unwrap();
        state.remove_if_temporary();
        assert!(state.config().exists());
        let state = State::create(None, &mesh, &ProxyChoice::Periplus, &[]).unwrap();
        assert!(state.config().exists());
        state.remove_if_temporary();
        assert!(!state.directory().exists());
    }
}
