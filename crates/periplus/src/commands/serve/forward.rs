use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use periplus_collect::forward::{Endpoint, EndpointConfig, Forwarder, Forwards};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Flags that say where spans are forwarded.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Endpoint that also gets what is stored: otlp+http://host:4318, otlp-grpc+https://host:4317 or
    /// zipkin+http://host:9411; repeatable
    #[arg(long, value_name = "PROTOCOL+URL")]
    forward: Vec<Endpoint>,

    /// Authorities in PEM that may have signed the certificates of these endpoints [default: those
    /// of the system]
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_ca: Option<PathBuf>,
}

/// What sends to the endpoints.
pub(super) struct Running {
    tasks: JoinSet<()>,
    end: watch::Sender<()>,
}

impl Flags {
    /// The endpoints and what will send to them; `None` if there are none. `configs` is what the file
    /// of settings says about some of them.
    pub(super) fn open(
        &self,
        configs: &[EndpointConfig],
    ) -> anyhow::Result<Option<(Forwards, Vec<Forwarder>)>> {
        let configured = configs
            .iter()
            .map(|config| (config.endpoint()).with_context(|| format!("forward to {}", config.to)));
        let configured = configured.collect::<anyhow::Result<Vec<_>>>()?;
        if self.forward.is_empty() {
            return Ok(None);
        }
        let mut seen = BTreeSet::new();
        for endpoint in &self.forward {
            if !seen.insert(endpoint.to_string()) {
                bail!("--forward {endpoint} is there twice: leave one out");
            }
        }
        let mut endpoints = Vec::with_capacity(self.forward.len());
        for endpoint in &self.forward {
            let is_it =
                |one: &&Endpoint| one.protocol == endpoint.protocol && one.uri == endpoint.uri;
            let mut endpoint = configured.iter().find(is_it).unwrap_or(endpoint).clone();
            endpoint.authorities = endpoint.authorities.or_else(|| self.forward_ca.clone());
            if let Some(path) = &endpoint.token_file {
                std::fs::File::open(path)
                    .with_context(|| format!("cannot read the token in {}", path.display()))?;
            }
            if endpoint.has_secrets() && endpoint.uri.scheme_str() == Some("http") {
                tracing::warn!(%endpoint, "its credentials go over the network in plain text: use https");
            }
            endpoints.push(endpoint);
        }
        let forwards = Forwards::new(endpoints);
        forwards
            .context("cannot forward: see --forward and --forward-ca")
            .map(Some)
    }
}

impl Running {
    pub(super) fn start(forwarders: Vec<Forwarder>) -> Self {
        let (end, ended) = watch::channel(());
        let mut tasks = JoinSet::new();
        for forwarder in forwarders {
            tracing::info!(endpoint = %forwarder.endpoint(), "spans are forwarded");
            tasks.spawn(forwarder.run(until(ended.clone())));
        }
        Self { tasks, end }
    }

    /// Sends what still waits, for a few seconds, when no more spans come.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.end);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("forwarding crashed")?;
        }
        Ok(())
    }
}

/// An error means that the sender is gone, which is an end as well.
async fn until(mut ended: watch::Receiver<()>) {
    let _ = ended.changed().await;
}
