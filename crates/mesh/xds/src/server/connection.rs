//! One stream: requests in, the newest state out.
//!
//! Nothing is queued. Whenever the transport can take a response, the first type in push order whose
//! content differs from what the client holds is encoded from the newest snapshot; a slow client skips
//! the states between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::form::{Asked, Due, Form, Meaning};
use super::kept::Subscription;
use super::status::{Entry, Nack, ProxyStatus};
use super::{Admission, NodeRefused, Peer, Shared};
use crate::type_url::{self, CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, push_rank};
use crate::{Resource, ResourceSet, Snapshot};

/// How much of a proxy's error text is kept.
const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Serves the stream in a task of its own, which ends with the stream.
pub(super) fn spawn<F: Form>(
    shared: Arc<Shared>,
    requests: Streaming<F::Request>,
    whence: (Peer, Option<Admission>),
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<Result<F::Response, Status>> {
    let (outgoing, responses) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        let outcome = serve::<F>(&shared, requests, whence, &outgoing).await;
        if let Err(status) = outcome {
            // The client may be gone already; then nobody needs the reason.
            let _ = outgoing.send(Err(status)).await;
        }
    });
    responses
}

async fn serve<F: Form>(
    shared: &Arc<Shared>,
    mut requests: Streaming<F::Request>,
    (peer, admission): (Peer, Option<Admission>),
    outgoing: &mpsc::Sender<Result<F::Response, Status>>,
) -> Result<(), Status> {
    let mut closing = shared.closing.subscribe();
    let first = tokio::select! {
        first = timeout(shared.limits.first_message_timeout, requests.message()) => first,
        _ = closing.wait_for(|closing| *closing) => return Err(going_away()),
    };
    let first = first.map_err(|_| {
        Status::deadline_exceeded("no first request arrived within the time that is allowed for it")
    })??;
    let Some(mut first) = first else {
        return Ok(());
    };
    let node = F::take_node(&mut first).filter(|node| !node.id.is_empty());
    let node = node.ok_or_else(|| {
        Status::invalid_argument("the first request of a stream must carry a node with an id")
    })?;

    if let Some(admits) = admission {
        admits(&node).inspect_err(|_| {
            shared
                .registry
                .count(|counters| counters.streams_refused += 1);
        })?;
    }

    let mut generations = shared.source.subscribe();
    let mut connection = Connection::<F>::open(shared, node, peer)?;
    connection.on_request(&first)?;
    loop {
        let due = connection.next_due();
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => connection.on_request(&request)?,
                Ok(None) => return Ok(()),
                Err(status) => {
                    tracing::debug!(proxy = %connection.node.id, %status, "xDS stream broke");
                    return Ok(());
                }
            },
            changed = generations.changed() => match changed {
                Ok(()) => connection.refresh()?,
                Err(_) => return Err(going_away()),
            },
            permit = outgoing.reserve(), if due.is_some() => {
                let (Ok(permit), Some((type_url, due))) = (permit, due) else {
                    return Ok(());
                };
                permit.send(Ok(connection.respond(&type_url, &due)));
            }
            () = until(connection.retire_at), if connection.retire_at.is_some() => {
                connection.retire_now();
            }
            () = until(connection.hold_until), if connection.hold_until.is_some() => {
                connection.hold_until = None;
            }
            _ = closing.wait_for(|closing| *closing) => return Err(going_away()),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn going_away() -> Status {
    Status::unavailable("the control plane is shutting down")
}

impl From<NodeRefused> for Status {
    fn from(refused: NodeRefused) -> Self {
        Self::failed_precondition(refused.to_string())
    }
}

struct Connection<F: Form> {
    shared: Arc<Shared>,
    node: Node,
    peer: Peer,
    entry: Entry,
    snapshot: Arc<Snapshot>,
    /// What is private is sent.
    has_secrets: bool,
    /// Why it is not, as it was logged last.
    no_secrets: Option<String>,
    subscriptions: BTreeMap<(usize, String), Subscription<F>>,
    next_nonce: u64,
    /// Clusters that were sent before the client asked for endpoints: behind a reconnect it holds endpoints that these
    /// clusters wait for all the same.
    changed_clusters: Vec<Arc<Resource>>,
    /// Set while the client holds clusters that the snapshot no longer has and that its routes may
    /// still name: when they go at the latest.
    retire_at: Option<Instant>,
    retire: bool,
    /// Set while clusters that the client was sent may still wait for their endpoints, so that listeners
    /// and routes, which may name them, are held back: until when at the latest.
    hold_until: Option<Instant>,
    /// The client has come back with clusters that there are no more, and its routes, which it has not asked about yet,
    /// may name them.
    resumes: bool,
}

impl<F: Form> Connection<F> {
    fn open(shared: &Arc<Shared>, node: Node, peer: Peer) -> Result<Self, Status> {
        let snapshot = shared.source.snapshot(&node).inspect_err(|refused| {
            tracing::warn!(proxy = %node.id, reason = %refused.reason, "refused a proxy");
        })?;
        shared.registry.count(|counters| counters.streams += 1);
        let entry = shared.registry.enter(ProxyStatus {
            node: node.clone(),
            peer: peer.address,
            connected_at: SystemTime::now(),
            types: BTreeMap::new(),
        });
        tracing::info!(proxy = %node.id, "proxy connected");
        let mut connection = Self {
            shared: Arc::clone(shared),
            node,
            peer,
            entry,
            snapshot,
            has_secrets: false,
            no_secrets: None,
            subscriptions: BTreeMap::new(),
            next_nonce: 1,
            changed_clusters: Vec::new(),
            retire_at: None,
            retire: false,
            hold_until: None,
            resumes: false,
        };
        connection.look_at_secrets();
        Ok(connection)
    }

    fn on_request(&mut self, request: &F::Request) -> Result<(), Status> {
        let limits = &self.shared.limits;
        let asked = F::asked(request);
        let too_many = |names: usize| {
            Status::resource_exhausted(format!(
                "{names} names of type {} were asked for, the limit is {}",
                asked.type_url, limits.max_names
            ))
        };
        if asked.names > limits.max_names {
            return Err(too_many(asked.names));
        }
        if asked.has_locators {
            return Err(Status::unimplemented("resource_locators are not supported"));
        }

        let key = key(asked.type_url);
        let is_first = !self.subscriptions.contains_key(&key);
        if is_first && self.subscriptions.len() >= limits.max_types {
            return Err(Status::resource_exhausted(format!(
                "one stream may subscribe to {} types",
                limits.max_types
            )));
        }
        let subscription = self
            .subscriptions
            .entry(key.clone())
            .or_insert_with(|| Subscription::new(asked.type_url));
        let meaning = subscription.on_request(request);
        if is_first && asked.type_url == CLUSTER {
            self.resumes = subscription
                .form
                .has_outdated(self.snapshot.of_type(CLUSTER));
        }
        if asked.type_url == ENDPOINT && !self.changed_clusters.is_empty() {
            let changed = std::mem::take(&mut self.changed_clusters);
            subscription.change().clusters_changed(&changed);
        }
        let names = subscription.form.names();
        let refuses = subscription.form.refuses();
        let kept = subscription.form.kept_names();
        if kept > limits.max_names {
            return Err(too_many(kept));
        }
        if meaning == Meaning::Unsubscribe {
            self.subscriptions.remove(&key);
            self.entry.forget(asked.type_url);
            return Ok(());
        }
        self.note(&asked, (meaning, refuses), names);
        Ok(())
    }

    /// Writes the books.
    fn note(&self, asked: &Asked<'_>, (meaning, refuses): (Meaning, bool), names: Option<usize>) {
        let registry = &self.shared.registry;
        let error = asked
            .error
            .map_or_else(String::new, |error| cut(&error.message));
        self.entry.update(asked.type_url, |status| {
            status.names = names;
            match meaning {
                Meaning::Ack => {
                    status.acked_nonce.clone_from(&status.sent_nonce);
                    status.acked_version.clone_from(&status.sent_version);
                    if !refuses {
                        status.last_error = None;
                    }
                }
                Meaning::Nack => {
                    status.last_error = Some(Nack {
                        nonce: asked.nonce.to_owned(),
                        message: error.clone(),
                        at: SystemTime::now(),
                    });
                }
                Meaning::Subscribe | Meaning::Stale | Meaning::Unsubscribe => {}
            }
        });
        match meaning {
            Meaning::Ack => registry.count(|counters| counters.acks += 1),
            Meaning::Stale => registry.count(|counters| counters.stale_nonces += 1),
            Meaning::Nack => {
                registry.count(|counters| counters.nacks += 1);
                tracing::warn!(
                    proxy = %self.node.id,
                    resources = type_url::short(asked.type_url),
                    nonce = %asked.nonce,
                    %error,
                    "proxy refused its configuration and keeps the one before"
                );
            }
            Meaning::Subscribe | Meaning::Unsubscribe => {}
        }
    }

    /// Takes the source's newest state.
    fn refresh(&mut self) -> Result<(), Status> {
        self.snapshot = self.shared.source.snapshot(&self.node)?;
        self.look_at_secrets();
        self.retire = false;
        self.retire_at = None;
        Ok(())
    }

    /// Whether there are secrets that it may have now.
    fn look_at_secrets(&mut self) {
        let has_some = !self.snapshot.of_type(SECRET).is_empty();
        let may = has_some.then(|| self.shared.source.may_have_secrets(&self.node, &self.peer));
        self.has_secrets = matches!(may, Some(Ok(())));
        let no_secrets = may.and_then(Result::err);
        if let Some(reason) = no_secrets
            .as_ref()
            .filter(|_| no_secrets != self.no_secrets)
        {
            tracing::warn!(proxy = %self.node.id, "gets no secrets: {reason}");
        }
        self.no_secrets = no_secrets;
    }

    fn retire_now(&mut self) {
        self.retire = true;
        self.retire_at = None;
    }

    /// The first type in push order that differs from what the client holds.
    fn next_due(&mut self) -> Option<(String, Due)> {
        if self.hold_until.is_some() && self.clusters_are_warm() {
            self.hold_until = None;
        }
        let keep = self.keeps_clusters();
        let is_held = self.hold_until.is_some();
        let mut subscriptions = self.subscriptions.iter_mut();
        subscriptions.find_map(|((_, type_url), subscription)| {
            if is_held && matches!(type_url.as_str(), LISTENER | ROUTE) {
                return None;
            }
            if type_url == SECRET && !subscription.form.answers().is_answered() {
                return None;
            }
            let keep = keep && type_url == CLUSTER;
            let available = available(&self.snapshot, type_url, self.has_secrets);
            let mut due = subscription.due(available, keep)?;
            if type_url == SECRET {
                // One at a time: Envoy takes none of those that come with one that it refuses.
                due.resources.truncate(1);
                subscription.offered = None;
            }
            Some((type_url.clone(), due))
        })
    }

    /// Whether the client answered the newest clusters, and has the endpoints that it then asked for.
    fn clusters_are_warm(&mut self) -> bool {
        let is_answered = |type_url: &str| {
            self.subscriptions
                .get(&key(type_url))
                .is_none_or(|subscription| subscription.form.answers().is_answered())
        };
        is_answered(CLUSTER) && is_answered(ENDPOINT) && !self.is_due(ENDPOINT)
    }

    /// Whether the client keeps clusters that have gone: its routes may still name them.
    fn keeps_clusters(&mut self) -> bool {
        let current = self.snapshot.of_type(CLUSTER);
        let has_outdated = self
            .subscriptions
            .get(&key(CLUSTER))
            .is_some_and(|clusters| {
                !clusters.has_all_of(current) && clusters.form.has_outdated(current)
            });
        if !has_outdated {
            self.retire_at = None;
            return false;
        }
        if self.retire || (self.is_settled(LISTENER) && self.is_settled(ROUTE) && self.is_back()) {
            return false;
        }
        let retire_timeout = self.shared.limits.retire_timeout;
        self.retire_at
            .get_or_insert_with(|| Instant::now() + retire_timeout);
        true
    }

    /// Whether a client that has come back has asked for all that may name what it holds.
    fn is_back(&mut self) -> bool {
        let has_asked = |it: &str| self.subscriptions.contains_key(&key(it));
        self.resumes &= !(has_asked(LISTENER) && has_asked(ROUTE));
        !self.resumes
    }

    /// Whether the client has and accepted the newest state of this type, or does not ask for it.
    fn is_settled(&mut self, type_url: &str) -> bool {
        let subscription = self.subscriptions.get(&key(type_url));
        let has_taken = |form: &F| form.answers().is_acknowledged() && !form.refuses();
        subscription.is_none_or(|it| has_taken(&it.form)) && !self.is_due(type_url)
    }

    fn is_due(&mut self, type_url: &str) -> bool {
        let available = available(&self.snapshot, type_url, self.has_secrets);
        let subscription = self.subscriptions.get_mut(&key(type_url));
        subscription.is_some_and(|it| it.due(available, false).is_some())
    }

    fn respond(&mut self, type_url: &str, due: &Due) -> F::Response {
        let nonce = format!("{:x}", self.next_nonce);
        self.next_nonce += 1;
        let subscription = self.subscriptions.get_mut(&key(type_url));
        let news = subscription
            .map(|it| it.sent(due, &nonce))
            .unwrap_or_default();
        if type_url == CLUSTER && !news.is_empty() {
            self.hold_until = Some(Instant::now() + self.shared.limits.warm_timeout);
            match self.subscriptions.get_mut(&key(ENDPOINT)) {
                Some(endpoints) => endpoints.change().clusters_changed(&news),
                None if F::RESUMES => self.changed_clusters = news,
                None => {}
            }
        }
        self.entry.update(type_url, |status| {
            status.sent_nonce.clone_from(&nonce);
            status.sent_version.clone_from(&due.version);
            status.sent_at = Some(SystemTime::now());
        });
        self.shared.registry.count(|counters| counters.pushes += 1);
        tracing::debug!(
            proxy = %self.node.id,
            resources = type_url::short(type_url),
            count = due.resources.len(),
            removed = due.removed.len(),
            version = %due.version,
            "push"
        );
        F::response(type_url, &nonce, due)
    }
}

impl<F: Form> Drop for Connection<F> {
    fn drop(&mut self) {
        tracing::info!(proxy = %self.node.id, "proxy disconnected");
    }
}

/// What there is of a type, for somebody who may have secrets or not.
fn available<'a>(snapshot: &'a Snapshot, type_url: &str, has_secrets: bool) -> &'a ResourceSet {
    match type_url == SECRET && !has_secrets {
        true => ResourceSet::nothing(),
        false => snapshot.of_type(type_url),
    }
}

/// Subscriptions are kept in push order.
fn key(type_url: &str) -> (usize, String) {
    (push_rank(type_url), type_url.to_owned())
}

/// A text of a proxy, as far as it is kept.
fn cut(text: &str) -> String {
    if text.len() <= MAX_ERROR_BYTES {
        return text.to_owned();
    }
    format!("{} …", &text[..text.floor_char_boundary(MAX_ERROR_BYTES)])
}
