//! The mesh that is meant: directories of resources, or those of the control plane that runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use periplus_control::Described;
use serde::Deserialize;
use serde_json::Value;

use super::control_plane::ControlFlags;

/// Flags that say which mesh is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MeshFlags {
    /// Directory of resources, as `periplus control` gets it; repeatable [default: those of the control plane that runs
    /// on this machine]
    #[arg(long, value_name = "DIR")]
    dir: Vec<PathBuf>,

    /// File with Istio's MeshConfig, as `periplus control` gets it
    #[arg(long, value_name = "FILE", requires = "dir")]
    mesh_config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) control: ControlFlags,
}

/// `/debug/files`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Files {
    directories: Vec<PathBuf>,
    mesh_config: Option<PathBuf>,
    /// For these it denies everything.
    denying_all: Vec<Arc<str>>,
}

impl MeshFlags {
    /// The file of the mesh configuration, if somebody has named it.
    pub(super) fn mesh_config(&self) -> Option<&Path> {
        self.mesh_config.as_deref()
    }

    /// What its files say, and that everything is denied where it is because policies cannot be read.
    pub(super) fn read(&self) -> anyhow::Result<Described> {
        if !self.dir.is_empty() {
            let mut described = Described::read(&self.dir, self.mesh_config.as_deref(), false)?;
            described.deny_all(&described.closing.clone());
            return Ok(described);
        }
        let (files, authority): (Files, Value) = super::block_on(async {
            let client = self.control.client()?;
            let files = client.get("/debug/files").await?;
            Ok((files, client.get("/debug/certificates").await?))
        })?;
        let read = Described::read(&files.directories, files.mesh_config.as_deref(), false);
        let mut described = read.context(
            "the control plane reads files that are not on this machine: name copies with --dir and --mesh-config",
        )?;
        described.lacks_authority = authority.is_null();
        described.deny_all(&files.denying_all);
        described.closing = files.denying_all;
        Ok(described)
    }

    /// The same, and what cannot be read of it told on standard error.
    pub(super) fn read_telling(&self) -> anyhow::Result<Described> {
        let described = self.read()?;
        let what_then = match self.dir.is_empty() {
            false => "",
            true => {
                " here, but the control plane that runs may go on with what it has read of it before, so that \
                 what is told may differ from what is so"
            }
        };
        for error in &described.errors {
            eprintln!("note: {error}: it is left out{what_then}");
        }
        let who = match self.dir.is_empty() {
            false => "a control plane that starts with it",
            true => "the control plane that runs",
        };
        for file in &described.closing {
            eprintln!(
                "note: {who} denies all requests and connections until the policies of {file} can be read, or it is deleted"
            );
        }
        Ok(described)
    }
}
