use std::path::PathBuf;
use std::pin::Pin;
use std::time::Instant;

use periplus_resources::{MeshConfig, Resource};

use super::watch::Watcher;
use super::{Debounce, Files, LoadError};
use crate::source::{Look, Report, Source};

/// Files, and what tells that they may have changed.
pub(crate) struct WatchedFiles {
    files: Files,
    watcher: Watcher,
}

impl WatchedFiles {
    pub(crate) fn load(
        directories: Vec<PathBuf>,
        mesh_config: Option<PathBuf>,
        debounce: Debounce,
    ) -> Result<Self, LoadError> {
        // Before the first scan, so that nothing goes unnoticed between the two.
        let mut watcher = Watcher::new(debounce);
        watcher.watch(directories.iter().cloned().collect());
        let files = Files::load(directories, mesh_config)?;
        watcher.watch(files.directories());
        Ok(Self { files, watcher })
    }
}

impl Source for WatchedFiles {
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>> {
        Box::pin(self.watcher.changed())
    }

    fn look(&mut self) -> Look {
        let look = self.files.scan();
        self.watcher.watch(self.files.directories());
        look
    }

    fn resources(&self) -> Box<dyn Iterator<Item = &Resource> + '_> {
        Box::new(self.files.resources())
    }

    fn mesh_config(&self) -> &MeshConfig {
        self.files.mesh_config()
    }

    fn report(&self) -> Report {
        Report {
            problems: self.files.problems().collect(),
            closed: self.files.closed(),
            last_good: self.files.last_good(),
            files: self.files.count(),
            places: self.files.places(),
        }
    }
}
