//! What the supervisor runs: plain data.

use std::net::SocketAddr;
use std::path::PathBuf;

/// One process of the mesh.
#[derive(Clone, Debug)]
pub struct Part {
    /// Unique; it is what people are told.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs; where this process does, if nothing.
    pub directory: Option<PathBuf>,
    /// Variables on top of this process' own.
    pub environment: Vec<(String, String)>,
    /// The parts that must be ready before this one starts, by name.
    pub after: Vec<String>,
    /// When it is ready.
    pub ready: Probe,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// Where its output goes.
    pub log: PathBuf,
}

/// When a part counts as ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// As soon as it runs.
    Started,
    /// When something accepts connections there.
    Tcp(SocketAddr),
    /// When a GET is answered with 200.
    Http {
        /// The server.
        address: SocketAddr,
        /// The path, with a leading slash.
        path: String,
    },
}

/// What happens when a part that was ready ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restart {
    /// It is started again, later and later while it keeps crashing.
    Always,
    /// It stays down.
    Never,
}
