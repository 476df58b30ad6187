//! What the two forms of the protocol have in common, for one type on one stream, without I/O.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::google::rpc;

use crate::{Resource, ResourceSet};

/// A form of the protocol: what a request means, and what is due to be sent.
pub(super) trait Form: Send + 'static {
    type Request: Send + 'static;
    type Response: prost::Message + 'static;

    /// Whether a client that connects again says what it holds, and is not sent that.
    const RESUMES: bool;

    fn new(type_url: &str) -> Self;

    /// What both kinds of request have.
    fn asked(request: &Self::Request) -> Asked<'_>;

    fn take_node(request: &mut Self::Request) -> Option<Node>;

    /// Whether a request does nothing but answer a response, so that nothing more is due after it than before.
    fn is_plain_answer(request: &Self::Request) -> bool;

    /// Takes a request and says what it is.
    fn on_request(&mut self, request: &Self::Request) -> Meaning;

    /// Whether the first request of a stream comes from a client that goes on with what it has, and does not say what.
    fn comes_back(_: &Self::Request) -> bool {
        false
    }

    /// A client that comes back has these.
    fn resume(&mut self, _had: Vec<Arc<Resource>>) {}

    /// What must be sent for the client to have what it asked for, out of `available`, and what else it keeps.
    fn due(&self, available: &ResourceSet, keep: Keep<'_>) -> Option<Due>;

    /// The same where nothing was due of `had`, and nobody has asked for anything since: only what differs is looked at.
    fn due_after(&self, had: &ResourceSet, available: &ResourceSet, keep: Keep<'_>) -> Option<Due> {
        let _ = had;
        self.due(available, keep)
    }

    /// Notes that a response goes out. Says what in it is new to the client or other than before.
    fn sent(&mut self, due: &Due, nonce: &str) -> Vec<Arc<Resource>>;

    fn response(type_url: &str, nonce: &str, due: &Due) -> Self::Response;

    /// Told to the endpoints: these clusters are new to the client or other than before, and wait for
    /// their endpoints, those that it has had already too.
    fn clusters_changed(&mut self, clusters: &[Arc<Resource>]);

    /// Whether the client holds anything that `available` no longer has.
    fn has_outdated(&self, available: &ResourceSet) -> bool;

    /// Whether the client has it, in whatever version.
    fn holds(&self, name: &str) -> bool;

    /// How far the client is.
    fn answers(&self) -> &Answers;

    /// Whether it goes on with something older than it was sent, since it has refused that.
    fn refuses(&self) -> bool {
        self.answers().is_answered() && !self.answers().is_acknowledged()
    }

    /// How many names it has asked for; none for all.
    fn names(&self) -> Option<usize>;

    /// How many names are kept for it.
    fn kept_names(&self) -> usize;

    /// How many bytes the names have that it has given and that are kept.
    fn kept_bytes(&self) -> usize;
}

/// What a client keeps although it is no longer available.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep<'a> {
    Nothing,
    AllBut(&'a BTreeSet<String>),
}

impl Keep<'_> {
    pub(super) fn keeps(self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::AllBut(let_go) => !let_go.contains(name),
        }
    }

    pub(super) fn is_nothing(self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// What a request of either form has.
pub(super) struct Asked<'a> {
    pub(super) type_url: &'a str,
    /// How many names it adds, or has.
    pub(super) names: usize,
    pub(super) has_locators: bool,
    pub(super) nonce: &'a str,
    pub(super) error: Option<&'a rpc::Status>,
}

/// What a request turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What is wanted is new, or other than before; the first request of a type always is.
    Subscribe,
    /// The newest response was accepted.
    Ack,
    /// The newest response was refused.
    Nack,
    /// An answer to a response that is not the newest one: a later one will follow.
    Stale,
    /// No interest any more.
    Unsubscribe,
}

/// What to send.
#[derive(Debug, PartialEq)]
pub(super) struct Due {
    pub(super) resources: Vec<Arc<Resource>>,
    /// The names of what the client is to forget; the state-of-the-world form does not say them.
    pub(super) removed: Vec<String>,
    /// A version of what the client then holds: nothing else holds the same under it.
    pub(super) version: String,
}

/// What was answered of what was sent.
#[derive(Debug, Default)]
pub(super) struct Answers {
    sent: String,
    acked: String,
    /// The newest response waits for its answer.
    waits: bool,
}

impl Answers {
    pub(super) fn sent(&mut self, nonce: &str) {
        nonce.clone_into(&mut self.sent);
        self.waits = true;
    }

    /// Whether a request is about the newest response.
    pub(super) fn is_of_newest(&self, nonce: &str) -> bool {
        nonce == self.sent
    }

    /// Takes what a request says of the response with its nonce.
    pub(super) fn take(&mut self, nonce: &str, refused: bool) -> Meaning {
        match (self.is_of_newest(nonce), refused) {
            (true, true) => {
                self.waits = false;
                Meaning::Nack
            }
            (true, false) => {
                self.waits = false;
                self.acked.clone_from(&self.sent);
                Meaning::Ack
            }
            (false, true) => Meaning::Nack,
            (false, false) => Meaning::Stale,
        }
    }

    /// Whether the newest response was accepted.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acked == self.sent
    }

    /// Whether the newest response was accepted or refused.
    pub(super) fn is_answered(&self) -> bool {
        !self.waits
    }
}

/// The version of resources together: it depends on their names and contents alone.
pub(super) fn version_of<'r>(resources: impl IntoIterator<Item = (&'r str, u64)>) -> String {
    let mut hasher = DefaultHasher::new();
    for resource in resources {
        resource.hash(&mut hasher);
    }
    version_text(hasher.finish())
}

pub(super) fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

pub(super) fn control_plane() -> Option<ControlPlane> {
    Some(ControlPlane {
        identifier: concat!("periplus-", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}
