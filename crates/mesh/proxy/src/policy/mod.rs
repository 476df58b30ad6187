//! Who may do what: whether a request or a connection is allowed, and by which policy.
//!
//! Whatever may be asked about is gathered in a [`Subject`]; a policy is a flat [`Expression`] over
//! it, evaluated in place.

pub(crate) mod authz;
mod condition;
mod connection;
mod expression;
mod filter;
mod head;
pub(crate) mod jwt;
mod metadata;
mod query;
pub(crate) mod quota;
mod rbac;
mod subject;

pub(crate) use self::condition::Condition;
pub use self::connection::ConnectionRules;
pub(crate) use self::connection::ConnectionRulesView;
pub(crate) use self::expression::{Combination, Expression, Program, Programs};
pub(crate) use self::filter::{Decided, Decisions, MOST_FILTERS, NETWORK_RBAC, RBAC, RbacView};
pub(crate) use self::head::without_nominated;
pub(crate) use self::metadata::{Metadata, MetadataMatch, ValueTest};
pub use self::rbac::Rbac;
pub(crate) use self::rbac::{Action, Decision, MOST_POLICIES, NO_POLICY, RbacCounts, Rules};
pub(crate) use self::subject::{Asked, Subject, client_address};
