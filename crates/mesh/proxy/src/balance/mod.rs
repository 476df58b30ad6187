//! Which endpoint of a cluster gets the next request.
//!
//! What there is to choose from is worked out whenever the cluster or the health of an endpoint
//! changes: a [`Plan`], which all workers share. A worker has a [`Picker`] over it, which keeps whose
//! turn it is. A pick takes no lock and no memory, and constant or logarithmic time.

mod alias;
mod edf;
mod elsewhere;
mod hash;
mod levels;
mod maglev;
mod members;
mod monitor;
mod picker;
mod plan;
mod ring;
mod set;
mod subset;
#[cfg(test)]
mod tests;

pub(crate) use self::elsewhere::Elsewhere;
pub(crate) use self::hash::xxh64;
pub use self::members::MembersCell;
pub(crate) use self::members::{Condition, Counts, Host, HostFlag, Members, now};
pub(crate) use self::monitor::{Monitor, Origin, Trouble, Verdict};
pub(crate) use self::picker::{Ask, Chance, Latency, Load, Picker};
pub(crate) use self::plan::Plan;
pub(crate) use self::subset::Criteria;
