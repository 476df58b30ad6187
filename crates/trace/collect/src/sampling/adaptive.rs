use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use periplus_model::{Batch, Span, Value};
use periplus_sampling::{Adaptive, AdaptiveOptions, AdaptiveState, AdaptiveStats, Sampler};
use periplus_store::{BoxFuture, SpanSink, StoreError};
use periplus_wire::sampling::Strategy;
use tokio::time::sleep;

use super::clock::Clock;

/// Bytes of a file of probabilities: far more than the limits allow.
const MAX_BYTES: u64 = 256 << 20;

/// Adaptive probabilities: roots are counted on their way to the store. Copies share it.
#[derive(Clone, Debug)]
pub struct AdaptiveSampling {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    adaptive: Mutex<Adaptive>,
    clock: Clock,
    /// Where the probabilities are kept; `None` if they are forgotten at the end.
    path: Option<PathBuf>,
}

impl AdaptiveSampling {
    /// Resumes from the file, if there is one. A file that cannot be read is logged, and left alone
    /// until the first calculation writes it anew: clients are told the initial probability.
    pub fn new(options: AdaptiveOptions, path: Option<PathBuf>) -> Self {
        let state = path.as_deref().map(load).unwrap_or_default();
        let clock = Clock::start();
        let mut adaptive = Adaptive::resume(options, state);
        adaptive.tick(clock.now_unix_nano());
        Self {
            inner: Arc::new(Inner {
                adaptive: Mutex::new(adaptive),
                clock,
                path,
            }),
        }
    }

    /// A sink that counts the roots that `next` has taken.
    pub fn counting(&self, next: Arc<dyn SpanSink>) -> Arc<dyn SpanSink> {
        Arc::new(Counting {
            adaptive: self.clone(),
            next,
        })
    }

    /// Computes the probabilities when it is time, and keeps them, until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let now = self.inner.clock.now_unix_nano();
            let next = self.adaptive().next_tick_unix_nano().unwrap_or(now);
            let wait = Duration::from_nanos(next.saturating_sub(now));
            tokio::select! {
                () = &mut stop => return self.save().await,
                () = sleep(wait) => {}
            }
            let ticked = self.adaptive().tick(self.inner.clock.now_unix_nano());
            if ticked {
                self.save().await;
            }
        }
    }

    /// What a service is told.
    pub fn strategy(&self, service: &str) -> Strategy {
        self.adaptive().strategy(service)
    }

    /// What it has done.
    pub fn stats(&self) -> AdaptiveStats {
        self.adaptive().stats()
    }

    fn adaptive(&self) -> MutexGuard<'_, Adaptive> {
        // Its tables are sound between any two of its calls.
        (self.inner.adaptive.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) {
        let Some(path) = self.inner.path.clone() else {
            return;
        };
        let state = self.adaptive().state();
        let shown = path.display().to_string();
        let saved = tokio::task::spawn_blocking(move || write(&path, &state)).await;
        let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = saved {
            tracing::warn!(file = shown, %error, "the sampling probabilities could not be kept");
        }
    }
}

/// A file is either whole or not there.
fn write(path: &Path, state: &AdaptiveState) -> io::Result<()> {
    let part = path.with_extension("part");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = std::fs::File::create(&part)?;
    serde_json::to_writer(io::BufWriter::new(&file), state)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

fn load(path: &Path) -> AdaptiveState {
    let read = || -> io::Result<AdaptiveState> {
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes > MAX_BYTES {
            return Err(io::Error::other(format!(
                "it has {bytes} bytes, {MAX_BYTES} at most"
            )));
        }
        Ok(serde_json::from_reader(io::BufReader::new(file))?)
    };
    match read() {
        Ok(state) => state,
        Err(error) if error.kind() == io::ErrorKind::NotFound => AdaptiveState::default(),
        Err(error) => {
            let file = path.display();
            tracing::warn!(%file, %error, "the sampling probabilities cannot be read; beginning anew");
            AdaptiveState::default()
        }
    }
}

struct Counting {
    adaptive: AdaptiveSampling,
    next: Arc<dyn SpanSink>,
}

impl SpanSink for Counting {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let roots = roots(&batch);
        Box::pin(async move {
            self.next.append(batch).await?;
            // Not before: what was refused comes again.
            let mut adaptive = self.adaptive.adaptive();
            for (service, operation, sampler) in &roots {
                adaptive.record(service, operation, *sampler);
            }
            Ok(())
        })
    }
}

fn roots(batch: &Batch) -> Vec<(String, String, Sampler)> {
    let mut roots = Vec::new();
    for group in &batch.groups {
        for span in group
            .spans
            .iter()
            .filter(|span| span.parent_span_id.is_none())
        {
            let service = group.resource.service_name().to_owned();
            roots.push((service, span.name.clone(), sampler(span)));
        }
    }
    roots
}

/// What a root says of how it was sampled, as Jaeger's clients do.
fn sampler(span: &Span) -> Sampler {
    let Some(kind) = span.attribute("sampler.type") else {
        return Sampler::Untold;
    };
    let param = match span.attribute("sampler.param") {
        Some(Value::Double(param)) => Some(*param),
        Some(Value::Int(param)) => Some(*param as f64),
        Some(Value::String(param)) => param.parse().ok(),
        _ => None,
    };
    match (kind.as_str(), param) {
        (Some("probabilistic"), Some(param)) => Sampler::Probabilistic(param),
        (Some("lowerbound"), Some(param)) => Sampler::LowerBound(param),
        _ => Sampler::Other,
    }
}
