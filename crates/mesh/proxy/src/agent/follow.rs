//! Takes what the control plane sends, and keeps what was good of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::{Handler, Named, Rejection, StreamError};
use periplus_xds::name_table::NameTable;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, ROUTE, is_full_state};
use prost::Message;
use tokio::time::{sleep, timeout};

use super::cache::{Cache, CachedResource, CachedType};
use super::{Shared, State};
use crate::config::Extent;

/// How long the file may take to be read: the start does not wait for a disk that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Changes that follow each other within this time are written once.
const WRITE_PAUSE: Duration = Duration::from_millis(250);
/// Clusters before what refers to them.
const ORDER: [&str; 4] = [CLUSTER, ENDPOINT, LISTENER, ROUTE];

/// Takes what the control plane sends.
pub(super) struct Follower {
    shared: Arc<Shared>,
    /// What is accepted is kept on disk.
    keeps: bool,
}

impl Follower {
    pub(super) fn new(shared: &Arc<Shared>, keeps: bool) -> Self {
        Self {
            shared: Arc::clone(shared),
            keeps,
        }
    }

    fn take(
        &self,
        type_url: &str,
        version: &str,
        resources: Vec<Named>,
        extent: Extent<'_>,
    ) -> Result<(), Vec<Rejection>> {
        let outcome = if type_url == NAME_TABLE {
            self.take_names(version, resources, extent)
        } else {
            let mut state = self.shared.state();
            let bodies: Vec<Any> = resources.iter().map(|one| one.body.clone()).collect();
            let outcome = state
                .store
                .apply(type_url, version, (&bodies, extent), Instant::now());
            let (accepted, refused) = state.updates.entry(type_url.to_owned()).or_default();
            *(if outcome.is_ok() { accepted } else { refused }) += 1;
            state.hold(type_url, (version, outcome.is_ok()), resources, extent);
            outcome
        };
        self.shared.advance();
        // The subscriptions are brought up to date behind each response.
        self.shared.state().store.forget_unused();
        if self.keeps {
            self.shared.accepted.send_modify(|accepted| *accepted += 1);
        }
        outcome
    }

    /// Takes the names that an application may ask for: one resource, in place of the one before.
    fn take_names(
        &self,
        version: &str,
        resources: Vec<Named>,
        extent: Extent<'_>,
    ) -> Result<(), Vec<Rejection>> {
        let is_same = matches!(extent, Extent::Changes([])) && resources.is_empty();
        if is_same {
            return Ok(());
        }
        let outcome = names_of(resources.last().map(|resource| &resource.body));
        let mut state = self.shared.state();
        let (accepted, refused) = state.updates.entry(NAME_TABLE.to_owned()).or_default();
        *(if outcome.is_ok() { accepted } else { refused }) += 1;
        let told = outcome.map_err(|refused| vec![refused])?;
        self.shared.names.take(&told);
        let held = state.held.types.entry(NAME_TABLE.to_owned()).or_default();
        held.update(version, held_of(resources), |_| true);
        Ok(())
    }
}

/// The table that a resource is; without one there are no names.
fn names_of(body: Option<&Any>) -> Result<NameTable, Rejection> {
    let told = body.map(|body| NameTable::decode(body.value.as_slice()));
    told.unwrap_or_else(|| Ok(NameTable::default()))
        .map_err(|error| Rejection {
            resource: "table of names".to_owned(),
            reason: error.to_string(),
        })
}

/// Resources as they are held, by name.
fn held_of(resources: Vec<Named>) -> Vec<(String, CachedResource)> {
    let held = resources.into_iter().map(|resource| {
        let held = CachedResource {
            version: resource.version,
            body: Some(resource.body),
        };
        (resource.name, held)
    });
    held.collect()
}

impl State {
    /// Holds what was taken: of a response that is refused for one of its resources, the others. Routes and endpoints
    /// that nothing refers to are let go, secrets are not held: private keys do not belong on a disk.
    fn hold(
        &mut self,
        type_url: &str,
        (version, is_accepted): (&str, bool),
        resources: Vec<Named>,
        extent: Extent<'_>,
    ) {
        if !ORDER.contains(&type_url) {
            return;
        }
        let store = &self.store;
        let is_taken = |resource: &Named| {
            is_accepted || store.has_taken(type_url, &resource.name, &resource.body)
        };
        let resources = held_of(resources.into_iter().filter(is_taken).collect());
        let wanted = self.store.wanted(type_url);
        let is_full = is_full_state(type_url);
        let gone = |name: &str| match extent {
            _ if !is_full => !wanted.iter().any(|wanted| wanted == name),
            // One that is refused stays as it was.
            Extent::Whole => is_accepted || !store.is_there(type_url, name),
            Extent::Changes(removed) => removed.iter().any(|removed| removed == name),
        };
        let held = self.held.types.entry(type_url.to_owned()).or_default();
        let version = if is_accepted {
            version.to_owned()
        } else {
            held.version.clone()
        };
        held.update(&version, resources, gone);
    }
}

