//! Where resources come from.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use periplus_resources::{MeshConfig, Resource};

use crate::files::Change;
use crate::index::{About, Problem};

/// A source of resources: [`Files`](crate::files::Files), and whatever else can say what there is and when it changes,
/// such as a watch of an API server.
///
/// It is asked what there is when it is handed over, and again after each [`look`](Source::look) that has found
/// something.
pub trait Source: Send + 'static {
    /// Waits until something may have changed and a burst of changes is over. Says when the first sign of it was seen.
    /// May be dropped and called again at any time without losing a change.
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>>;

    /// Looks at what there is now, which may take a while.
    fn look(&mut self) -> Look;

    /// The resources, each in the form that holds, in an order that stays the same.
    fn resources(&self) -> Box<dyn Iterator<Item = &Resource> + '_>;

    /// The mesh configuration.
    fn mesh_config(&self) -> &MeshConfig;

    /// What is wrong with what the source has, and what comes of it.
    fn report(&self) -> Report {
        Report::default()
    }
}

/// What a look at a source has found.
#[derive(Debug, Default)]
pub struct Look {
    /// Something is not as it was, if only the place where it is written.
    pub is_other: bool,
    /// What is different about what the resources say.
    pub changes: Vec<Change>,
}

/// What a source says about itself.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The files for which everything is denied, because their policies could not be read since the start.
    pub closed: Vec<Arc<str>>,
    /// The resources that hold in their last good form, because what is said of them now is wrong.
    pub last_good: Vec<About>,
    /// How many files, or whatever it has in place of them.
    pub files: usize,
    /// The directories and the mesh configuration that are read, if it reads any.
    pub places: (Vec<PathBuf>, Option<PathBuf>),
}
