use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use periplus_collect::sampling::{
    AdaptiveSampling, RemoteSampling, ShareSampling, StrategiesFile, TailSampling,
};
use periplus_sampling::tail::{Policies, TailConfig, TailSampler};
use periplus_sampling::{AdaptiveOptions, Strategies};
use periplus_store::SpanSink;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::listen::{self, Listen};
use crate::commands::duration;

/// Where adaptive probabilities are kept, in the directory of the store.
const ADAPTIVE: &str = "sampling/adaptive.json";

/// Flags that say what is sampled.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Port that tells clients what to sample, over HTTP
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(5778), value_parser = listen::parse)]
    pub(super) sampling_port: Listen,

    /// Port that tells clients what to sample, over gRPC
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(5779), value_parser = listen::parse)]
    pub(super) sampling_grpc_port: Listen,

    /// File of sampling strategies for clients, in Jaeger's JSON; without it all is sampled
    #[arg(long, value_name = "FILE")]
    sampling_strategies: Option<PathBuf>,

    /// How often to look whether that file has changed, such as 30s; 0 is never
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    sampling_reload: Duration,

    /// What clients are told to sample where no strategy says otherwise, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    sampling_default_probability: f64,

    /// Tell clients probabilities that bring about one sampled trace per second of each operation,
    /// computed from what they send
    #[arg(long, conflicts_with = "sampling_strategies")]
    adaptive_sampling: bool,

    /// Keep only the traces that a policy of this file wants: YAML as the OpenTelemetry collector's
    /// `tail_sampling` has it
    #[arg(long, value_name = "FILE")]
    tail_sampling: Option<PathBuf>,

    /// Keep only this share of all traces, 0 to 1, chosen by their ids as Zipkin does
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 1.0,
        value_parser = share,
        env = "COLLECTOR_SAMPLE_RATE"
    )]
    sample_rate: f64,
}

/// What the flags ask for.
pub(super) struct Asked {
    pub(super) sampling: Sampling,
    /// Tail sampling, until it stands before the store.
    pub(super) tail: Option<TailSampler>,
    pub(super) file: Option<WatchedFile>,
}

/// What all stores have in common.
#[derive(Clone)]
pub(super) struct Sampling {
    pub(super) remote: RemoteSampling,
    pub(super) adaptive: Option<AdaptiveSampling>,
    share: f64,
}

/// A file of strategies, and how often to look whether it has changed.
pub(super) struct WatchedFile {
    file: StrategiesFile,
    every: Duration,
}

/// What stands before a store.
pub(super) struct Sampled {
    /// Where receivers send spans to.
    pub(super) sink: Arc<dyn SpanSink>,
    pub(super) tail: Option<TailSampling>,
    pub(super) share: Option<ShareSampling>,
}

/// What runs beside the receivers.
pub(super) struct Running {
    tasks: JoinSet<()>,
    end: watch::Sender<()>,
}

impl Flags {
    /// Reads the files; `policies` of tail sampling may stand in that of the settings. What adaptive sampling has learnt is kept in `dir`.
    pub(super) async fn open(
        &self,
        dir: Option<&Path>,
        policies: Option<&str>,
        has_tenants: bool,
    ) -> anyhow::Result<Asked> {
        // Both know all traces, and would tell one tenant about another.
        if has_tenants && (self.tail_sampling.is_some() || policies.is_some()) {
            bail!(
                "tail sampling (--tail-sampling) does not go with tenants: leave one of them out"
            );
        }
        if has_tenants && self.adaptive_sampling {
            bail!("--adaptive-sampling does not go with tenants: leave one of them out");
        }
        let probability = self.sampling_default_probability;
        let (strategies, file) = match &self.sampling_strategies {
            Some(path) => {
                let (file, strategies) = StrategiesFile::open(path, probability).await?;
                let every = self.sampling_reload;
                let watched = WatchedFile { file, every };
                (strategies, (!every.is_zero()).then_some(watched))
            }
            None => (Strategies::probabilistic(probability), None),
        };
        let adaptive = self.adaptive_sampling.then(|| {
            let path = dir.map(|dir| dir.join(ADAPTIVE));
            AdaptiveSampling::new(AdaptiveOptions::default(), path)
        });
        let remote = match &adaptive {
            Some(adaptive) => RemoteSampling::adaptive(adaptive.clone()),
            None => RemoteSampling::new(strategies),
        };
        let tail = match (&self.tail_sampling, policies) {
            (Some(path), _) => Some(tail_sampler(path)),
            (None, Some(text)) => {
                Some(parse("processors", text).map(|read| sampler("processors", read)))
            }
            (None, None) => None,
        };
        let sampling = Sampling {
            remote,
            adaptive,
            share: self.sample_rate,
        };
        Ok(Asked {
            sampling,
            tail: tail.transpose()?,
            file,
        })
    }
}

impl Sampling {
    /// What stands before `sink`.
    pub(super) fn before(&self, mut sink: Arc<dyn SpanSink>, tail: Option<TailSampler>) -> Sampled {
        let tail = tail.map(|sampler| TailSampling::new(sampler, Arc::clone(&sink)));
        if let Some(tail) = &tail {
            sink = Arc::new(tail.clone());
        }
        if let Some(adaptive) = &self.adaptive {
            sink = adaptive.counting(sink);
        }
        let share = (self.share < 1.0).then(|| ShareSampling::new(self.share, Arc::clone(&sink)));
        if let Some(share) = &share {
            sink = Arc::new(share.clone());
        }
        Sampled { sink, tail, share }
    }

    /// Starts what runs beside the receivers.
    pub(super) fn start(&self, tail: Option<TailSampling>, file: Option<WatchedFile>) -> Running {
        let (end, ended) = watch::channel(());
        let until_end = || {
            let mut ended = ended.clone();
            async move {
                // An error means that the sender is gone, which is an end as well.
                let _ = ended.changed().await;
            }
        };
        let mut tasks = JoinSet::new();
        if let Some(tail) = tail {
            tasks.spawn(tail.run(until_end()));
        }
        if let Some(adaptive) = self.adaptive.clone() {
            tasks.spawn(adaptive.run(until_end()));
        }
        if let Some(WatchedFile { file, every }) = file {
            let (remote, stop) = (self.remote.clone(), until_end());
            tasks.spawn(async move {
                tokio::select! {
                    () = file.watch(every, remote) => {}
                    () = stop => {}
                }
            });
        }
        Running { tasks, end }
    }
}

impl Running {
    /// Decides what is undecided and keeps what was learnt, when no more spans come.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.end);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("sampling crashed")?;
        }
        Ok(())
    }
}

/// A sampler as the file asks for it.
fn tail_sampler(path: &Path) -> anyhow::Result<TailSampler> {
    let read = read_tail_sampling(path)?;
    Ok(sampler(&path.display().to_string(), read))
}

fn sampler(file: &str, (config, policies): (TailConfig, Policies)) -> TailSampler {
    for key in config.without_effect() {
        tracing::warn!(file, "'{key}' has no effect here");
    }
    TailSampler::new(config, policies)
}

/// Reads a file of tail sampling policies.
pub(in crate::commands) fn read_tail_sampling(
    path: &Path,
) -> anyhow::Result<(TailConfig, Policies)> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the tail sampling policies in {name}"))?;
    parse(&name, &text)
}

fn parse(name: &str, text: &str) -> anyhow::Result<(TailConfig, Policies)> {
    let config = TailConfig::parse(name, text)?;
    let policies = Policies::new(name, &config)?;
    Ok((config, policies))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("'{text}' is no share: use a number from 0 to 1")),
    }
}