impl Handler for Follower {
    fn apply(
        &mut self,
        type_url: &str,
        version: &str,
        resources: Vec<Any>,
    ) -> Result<(), Vec<Rejection>> {
        let named = resources.into_iter().map(|body| Named {
            name: name_of(&body),
            version: version.to_owned(),
            body,
        });
        self.take(type_url, version, named.collect(), Extent::Whole)
    }

    fn apply_delta(
        &mut self,
        type_url: &str,
        version: &str,
        resources: Vec<Named>,
        removed: &[String],
    ) -> Result<(), Vec<Rejection>> {
        self.take(type_url, version, resources, Extent::Changes(removed))
    }

    fn versions(&self, type_url: &str) -> BTreeMap<String, String> {
        let state = self.shared.state();
        let held = state.held.types.get(type_url);
        let resources = held.into_iter().flat_map(|held| &held.resources);
        resources
            .map(|(name, resource)| (name.clone(), resource.version.clone()))
            .collect()
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        self.shared.state().store.wanted(type_url)
    }

    fn connected(&mut self) {
        let mut state = self.shared.state();
        state.connected = true;
        state.streams += 1;
        state.stream_error = None;
        tracing::info!(control_plane = %self.shared.bootstrap.control_plane, "connected to the control plane");
    }

    fn disconnected(&mut self, error: &StreamError) {
        let mut state = self.shared.state();
        if !std::mem::take(&mut state.connected) {
            state.failed_streams += 1;
        }
        let text = error.with_causes();
        // Each reason is told once, however often it is retried.
        if state.stream_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "no stream from the control plane, trying again");
        }
        state.stream_error = Some(text);
    }
}

/// The name of a resource of the state-of-the-world form, which says it only inside: the first field of
/// each of these types.
fn name_of(body: &Any) -> String {
    #[derive(Clone, PartialEq, Message)]
    struct Name {
        #[prost(string, tag = "1")]
        name: String,
    }

    if body.type_url == NAME_TABLE {
        // There is one, which has no name.
        return String::new();
    }
    // What cannot be decoded is refused elsewhere.
    let decoded = Name::decode(body.value.as_slice());
    decoded.map(|decoded| decoded.name).unwrap_or_default()
}

/// Begins with the last good configuration, if there is one.
pub(super) async fn restore(shared: &Arc<Shared>, cache: &Cache) {
    let node = shared.bootstrap.node.id.clone();
    let reading = {
        let cache = cache.clone();
        tokio::task::spawn_blocking(move || cache.read(&node))
    };
    let reason = match timeout(READ_TIMEOUT, reading).await {
        Ok(Ok(Ok(None))) => return,
        Ok(Ok(Ok(Some(cached)))) => match take_cached(shared, &cached.types) {
            Ok(()) => {
                shared.state().held = cached;
                shared.state().cache.loaded = true;
                shared.advance();
                let file = cache.path().display();
                tracing::info!(%file, "started on the last good configuration");
                return;
            }
            Err(reason) => reason,
        },
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long to be read".to_owned(),
    };
    shared.state().cache.rejected += 1;
    let file = cache.path().display();
    tracing::warn!(%file, reason, "the file of the last good configuration is not used");
}

/// All of it, or nothing: another version of this program may refuse what the one before took.
fn take_cached(shared: &Shared, types: &BTreeMap<String, CachedType>) -> Result<(), String> {
    let mut store = shared.new_store().map_err(|error| error.to_string())?;
    for type_url in ORDER {
        let Some(held) = types.get(type_url) else {
            continue;
        };
        let resources = held.bodies();
        let whole = (resources.as_slice(), Extent::Whole);
        store
            .apply(type_url, &held.version, whole, Instant::now())
            .map_err(|rejections| {
                let first = rejections.first().map(ToString::to_string);
                first.unwrap_or_default()
            })?;
    }
    if let Some(held) = types.get(NAME_TABLE) {
        let told = names_of(held.bodies().first()).map_err(|error| error.to_string())?;
        shared.names.take(&told);
    }
    shared.state().store = store;
    Ok(())
}

/// Writes what was accepted to the file, whenever there is something new.
pub(super) async fn keep(shared: Arc<Shared>, cache: Cache) {
    let mut accepted = shared.accepted.subscribe();
    while accepted.changed().await.is_ok() {
        sleep(WRITE_PAUSE).await;
        accepted.borrow_and_update();
        let mut held = shared.state().held.clone();
        held.node.clone_from(&shared.bootstrap.node.id);
        let writing = {
            let cache = cache.clone();
            tokio::task::spawn_blocking(move || cache.write(&held))
        };
        let outcome = match writing.await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut state = shared.state();
        match outcome {
            Ok(()) => state.cache.written += 1,
            Err(error) => {
                state.cache.write_failed += 1;
                let file = cache.path().display();
                tracing::warn!(%file, error, "the last good configuration cannot be kept");
            }
        }
    }
}
