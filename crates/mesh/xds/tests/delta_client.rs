//! The incremental client against a small server: subscriptions, refusals, resumption, removal.

#[path = "support/fake.rs"]
mod fake;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::google::protobuf::Any;
use fake::{Fake, Plane};
use periplus_xds::client::{Config, Form, Handler, Named, Rejection, StreamError, run};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

/// A resource whose content is any text: the protocol does not look into it.
fn body(type_url: &str, text: &str) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: text.as_bytes().to_vec(),
    }
}

fn text(body: &Any) -> String {
    String::from_utf8_lossy(&body.value).into_owned()
}

/// Accepts everything but texts that begin with `bad`; clusters and listeners name what they need.
#[derive(Clone, Debug, Default)]
struct Recorder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, BTreeMap<String, String>>,
    connections: usize,
    errors: Vec<String>,
}

impl Recorder {
    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn holds(&self, type_url: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> = expected
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        eventually(&format!("{type_url} to be {expected:?}"), || {
            self.with(|state| {
                let held = state.held.get(type_url).cloned().unwrap_or_default();
                (held == expected).then_some(())
            })
        })
        .await;
    }
}

impl Handler for Recorder {
    fn apply(&mut self, _: &str, _: &str, _: Vec<Any>) -> Result<(), Vec<Rejection>> {
        panic!("the other form");
    }

