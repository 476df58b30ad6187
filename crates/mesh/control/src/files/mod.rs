//! Directories of YAML and JSON files, and the file of the mesh configuration: what they say now, or
//! said when they were last right.

mod change;
mod closed;
mod content;
mod file;
mod once;
mod read;
mod watch;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use periplus_resources::{Diagnostic, MeshConfig, Position, Resource, parse_mesh_config};
use thiserror::Error;

pub use self::change::Change;
pub(crate) use self::change::plural;
use self::content::Content;
use self::file::File;
pub use self::once::Described;
pub use self::watch::Debounce;
pub(crate) use self::watched::WatchedFiles;
use crate::index::{About, Problem};
use crate::source::Look;

/// More files than this are an accident.
const MAX_FILES: usize = 10_000;

/// Why there is nothing to start with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The directory cannot be listed.
    #[error("cannot read the directory {}", path.display())]
    Directory {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The mesh configuration is missing or wrong: without it nobody would know where spans go.
    #[error("cannot start without a valid mesh configuration: {0}")]
    MeshConfig(Diagnostic),
}

/// The files, as they were at the last scan.
#[derive(Debug)]
pub(crate) struct Files {
    directories: Vec<PathBuf>,
    mesh_config: Option<PathBuf>,
    /// By the names that people are told: those in the directory, or, where there are several, their paths.
    resources: BTreeMap<Arc<str>, File<Content>>,
    mesh: File<MeshConfig>,
    /// What keeps a directory from being listed.
    listing: Option<Diagnostic>,
}

impl Files {
    /// Reads everything for the first time.
    pub(crate) fn load(
        directories: Vec<PathBuf>,
        mesh_config: Option<PathBuf>,
    ) -> Result<Self, LoadError> {
        for path in &directories {
            if let Err(source) = std::fs::read_dir(path) {
                let path = path.clone();
                return Err(LoadError::Directory { path, source });
            }
        }
        let mut files = Self {
            directories,
            mesh_config,
            resources: BTreeMap::new(),
            mesh: File::default(),
            listing: None,
        };
        files.scan();
        let root = files.mesh.good.root_namespace.clone();
        for (name, file) in &mut files.resources {
            file.close(name, &root);
        }
        match files.mesh.errors.first() {
            Some(error) => Err(LoadError::MeshConfig(error.clone())),
            None => Ok(files),
        }
    }

