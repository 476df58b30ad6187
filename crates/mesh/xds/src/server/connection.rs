//! One stream: requests in, the newest state out.
//!
//! Nothing is queued. Whenever the transport can take a response, the first type in push order whose
//! content differs from what the client holds is encoded from the newest snapshot; a slow client skips
//! the states between.

mod books;
mod order;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use super::form::{Due, Form, Meaning};
use super::kept::Subscription;
use super::retired::Retired;
use super::status::{Entry, ProxyStatus};
use super::{Admission, Generation, NodeRefused, Peer, Shared};
use crate::type_url::{self, CLUSTER, ENDPOINT, push_rank};
use crate::{Resource, ResourceSet, Snapshot};

/// How long a client may take to hear why its stream ends.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);

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
            // The client may be gone already, or take nothing; then nobody needs the reason.
            let _ = timeout(REASON_TIMEOUT, outgoing.send(Err(status))).await;
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
    let (bytes, limit) = (node.encoded_len(), shared.limits.max_node_bytes);
    if bytes > limit {
        return Err(Status::resource_exhausted(format!(
            "the node has {bytes} bytes, the limit is {limit}: make its metadata smaller"
        )));
    }

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
    // Since when something waits for the transport.
    let mut waits: Option<Instant> = None;
    loop {
        let began = Instant::now();
        let due = connection.next_due();
        let found_out = began.elapsed();
        waits = due.is_some().then(|| waits.unwrap_or_else(Instant::now));
        let give_up = waits.map(|since| since + shared.limits.write_timeout);
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
                Ok(()) => {
                    let generation = *generations.borrow_and_update();
                    connection.refresh(generation)?;
                }
                Err(_) => return Err(going_away()),
            },
            permit = outgoing.reserve(), if due.is_some() => {
                let (Ok(permit), Some((type_url, due))) = (permit, due) else {
                    return Ok(());
                };
                let waited = waits.take().map(|since| since.elapsed());
                let times = (found_out, waited.unwrap_or_default());
                permit.send(Ok(connection.respond(&type_url, &due, times)));
            }
            () = until(give_up), if give_up.is_some() => {
                connection.count(|counters| counters.write_timeouts += 1);
                let limit = shared.limits.write_timeout;
                tracing::warn!(proxy = %connection.node.id, ?limit, "a proxy takes nothing of what it is sent");
                return Err(Status::deadline_exceeded(format!(
                    "nothing of what was sent was taken for {limit:?}"
                )));
            }
            () = until(connection.hold_until), if connection.hold_until.is_some() => {
                connection.hold_until = None;
            }
            () = until(connection.resumes_until), if connection.resumes_until.is_some() => {
                connection.resumes_until = None;
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
    /// Its number.
    stream: u64,
    subscriptions: BTreeMap<(usize, String), Subscription<F>>,
    next_nonce: u64,
    /// Clusters that were sent before the client asked for endpoints: behind a reconnect it holds endpoints that these
    /// clusters wait for all the same.
    changed_clusters: Vec<Arc<Resource>>,
    retired: Retired,
    /// Since when a change is under way of which something was sent, or may be.
    converges: Option<std::time::Instant>,
    /// Something of it was sent.
    has_sent: bool,
    /// Set while clusters that the client was sent may still wait for their endpoints, so that listeners
    /// and routes, which may name them, are held back: until when at the latest.
    hold_until: Option<Instant>,
    /// Set while a client that has come back with clusters has not asked yet about its listeners and routes, which may name
    /// them: until when at the latest.
    resumes_until: Option<Instant>,
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
            stream: shared.left.stream(),
            subscriptions: BTreeMap::new(),
            next_nonce: 1,
            changed_clusters: Vec::new(),
            retired: Retired::default(),
            converges: None,
            has_sent: false,
            hold_until: None,
            resumes_until: None,
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
        if is_first && asked.type_url == CLUSTER && F::comes_back(request) {
            let had = self.shared.left.of(&self.node.id);
            subscription.change().resume(had);
        }
        if is_first
            && asked.type_url == CLUSTER
            && subscription.form.has_outdated(ResourceSet::nothing())
        {
            self.resumes_until = Some(Instant::now() + limits.warm_timeout);
            // What it runs on may name any of those, which stay until it has something newer.
            self.retired
                .accept(self.snapshot.of_type(CLUSTER), |_| false);
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
        if !F::is_plain_answer(request) {
            let all = self.subscriptions.values();
            let bytes: usize = all.map(|it| it.form.kept_bytes()).sum();
            if bytes > limits.max_name_bytes {
                return Err(Status::resource_exhausted(format!(
                    "the names that were asked for have {bytes} bytes, the limit is {}",
                    limits.max_name_bytes
                )));
            }
        }
        if meaning == Meaning::Unsubscribe {
            self.subscriptions.remove(&key);
            self.entry.forget(asked.type_url);
            return Ok(());
        }
        self.note(&asked, (meaning, refuses), names);
        Ok(())
    }

    /// Takes the source's newest state.
    fn refresh(&mut self, generation: Generation) -> Result<(), Status> {
        let has_accepted = self.runs_on_newest();
        let snapshot = self.shared.source.snapshot(&self.node)?;
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.look_at_secrets();
        let (old, new) = (before.of_type(CLUSTER), self.snapshot.of_type(CLUSTER));
        let clusters = self.subscriptions.get(&key(CLUSTER));
        let has = |name: &str| clusters.is_some_and(|clusters| clusters.form.holds(name));
        if has_accepted {
            self.retired.accept(old, has);
        }
        let most = self.shared.limits.max_retired;
        let let_go = self.retired.change((old, new), has, most);
        if let_go > 0 {
            self.count(|counters| counters.clusters_let_go += let_go as u64);
        }
        if self.converges.is_none() {
            self.converges = Some(generation.noticed);
            self.has_sent = false;
        }
        let waited = generation.published.elapsed();
        self.measure(|measures| measures.queue.took(waited));
        Ok(())
    }

    /// The response, which took so long to find out, and waited so long.
    fn respond(
        &mut self,
        type_url: &str,
        due: &Due,
        (found_out, waited): (Duration, Duration),
    ) -> F::Response {
        let began = Instant::now();
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
        if type_url == CLUSTER {
            self.retired.told();
            if !F::RESUMES {
                let left = &self.shared.left;
                left.put(&self.node.id, self.stream, &due.resources);
            }
        }
        self.has_sent = true;
        let response = F::response(type_url, &nonce, due);
        let (took, bytes) = (found_out + began.elapsed(), response.encoded_len());
        self.count(|counters| counters.pushes += 1);
        self.measure(|measures| {
            measures.send.took(waited);
            let of_type = measures.of(type_url);
            of_type.pushes += 1;
            of_type.push.took(took);
            of_type.size.observe(bytes as f64);
        });
        tracing::debug!(
            proxy = %self.node.id,
            resources = type_url::short(type_url),
            count = due.resources.len(),
            removed = due.removed.len(),
            version = %due.version,
            "push"
        );
        response
    }
}

impl<F: Form> Drop for Connection<F> {
    fn drop(&mut self) {
        self.shared.left.end(&self.node.id, self.stream);
        tracing::info!(proxy = %self.node.id, "proxy disconnected");
    }
}

/// Subscriptions are kept in push order.
fn key(type_url: &str) -> (usize, String) {
    (push_rank(type_url), type_url.to_owned())
}
