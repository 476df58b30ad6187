//! Files as they are now, for whoever looks at them and does not follow them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use periplus_resources::{
    Diagnostic, MeshConfig, Resource, may_hold_policies, parse_mesh_config, parse_resources,
};

use super::read::{Read, read};
use super::{LoadError, MAX_FILES, at_start, closed, is_resource_file};
use crate::expiry;
use crate::index::{Index, Problem};

/// Directories in directories beyond this many are an accident, such as a link to itself.
const MAX_DEPTH: usize = 16;

/// What some files say, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Described {
    /// The resources of the documents that are right, in the order of the files.
    pub resources: Vec<Resource>,
    /// The mesh configuration; the defaults if there is none.
    pub mesh: MeshConfig,
    /// What keeps files and documents from being read.
    pub errors: Vec<Diagnostic>,
    /// How many files there are.
    pub files: usize,
    /// Proxies have no certificates of an authority.
    pub lacks_authority: bool,
    /// The files that cannot be read and may hold policies: a control plane that starts with them denies everything.
    pub closing: Vec<Arc<str>>,
}

impl Described {
    /// Reads files, and the files of directories: what is in those directly, or, if `recursive`, anywhere in them.
    ///
    /// # Errors
    ///
    /// If a path cannot be read at all. What is wrong inside of files is among [`Described::errors`].
    pub fn read(
        paths: &[PathBuf],
        mesh_config: Option<&Path>,
        recursive: bool,
    ) -> Result<Self, LoadError> {
        let mut described = Self::default();
        if let Some(path) = mesh_config {
            described.read_mesh_config(path);
        }
        let apart = mesh_config.and_then(|path| path.canonicalize().ok());
        let mut files = BTreeSet::new();
        for path in paths {
            let failed = |source: io::Error| LoadError::Directory {
                path: path.clone(),
                source,
            };
            match std::fs::metadata(path).map_err(failed)?.is_dir() {
                true => list(path, recursive, MAX_DEPTH, &mut files).map_err(failed)?,
                // Who names a file means it, whatever it is called.
                false => {
                    files.insert(path.clone());
                }
            }
        }
        for path in &files {
            if apart.is_some() && path.canonicalize().ok() == apart {
                continue;
            }
            described.files += 1;
            let name: Arc<str> = path.to_string_lossy().into();
            match read(path, None) {
                Read::Text(_, text) => described.add(&name, &text),
                Read::Failed(reason) => {
                    described.errors.push(at_start(&name, reason));
                    described.closing.push(name);
                }
                Read::Same => {}
            }
        }
        Ok(described)
    }

    /// Everything is denied, for the sake of these files, as a control plane does it.
    pub fn deny_all(&mut self, files: &[Arc<str>]) {
        let root = &self.mesh.root_namespace;
        let policies = files.iter().flat_map(|name| closed::deny_all(name, root));
        self.resources.extend(policies);
    }

    /// Takes the documents of a text.
    pub fn add(&mut self, name: &str, text: &str) {
        let parsed = parse_resources(name, text);
        let hides_policies = match parsed.is_unreadable() {
            true => may_hold_policies(text),
            false => parsed.refused.iter().any(|one| one.may_be_policy),
        };
        if hides_policies {
            self.closing.push(name.into());
        }
        self.resources.extend(parsed.resources);
        self.errors.extend(parsed.errors);
    }

    /// The index of the resources.
    pub fn index(&self) -> Index {
        match self.lacks_authority {
            true => Index::new(&self.resources, self.mesh.clone()),
            false => Index::certified(&self.resources, self.mesh.clone()),
        }
    }

    /// The index, and everything that is wrong, the worst first.
    pub fn analyse(&self) -> (Index, Vec<Problem>) {
        let index = self.index();
        let errors = self.errors.iter().cloned().map(Problem::from);
        let ending = expiry::problems(&index, SystemTime::now());
        let problems = errors.chain(index.problems().iter().cloned());
        let problems = problems.chain(ending).collect();
        (index, Problem::sorted(problems))
    }

    fn read_mesh_config(&mut self, path: &Path) {
        let name: Arc<str> = path.to_string_lossy().into();
        match read(path, None) {
            Read::Text(_, text) => match parse_mesh_config(&name, &text) {
                Ok(config) => self.mesh = config,
                Err(errors) => self.errors.extend(errors),
            },
            Read::Failed(reason) => self.errors.push(at_start(&name, reason)),
            Read::Same => {}
        }
    }
}

fn list(
    directory: &Path,
    recursive: bool,
    depth: usize,
    files: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_hidden = |name: &str| name.starts_with('.');
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !is_hidden(name)) else {
            continue;
        };
        if path.is_dir() {
            if recursive && depth > 0 {
                list(&path, true, depth - 1, files)?;
            }
        } else if is_resource_file(name) {
            files.insert(path);
        }
        if files.len() > MAX_FILES {
            return Err(io::Error::other(format!(
                "there are more than {MAX_FILES} files"
            )));
        }
    }
    Ok(())
}
