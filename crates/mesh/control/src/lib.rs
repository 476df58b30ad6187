//! The control plane: files to index to xDS resources.

mod generate;
mod index;
mod names;
mod proxy;

pub use generate::{Generated, generate};
pub use index::{ConnectionRules, Entry, Index, Problem, Service, Severity};
pub use proxy::{Proxy, Role};
