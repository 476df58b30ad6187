//! What is said about resources of Gateway API, in the form of their `status`.

use periplus_resources::gateway_api::ParentRef;
use periplus_resources::{Kind, Meta, Position};

use crate::index::{Problem, code};

/// Who says it, and whose GatewayClasses are taken.
pub(super) const CONTROLLER: &str = "istio.io/gateway-controller";

/// The status of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceStatus {
    /// The resource.
    pub meta: Meta,
    /// Of a GatewayClass or a Gateway.
    pub conditions: Vec<Condition>,
    /// Of a Gateway: by listener.
    pub listeners: Vec<ListenerStatus>,
    /// Of a route: by what it is attached to.
    pub parents: Vec<ParentStatus>,
}

/// The status of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// How many routes it has.
    pub attached_routes: usize,
    /// The kinds of routes that it takes.
    pub supported_kinds: Vec<Kind>,
    /// What is said about it.
    pub conditions: Vec<Condition>,
}

/// The status of a route at one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// The parent.
    pub parent: ParentRef,
    /// What is said about it.
    pub conditions: Vec<Condition>,
}

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `type`.
    pub kind: &'static str,
    /// `status`.
    pub holds: bool,
    /// `reason`.
    pub reason: &'static str,
    /// In words; may be empty.
    pub message: String,
}

impl Condition {
    /// It holds, for the reason that has its own name.
    pub(super) fn holds(kind: &'static str) -> Self {
        Self {
            kind,
            holds: true,
            reason: kind,
            message: String::new(),
        }
    }

    /// It holds unless there is something against it.
    pub(super) fn unless(kind: &'static str, against: Option<&Flaw>) -> Self {
        match against {
            None => Self::holds(kind),
            Some(flaw) => Self {
                kind,
                holds: false,
                reason: flaw.reason,
                message: flaw.message.clone(),
            },
        }
    }
}

/// Why something does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) at: Position,
}

impl Flaw {
    pub(super) fn new(reason: &'static str, at: Position, message: String) -> Self {
        Self {
            reason,
            message,
            at,
        }
    }

    /// Something that is written has no effect.
    pub(super) fn error(&self, meta: &Meta) -> Problem {
        Problem::error(&meta.source, self.at, self.text(meta)).code(code::NEGATIVE_CONDITION)
    }

    /// It has an effect, but not the one that was meant.
    pub(super) fn warning(&self, meta: &Meta) -> Problem {
        Problem::warning(&meta.source, self.at, self.text(meta)).code(code::NEGATIVE_CONDITION)
    }

    fn text(&self, meta: &Meta) -> String {
        format!("{meta}: {} ({})", self.message, self.reason)
    }
}