    /// The resources of all files, in the order of the files' names.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Resource> {
        let files = self.resources.values();
        files.flat_map(|file| file.good.resources().iter().chain(&file.closing))
    }

    /// The mesh configuration.
    pub(crate) fn mesh_config(&self) -> &MeshConfig {
        &self.mesh.good
    }

    /// What is wrong with the files now.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        let files = self.resources.iter().flat_map(|(name, file)| {
            let hides = file.hides_policies && !file.errors.is_empty();
            let more = match file.is_closed() {
                true => Some(closed::warning(name)),
                false => hides.then(|| closed::notice(name)),
            };
            let own = file.good.problems(name, &file.errors);
            own.chain(more.map(Problem::from))
        });
        let others = self.listing.iter().chain(&self.mesh.errors);
        others.cloned().map(Problem::from).chain(files)
    }

    /// The resources that hold in their last good form, because their documents are wrong now.
    pub(crate) fn last_good(&self) -> Vec<About> {
        let files = self.resources.values();
        files.flat_map(|file| file.good.last_good()).collect()
    }

    /// The files for which everything is denied.
    pub(crate) fn closed(&self) -> Vec<Arc<str>> {
        let files = self.resources.iter().filter(|(_, file)| file.is_closed());
        files.map(|(name, _)| name.clone()).collect()
    }

    /// How many files there are.
    pub(crate) fn count(&self) -> usize {
        self.resources.len()
    }

    /// The directories in which something may happen: those of the files, and those of the files that
    /// symbolic links lead to.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories: BTreeSet<PathBuf> = self.directories.iter().cloned().collect();
        let names = self.resources.keys().map(|name| self.path(name));
        for path in names.chain(self.mesh_config.clone()) {
            let target = path.canonicalize();
            for path in [Ok(path), target].into_iter().flatten() {
                directories.extend(parent(&path));
            }
        }
        directories
    }

    /// Where resources are read, and the mesh configuration.
    pub(crate) fn places(&self) -> (Vec<PathBuf>, Option<PathBuf>) {
        (self.directories.clone(), self.mesh_config.clone())
    }

    /// Looks at all files again.
    pub(crate) fn scan(&mut self) -> Look {
        let mut changes = self.scan_all();
        let is_other = !changes.is_empty();
        changes.retain(|change| !change.is_nothing());
        Look { is_other, changes }
    }

    /// A change for each file that is not as it was.
    fn scan_all(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.scan_mesh_config());
        let root = &self.mesh.good.root_namespace;
        for (name, file) in &mut self.resources {
            if file.is_closed() {
                // It may be another one now.
                file.closing = closed::deny_all(name, root);
            }
        }
        let names = match self.list() {
            Ok(names) => {
                self.listing = None;
                names
            }
            Err(error) => {
                if self.listing.as_ref() != Some(&error) {
                    changes.push(Change::broken(error.file.clone(), vec![error.clone()]));
                    self.listing = Some(error);
                }
                // Whatever has happened, it was hardly meant to remove everything.
                return changes;
            }
        };
        let gone: Vec<_> = self
            .resources
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(file) = self.resources.remove(&name) {
                changes.push(Change::between(name, file.good.resources(), &[]));
            }
        }
        for name in names {
            let path = self.path(&name);
            let file = self.resources.entry(name.clone()).or_default();
            changes.extend(file.scan(&path, &name));
        }
        changes
    }

    /// Where the file of a name is.
    fn path(&self, name: &str) -> PathBuf {
        match &self.directories[..] {
            [directory] => directory.join(name),
            _ => name.into(),
        }
    }

    /// The names of the files that may hold resources.
    fn list(&self) -> Result<BTreeSet<Arc<str>>, Diagnostic> {
        let mut names = BTreeSet::new();
        for directory in &self.directories {
            self.list_one(directory, &mut names)?;
        }
        Ok(names)
    }

    fn list_one(&self, directory: &Path, names: &mut BTreeSet<Arc<str>>) -> Result<(), Diagnostic> {
        let broken = |message: String| Diagnostic {
            file: directory.to_string_lossy().into(),
            position: Position { line: 1, column: 1 },
            field: String::new(),
            message,
        };
        let unreadable = |error| {
            broken(format!(
                "cannot list the directory ({error}), its last good content stays"
            ))
        };
        let mesh_config = self
            .mesh_config
            .as_ref()
            .and_then(|path| path.canonicalize().ok());
        for entry in std::fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_resource_file(name)) else {
                continue;
            };
            let path = entry.path();
            if path.is_dir() || (mesh_config.is_some() && path.canonicalize().ok() == mesh_config) {
                continue;
            }
            names.insert(match self.directories.len() {
                1 => Arc::from(name),
                _ => path.to_string_lossy().into(),
            });
        }
        if names.len() > MAX_FILES {
            return Err(broken(format!(
                "there are {} files, the limit is {MAX_FILES}: the last good content stays",
                names.len()
            )));
        }
        Ok(())
    }

    fn scan_mesh_config(&mut self) -> Option<Change> {
        let path = self.mesh_config.as_ref()?;
        let name: Arc<str> = path
            .file_name()
            .map_or(path.to_string_lossy(), |name| name.to_string_lossy())
            .into();
        let text = match self.mesh.text(path, &name)? {
            Ok(text) => text,
            Err(change) => return Some(change),
        };
        match parse_mesh_config(&name, &text) {
            Ok(config) => {
                let fixed = !std::mem::take(&mut self.mesh.errors).is_empty();
                let changed = config != self.mesh.good;
                self.mesh.good = config;
                Some(Change::mesh_config(name, changed, fixed))
            }
            Err(errors) => self.mesh.refuse(name, errors),
        }
    }
}

fn at_start(name: &Arc<str>, message: String) -> Diagnostic {
    Diagnostic {
        file: name.clone(),
        position: Position { line: 1, column: 1 },
        field: String::new(),
        message,
    }
}

/// Not the backups, locks and half-written copies of editors.
fn is_resource_file(name: &str) -> bool {
    let hidden = name.starts_with(['.', '#']) || name.ends_with('~');
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn parent(path: &Path) -> Option<PathBuf> {
    match path.parent()? {
        empty if empty.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => Some(parent.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_leftovers_are_no_files_of_ours() {
        for name in ["a.yaml", "a.yml", "a.b.json"] {
            assert!(is_resource_file(name), "{name}");
        }
        for name in [
            ".a.yaml",
            ".a.yaml.swp",
            ".#a.yaml",
            "#a.yaml#",
            "a.yaml~",
            "a.yaml.bak",
            "4913",
            "a.txt",
            "yaml",
        ] {
            assert!(!is_resource_file(name), "{name}");
        }
    }
}