    fn apply_delta(
        &mut self,
        type_url: &str,
        _version: &str,
        resources: Vec<Named>,
        removed: &[String],
    ) -> Result<(), Vec<Rejection>> {
        let is_bad = |resource: &&Named| text(&resource.body).starts_with("bad");
        if let Some(bad) = resources.iter().find(is_bad) {
            return Err(vec![Rejection {
                resource: format!("resource {:?}", bad.name),
                reason: "field: it is bad".to_owned(),
            }]);
        }
        self.with(|state| {
            let held = state.held.entry(type_url.to_owned()).or_default();
            held.retain(|name, _| !removed.contains(name));
            held.extend(
                resources
                    .iter()
                    .map(|one| (one.name.clone(), text(&one.body))),
            );
        });
        Ok(())
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        let parent = if type_url == ENDPOINT {
            CLUSTER
        } else {
            LISTENER
        };
        self.with(|state| {
            let held = state.held.get(parent);
            held.into_iter()
                .flat_map(|held| held.values().cloned())
                .collect()
        })
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
    fn start(server: &Fake, edit: impl FnOnce(&mut Config)) -> Self {
        let node = Node {
            id: "me".to_owned(),
            ..Node::default()
        };
        let mut config = Config::new(format!("http://{}", server.address), node);
        config.form = Form::Delta;
        config.base_backoff = Duration::from_millis(10);
        config.max_backoff = Duration::from_millis(50);
        edit(&mut config);
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

async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "still waiting for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(plane: &Plane) -> Fake {
    plane.serve(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// Clusters `c` and `d` with their endpoints, a listener and its routes; other endpoints too.
fn world() -> Plane {
    let plane = Plane::default();
    for (type_url, name, text) in [
        (CLUSTER, "c", "c"),
        (CLUSTER, "d", "d"),
        (ENDPOINT, "c", "at c"),
        (ENDPOINT, "d", "at d"),
        (ENDPOINT, "other", "at other"),
        (LISTENER, "l", "r"),
        (ROUTE, "r", "route"),
    ] {
        plane.set(type_url, name, "1", body(type_url, text));
    }
    plane
}

fn of_type(plane: &Plane, type_url: &str) -> Vec<DeltaDiscoveryRequest> {
    let mut requests = plane.requests();
    requests.retain(|request| request.type_url == type_url);
    requests
}

#[tokio::test]
async fn only_what_is_needed_is_asked_for_and_only_changes_come() {
    let plane = world();
    let server = start(&plane).await;
    let client = Client::start(&server, |_| ());
    let both = [("c", "at c"), ("d", "at d")];
    client.recorder.holds(ENDPOINT, &both).await;
    client.recorder.holds(ROUTE, &[("r", "route")]).await;
    let requests = plane.requests();
    assert_eq!(
        requests[0].node.as_ref().map(|node| node.id.as_str()),
        Some("me")
    );
    assert!(requests[1..].iter().all(|request| request.node.is_none()));
    assert_eq!(plane.sent("other"), 0, "nobody needs it");

    plane.set(ENDPOINT, "d", "2", body(ENDPOINT, "moved"));
    client
        .recorder
        .holds(ENDPOINT, &[("c", "at c"), ("d", "moved")])
        .await;
    assert_eq!(
        plane.sent("c"),
        2,
        "the cluster and its endpoints, once each"
    );
    // A cluster that goes takes its subscription along.
    plane.remove(CLUSTER, "d");
    client.recorder.holds(CLUSTER, &[("c", "c")]).await;
    let unsubscribed = eventually("the end of a subscription", || {
        let requests = of_type(&plane, ENDPOINT);
        requests
            .into_iter()
            .find(|request| !request.resource_names_unsubscribe.is_empty())
    })
    .await;
    assert_eq!(unsubscribed.resource_names_unsubscribe, ["d"]);
    // One that comes back brings its endpoints again, though they are the same.
    plane.set(CLUSTER, "d", "3", body(CLUSTER, "d"));
    eventually("the endpoints again", || {
        (plane.sent("d") >= 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusal_names_the_resource_and_the_rest_goes_on() {
    let plane = world();
    let server = start(&plane).await;
    let client = Client::start(&server, |_| ());
    client.recorder.holds(ROUTE, &[("r", "route")]).await;
    plane.set(CLUSTER, "e", "1", body(CLUSTER, "bad one"));
    let refusal = eventually("a refusal", || {
        let requests = of_type(&plane, CLUSTER);
        requests
            .into_iter()
            .find(|request| request.error_detail.is_some())
    })
    .await;
    let detail = refusal.error_detail.expect("checked");
    assert_eq!(detail.code, 3);
    assert_eq!(detail.message, "resource \"e\": field: it is bad");
    let nonces: Vec<_> = of_type(&plane, CLUSTER)
        .into_iter()
        .map(|request| request.response_nonce)
        .filter(|nonce| !nonce.is_empty())
        .collect();
    assert_eq!(nonces.last(), Some(&refusal.response_nonce));
    plane.set(CLUSTER, "e", "2", body(CLUSTER, "e"));
    client
        .recorder
        .holds(CLUSTER, &[("c", "c"), ("d", "d"), ("e", "e")])
        .await;
    let last = eventually("an acknowledgement", || {
        let last = of_type(&plane, CLUSTER).pop()?;
        (last.response_nonce != refusal.response_nonce).then_some(last)
    })
    .await;
    assert_eq!(last.error_detail, None);
}

#[tokio::test]
async fn a_new_stream_resumes_with_what_is_held() {
    let plane = world();
    let server = start(&plane).await;
    let address = server.address;
    let client = Client::start(&server, |_| ());
    client.recorder.holds(ROUTE, &[("r", "route")]).await;
    client
        .recorder
        .holds(ENDPOINT, &[("c", "at c"), ("d", "at d")])
        .await;
    drop(server);
    eventually("the loss", || {
        client
            .recorder
            .with(|state| (!state.errors.is_empty()).then_some(()))
    })
    .await;
    // Things change while nobody listens.
    plane.remove(CLUSTER, "c");
    plane.set(ENDPOINT, "d", "2", body(ENDPOINT, "moved"));
    let before = plane.requests().len();
    let (clusters, routes) = (plane.sent("d"), plane.sent("r"));
    let _server = plane.serve(address).await;
    client.recorder.holds(CLUSTER, &[("d", "d")]).await;
    client
        .recorder
        .with(|state| assert_eq!(state.held[LISTENER].len(), 1));
    eventually("the change", || {
        client.recorder.with(|state| {
            (state.held[ENDPOINT].get("d").map(String::as_str) == Some("moved")).then_some(())
        })
    })
    .await;
    let resumed = plane.requests().split_off(before);
    assert!(resumed[0].node.is_some(), "each stream says who this is");
    let held = &resumed[0].initial_resource_versions;
    assert_eq!(held.len(), 2);
    assert_eq!(held["c"], "1");
    assert_eq!(plane.sent("d"), clusters + 1, "the endpoints only");
    assert_eq!(plane.sent("r"), routes);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_and_takes_nothing() {
    let plane = world();
    let server = start(&plane).await;
    let client = Client::start(&server, |config| config.max_message_bytes = 4096);
    client.recorder.holds(ROUTE, &[("r", "route")]).await;
    plane.set(CLUSTER, "huge", "1", body(CLUSTER, &"x".repeat(10_000)));
    let error = eventually("the end of the stream", || {
        client.recorder.with(|state| state.errors.first().cloned())
    })
    .await;
    assert!(error.contains("message length too large"), "{error}");
    plane.be_silent(true);
    plane.remove(CLUSTER, "huge");
    plane.be_silent(false);
    eventually("another stream", || {
        client
            .recorder
            .with(|state| (state.connections > 1).then_some(()))
    })
    .await;
    client
        .recorder
        .holds(CLUSTER, &[("c", "c"), ("d", "d")])
        .await;
}
