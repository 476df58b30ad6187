//! A mesh of processes on one machine.
//!
//! * [`Supervisor`] runs [`Part`]s: in order of their dependencies, each to be ready before the
//!   next, restarted when they crash, stopped in reverse order, and never left behind.
//! * [`Mesh`] describes services, workloads and a gateway, and renders the resources that make
//!   them a mesh (`docs/local-mesh.md`); [`PortPlan`] says where everything listens.

mod exit;
mod guard;
mod http;
mod log;
mod mesh;
mod parent;
mod part;
mod ports;
mod probe;
mod resources;
mod supervisor;

pub use exit::Exit;
pub use guard::guard;
pub use http::{Answer, FetchError, get, get_as};
pub use mesh::{Mesh, ProxyNode, Workload};
pub use parent::{EXIT_WITH_PARENT, follow_parent};
pub use part::{Part, Probe, Restart};
pub use ports::{BackendPorts, BusyPorts, Claim, PlanError, PortPlan, WorkloadPorts, check_free};
pub use supervisor::{Event, Events, Limits, PlanningError, StartError, Supervisor};
