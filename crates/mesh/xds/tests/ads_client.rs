//! The client against the real server, over a real socket.

#[path = "support/opaque.rs"]
mod opaque;
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use opaque::{contents, node, snapshot};
use periplus_xds::client::{Config, Handler, Rejection, StreamError, run};
use periplus_xds::server::Limits;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use support::{Fixed, Running, eventually};

/// Accepts everything but texts that begin with `bad`; listeners name their route, clusters their endpoints.
#[derive(Clone, Debug, Default)]
struct Recorder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Vec<String>>,
    connections: usize,
    errors: Vec<String>,
}

impl Recorder {
    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn holds(&self, type_url: &str, expected: &[&str]) {
        eventually(&format!("{type_url} to be {expected:?}"), || {
            self.with(|state| (state.held.get(type_url)? == expected).then_some(()))
        })
        .await;
    }
}

impl Handler for Recorder {
    fn apply(
        &mut self,
        type_url: &str,
        _version: &str,
        resources: Vec<Any>,
    ) -> Result<(), Vec<Rejection>> {
        let texts = contents(&resources);
        let bad: Vec<_> = texts
            .iter()
            .filter(|text| text.starts_with("bad"))
            .map(|text| Rejection {
                resource: format!("resource {text:?}"),
                reason: "field: it is bad".to_owned(),
            })
            .collect();
        if !bad.is_empty() {
            return Err(bad);
        }
        self.with(|state| state.held.insert(type_url.to_owned(), texts));
        Ok(())
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        let parent = if type_url == ENDPOINT {
            CLUSTER
        } else {
            LISTENER
        };
        self.with(|state| state.held.get(parent).cloned().unwrap_or_default())
    }

    fn connected(&mut self) {
        self.with(|state| state.connections += 1);
    }

    fn disconnected(&mut self, error: &StreamError) {
        self.with(|state| state.errors.push(error.to_string()));
    }
}

struct Client {
    recorder: Recorder,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    fn start(server: &Running, id: &str) -> Self {
        let mut config = Config::new(format!("http://{}", server.address), node(id));
        config.base_backoff = Duration::from_millis(10);
        config.max_backoff = Duration::from_millis(50);
        let recorder = Recorder::default();
        let mut handler = recorder.clone();
        let task = tokio::spawn(async move { match run(&config, &mut handler).await {} });
        Self { recorder, task }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const WORLD: &[(&str, &[(&str, &str)])] = &[
    (CLUSTER, &[("c", "c"), ("d", "d")]),
    (
        ENDPOINT,
        &[("c", "at c"), ("d", "at d"), ("other", "at other")],
    ),
    (LISTENER, &[("l", "r")]),
    (ROUTE, &[("r", "route"), ("other", "other route")]),
];

#[tokio::test]
async fn names_lead_from_clusters_to_endpoints_and_from_listeners_to_routes() {
    let source = Fixed::new(snapshot(WORLD));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let client = Client::start(&server, "a");
    client.recorder.holds(CLUSTER, &["c", "d"]).await;
    client.recorder.holds(ENDPOINT, &["at c", "at d"]).await;
    client.recorder.holds(ROUTE, &["route"]).await;

    let mut changed = WORLD.to_vec();
    changed[2] = (LISTENER, &[("l", "other")]);
    source.set(snapshot(&changed));
    client.recorder.holds(ROUTE, &["other route"]).await;
    eventually("everything to be acknowledged", || {
        let proxy = server.ads.proxies().pop()?;
        proxy
            .types
            .values()
            .all(|t| t.acked_nonce == t.sent_nonce)
            .then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_resource_and_the_former_state_stays() {
    let source = Fixed::new(snapshot(WORLD));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let client = Client::start(&server, "a");
    client.recorder.holds(ROUTE, &["route"]).await;

    let mut broken = WORLD.to_vec();
    broken[3] = (ROUTE, &[("r", "bad route")]);
    source.set(snapshot(&broken));
    let nack = eventually("a refusal", || {
        server
            .ads
            .proxies()
            .pop()?
            .types
            .get(ROUTE)?
            .last_error
            .clone()
    })
    .await;
    assert_eq!(nack.message, "resource \"bad route\": field: it is bad");
    client.recorder.holds(ROUTE, &["route"]).await;
    let status = server.ads.proxies().pop().expect("connected").types[ROUTE].clone();
    assert_ne!(status.acked_version, status.sent_version);

    let mut mended = WORLD.to_vec();
    mended[3] = (ROUTE, &[("r", "good route")]);
    source.set(snapshot(&mended));
    client.recorder.holds(ROUTE, &["good route"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_and_brings_what_changed_meanwhile() {
    let source = Fixed::new(snapshot(WORLD));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let client = Client::start(&server, "a");
    client.recorder.holds(ROUTE, &["route"]).await;

    let address = server.address;
    server.stop().await;
    eventually("the client to notice", || {
        client
            .recorder
            .with(|state| (!state.errors.is_empty()).then_some(()))
    })
    .await;
    let mut changed = WORLD.to_vec();
    changed[3] = (ROUTE, &[("r", "later route")]);
    source.set(snapshot(&changed));
    let server = Running::start(source, Limits::default(), Some(address)).await;
    client.recorder.holds(ROUTE, &["later route"]).await;
    client.recorder.holds(ENDPOINT, &["at c", "at d"]).await;
    assert!(client.recorder.with(|state| state.connections) >= 2);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_node_hears_why_and_keeps_asking() {
    let server = Running::start(Fixed::new(snapshot(WORLD)), Limits::default(), None).await;
    let client = Client::start(&server, "refused");
    let error = eventually("two attempts", || {
        client.recorder.with(|state| state.errors.get(1).cloned())
    })
    .await;
    assert!(error.contains("its name is on the list"), "{error}");
    server.stop().await;
}
