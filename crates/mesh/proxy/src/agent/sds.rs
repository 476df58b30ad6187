//! Secrets from servers of their own, such as SPIRE's agent: a stream for each that has a secret which is wanted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::{
    self, Config, Dial, Form, Handler, Named, Rejection, Secure, Service, Stream, StreamError,
};
use periplus_xds::type_url::SECRET;
use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};

use super::Shared;
use crate::bootstrap::SecretServerAddress;
use crate::config::SecretServer;

/// Keeps the streams.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    let mut tasks = JoinSet::<()>::new();
    let mut running = BTreeMap::new();
    loop {
        let wanted = shared.state().store.secret_servers();
        running.retain(|server, task: &mut AbortHandle| {
            let keep = wanted.contains(server);
            if !keep {
                task.abort();
                let mut state = shared.state();
                state.secret_servers.remove(server);
                state.store.forget_secrets(Some(server));
            }
            keep
        });
        for server in wanted {
            if let Entry::Vacant(vacant) = running.entry(server)
                && let Some(config) = config_of(&shared, vacant.key())
            {
                let mut follower = Follower {
                    shared: Arc::clone(&shared),
                    server: vacant.key().clone(),
                };
                let task =
                    tasks.spawn(async move { match client::run(&config, &mut follower).await {} });
                vacant.insert(task);
            }
        }
        while tasks.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// None if the bootstrap file does not have it, which contexts that refer to it were refused for.
fn config_of(shared: &Arc<Shared>, server: &SecretServer) -> Option<Config> {
    let bootstrap = &shared.bootstrap;
    let node = bootstrap.node.clone();
    let mut config = match bootstrap.secret_servers.get(&server.cluster)? {
        SecretServerAddress::Tcp(address) => Config::new(address, node),
        SecretServerAddress::Pipe(path) => {
            // The name is for the `:authority` of the calls alone.
            let mut config = Config::new("http://localhost", node);
            config.secure = Some(Secure(Arc::new(Pipe(path.clone()))));
            config
        }
    };
    config.service = Service::Secrets;
    config.form = match server.is_delta {
        true => Form::Delta,
        false => Form::StateOfTheWorld,
    };
    config.wildcard_types.clear();
    config.named_types = vec![SECRET];
    config.wishes = Some(shared.changes.subscribe());
    Some(config)
}

struct Pipe(PathBuf);

impl Dial for Pipe {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>> {
        let path = self.0.clone();
        Box::pin(async move {
            let connected = UnixStream::connect(&path).await;
            let told = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            Ok(Box::new(connected.map_err(told)?) as Box<dyn Stream>)
        })
    }

    fn token(&self) -> Option<String> {
        None
    }
}

/// Takes what a server sends.
struct Follower {
    shared: Arc<Shared>,
    server: SecretServer,
}

impl Handler for Follower {
    fn apply(&mut self, _: &str, _: &str, resources: Vec<Any>) -> Result<(), Vec<Rejection>> {
        let outcome = {
            let mut state = self.shared.state();
            let outcome = state.store.apply_secrets_of(&self.server, &resources);
            let (accepted, refused) = state.updates.entry(SECRET.to_owned()).or_default();
            *(if outcome.is_ok() { accepted } else { refused }) += 1;
            outcome
        };
        self.shared.advance();
        outcome
    }

    /// Secrets that are taken away stay, as those of the control plane do.
    fn apply_delta(
        &mut self,
        type_url: &str,
        version: &str,
        resources: Vec<Named>,
        _: &[String],
    ) -> Result<(), Vec<Rejection>> {
        let bodies = resources.into_iter().map(|named| named.body);
        self.apply(type_url, version, bodies.collect())
    }

    fn wanted(&self, _: &str) -> Vec<String> {
        let mut state = self.shared.state();
        state.store.forget_secrets(Some(&self.server));
        let names = state.store.secret_names(Some(&self.server));
        names.into_iter().cloned().collect()
    }

    fn connected(&mut self) {
        let mut state = self.shared.state();
        state.secret_servers.insert(self.server.clone(), None);
        tracing::info!(server = %self.server.cluster, "connected to a server of secrets");
    }

    fn disconnected(&mut self, error: &StreamError) {
        let text = error.with_causes();
        let mut state = self.shared.state();
        let known = state.secret_servers.entry(self.server.clone()).or_default();
        // Each reason is told once, however often it is retried.
        if known.as_ref() != Some(&text) {
            tracing::warn!(server = %self.server.cluster, error = %text, "no secrets from their server, trying again");
        }
        *known = Some(text);
    }
}
