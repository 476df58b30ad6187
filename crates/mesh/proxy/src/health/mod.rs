//! Finds out which endpoints are healthy: by asking them (active health checks), and by how they do
//! (outlier detection).
//!
//! One thread does that for all workers. What it finds out are flags of endpoints; whenever one changes it
//! works out anew what there is to choose from, which the workers take at their next pick.

mod check;
mod detect;
mod grpc;
mod http;
mod http2;
mod probe;
mod tcp;
mod watched;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;

use self::watched::Watched;
use crate::Published;
use crate::snapshot::Cluster;

/// Starts the thread; it ends when `stop` is dropped.
pub(crate) fn start(
    published: Arc<Published>,
    stop: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("health".to_owned());
    let (started, start) = std::sync::mpsc::sync_channel(1);
    let thread = builder.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                // Whoever started this thread waits for the answer.
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        runtime.block_on(async {
            tokio::select! {
                () = follow(published) => {}
                _ = stop => {}
            }
        });
    })?;
    start
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
    Ok(thread)
}

/// Keeps watching the clusters of the newest configuration.
async fn follow(published: Arc<Published>) {
    let mut generation = published.subscribe();
    let mut warming = published.warming();
    let mut all: HashMap<String, Rc<Watched>> = HashMap::new();
    loop {
        generation.borrow_and_update();
        let to_warm = warming.borrow_and_update().clone();
        watch(&published, &to_warm, &mut all);
        tokio::select! {
            changed = generation.changed() => if changed.is_err() {
                return;
            },
            changed = warming.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Begins to watch what is new, and lets go what has gone.
fn watch(
    published: &Arc<Published>,
    warming: &[Arc<Cluster>],
    all: &mut HashMap<String, Rc<Watched>>,
) {
    let snapshot = published.load();
    let mut versions: HashMap<&str, Vec<Arc<Cluster>>> = HashMap::new();
    for cluster in snapshot.clusters.values().chain(warming) {
        if cluster.health_check.is_some() || cluster.outlier_detection.is_some() {
            let of_name = versions.entry(&cluster.name).or_default();
            of_name.push(cluster.clone());
        }
    }
    all.retain(|name, watched| {
        let is_there = versions.contains_key(name.as_str());
        if !is_there {
            watched.stop();
        }
        is_there
    });
    for (name, versions) in versions {
        match all.get(name) {
            Some(watched) => watched.change(versions),
            None => {
                let watched = Watched::new(versions, published);
                all.insert(name.to_owned(), watched);
            }
        }
    }
}
