//! The control plane: files, or another [`Source`], to index to xDS resources.
//!
//! [`ControlPlane`] reads a directory of Istio resources, keeps an immutable [`Index`] of them, and
//! gives each proxy what [`generate()`] makes of it over the ADS server of `periplus-xds`. Files may
//! change at any time: a good one takes effect at once, of a bad one the last good content stays.

mod books;
mod certificates;
mod collectors;
mod control;
mod expiry;
mod files;
mod gate;
mod generate;
mod index;
mod issuers;
mod mesh;
mod metrics;
mod monitoring;
mod names;
mod proxy;
mod source;
mod sync_status;
mod trust;
mod workload;

pub use certificates::{CertificateOptions, CertificateSource, CertificatesError};
pub use collectors::{Unreached, reach};
pub use control::{ControlPlane, LoadError, Options};
pub use expiry::time_left;
pub use files::LoadError as FilesError;
pub use files::{Change, Debounce, Described};
pub use generate::{Conflict, Generated, Lack, generate};
pub use index::{
    About, CODES, Code, Condition, ConnectionRules, Entry, Index, ListenerStatus, ParentStatus,
    Problem, ResourceStatus, RuleAt, Service, Severity,
};
pub use issuers::{IssuerKeys, Wanted};
pub use mesh::{Mesh, State};
pub use proxy::{Interception, Proxy, Role};
pub use source::{Look, Report, Source};
pub use workload::Workload;
