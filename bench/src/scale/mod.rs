//! The control plane with many services and many proxies: how soon a change is everywhere, what it costs.

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::ensure;
use envoy_types::pb::google::protobuf::Any;
use memchr::memmem;
use periplus_xds::client::{Config, Form, Handler, Named, Rejection, StreamError, run as follow};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use self::world::{Edit, node, write};
use crate::cpu;
use crate::peers::{Process, free_address};

/// Flags of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The periplus binary, built with the release profile
    #[arg(long, env = "PERIPLUS_BIN", default_value = "target/release/periplus")]
    periplus: PathBuf,
    #[command(flatten)]
    size: Size,
    /// Changes of each kind
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Other sizes too, to show what grows with what
    #[arg(long)]
    growth: bool,
}

/// How large the mesh is.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Size {
    /// Services
    #[arg(long, default_value_t = 1_000)]
    services: usize,
    /// Endpoints of each
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Proxies that are connected
    #[arg(long, default_value_t = 2_000)]
    proxies: usize,
    /// Namespaces, each of which knows its own services and those of the first
    #[arg(long, default_value_t = 50)]
    namespaces: usize,
}

impl Size {
    fn per_namespace(&self) -> usize {
        self.services.div_ceil(self.namespaces)
    }
}

/// Services and proxies of `--growth`: first both, then each alone.
const GROWTH: [(usize, usize); 7] = [
    (100, 200),
    (300, 600),
    (1_000, 2_000),
    (100, 2_000),
    (3_000, 2_000),
    (1_000, 500),
    (1_000, 4_000),
];

/// What we promise of the default numbers.
const ENDPOINT_MS: f64 = 300.0;
const RULE_MS: f64 = 1_000.0;
const RESIDENT_MB: f64 = 600.0;

/// How long all proxies together have for a change.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all proxies wait for.
#[derive(Debug, Default)]
struct Watched {
    /// Bytes of the resource that the change brings.
    marker: RwLock<Vec<u8>>,
    /// When they came, at each proxy.
    seen: Mutex<Vec<Instant>>,
    /// Proxies that have routes for all that they know.
    ready: AtomicUsize,
    resources: AtomicUsize,
    lost: AtomicUsize,
    /// The control plane is about to go.
    is_over: AtomicBool,
}

impl Watched {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy that takes everything and looks for the marker only.
struct Proxy {
    watched: Arc<Watched>,
    /// What has to be asked for by name: endpoints of clusters, routes of listeners.
    wanted: BTreeMap<&'static str, Vec<String>>,
    is_ready: bool,
}

impl Handler for Proxy {
    fn apply(&mut self, _: &str, _: &str, _: Vec<Any>) -> Result<(), Vec<Rejection>> {
        Err(Vec::new())
    }

    fn apply_delta(
        &mut self,
        type_url: &str,
        _: &str,
        resources: Vec<Named>,
        removed: &[String],
    ) -> Result<(), Vec<Rejection>> {
        let of_type = match type_url {
            CLUSTER => Some(ENDPOINT),
            LISTENER => Some(ROUTE),
            _ => None,
        };
        if let Some(names) = of_type.and_then(|of| self.wanted.get_mut(of)) {
            names.retain(|name| !removed.contains(name));
            let named = |named: &Named| match type_url {
                CLUSTER => named
                    .name
                    .starts_with("outbound|")
                    .then(|| named.name.clone()),
                _ => route_of(&named.body.value),
            };
            names.extend(resources.iter().filter_map(named));
            names.sort_unstable();
            names.dedup();
        }
        self.watched
            .resources
            .fetch_add(resources.len(), Ordering::Relaxed);
        if type_url == ROUTE && !self.is_ready {
            self.is_ready = true;
            self.watched.ready.fetch_add(1, Ordering::Relaxed);
        }
        let marker = self
            .watched
            .marker
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let has_it = |named: &Named| memmem::find(&named.body.value, &marker).is_some();
        if !marker.is_empty() && resources.iter().any(has_it) {
            self.watched.seen().push(Instant::now());
        }
        Ok(())
    }

    fn wanted(&self, type_url: &str) -> Vec<String> {
        self.wanted.get(type_url).cloned().unwrap_or_default()
    }

    fn disconnected(&mut self, error: &StreamError) {
        if self.watched.is_over.load(Ordering::Relaxed) {
            return;
        }
        if self.watched.lost.load(Ordering::Relaxed) == 0 {
            eprintln!("the first stream that was lost: {error:?}");
        }
        self.watched.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The name of the routes that a listener asks for; those of intercepted ports are called as the port.
fn route_of(listener: &[u8]) -> Option<String> {
    let port = PORT.to_string();
    memmem::find(listener, port.as_bytes()).map(|_| port)
}

const PORT: u16 = 9080;

/// Prints a Markdown table; fails when a promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "| services | proxies | change | reaches | p50 ms | p99 ms | promised | CPU of the control plane, ms a change | µs a push | resident MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    if !args.growth {
        return measure(args, &args.size);
    }
    for (services, proxies) in GROWTH {
        let size = Size {
            services,
            proxies,
            ..args.size
        };
        measure(args, &size)?;
    }
    Ok(())
}

fn measure(args: &Args, size: &Size) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let directory = tempfile::tempdir()?;
    let resources = directory.path().join("mesh");
    fs::create_dir_all(&resources)?;
    for namespace in 0..size.namespaces {
        write(size, &resources, namespace, Edit::Nothing)?;
    }
    let (xds, monitoring) = (free_address()?, free_address()?);
    let command = [
        args.periplus.display().to_string(),
        "control".to_owned(),
        "--dir".to_owned(),
        resources.display().to_string(),
        "--xds-port".to_owned(),
        xds.port().to_string(),
        "--monitoring-port".to_owned(),
        monitoring.port().to_string(),
    ];
    let control = Process::start("control", "0-1", &command, directory.path())?;
    control.wait_for(xds)?;

    let watched = Arc::new(Watched::default());
    let begin = Instant::now();
    for number in 0..size.proxies {
        let mut config = Config::new(format!("http://{xds}"), node(size, number));
        config.form = Form::Delta;
        let mut proxy = Proxy {
            watched: Arc::clone(&watched),
            wanted: [(ENDPOINT, Vec::new()), (ROUTE, Vec::new())].into(),
            is_ready: false,
        };
        runtime.spawn(async move { match follow(&config, &mut proxy).await {} });
    }
    let all_ready = || watched.ready.load(Ordering::Relaxed) == size.proxies;
    wait(2 * PATIENCE, "all proxies to have their routes", all_ready)?;
    eprintln!(
        "{} proxies have {} resources after {:.1} s, for which the control plane computed {:.1} s",
        size.proxies,
        watched.resources.load(Ordering::Relaxed),
        begin.elapsed().as_secs_f64(),
        cpu::time_of(control.id())?.as_secs_f64(),
    );

    let mut missed = Vec::new();
    let one = size.proxies.div_ceil(size.namespaces);
    type Kind = (&'static str, fn(usize) -> Edit, f64);
    let kinds: [Kind; 4] = [
        ("an endpoint of a service", Edit::Endpoint, ENDPOINT_MS),
        ("a VirtualService", Edit::VirtualService, RULE_MS),
        ("a DestinationRule with TLS", Edit::DestinationRule, RULE_MS),
        ("an HTTPRoute", Edit::HttpRoute, RULE_MS),
    ];
    let reach = [
        (1, one, "one namespace knows"),
        (0, size.proxies, "all know"),
    ];
    for ((what, edit, most), (namespace, proxies, who)) in kinds
        .into_iter()
        .flat_map(|kind| reach.map(|reach| (kind, reach)))
    {
        let name = format!("{what} that {who}");
        let before = cpu::time_of(control.id())?;
        let mut times = Vec::new();
        for change in 0..args.changes {
            let edit = edit(change);
            *watched
                .marker
                .write()
                .unwrap_or_else(PoisonError::into_inner) = edit.marker();
            watched.seen().clear();
            let begin = Instant::now();
            write(size, &resources, namespace, edit)?;
            let everywhere = || watched.seen().len() >= proxies;
            wait(PATIENCE, "a change to be everywhere", everywhere)?;
            let seen = watched.seen();
            times.extend(seen.iter().map(|at| (*at - begin).as_secs_f64() * 1e3));
        }
        let used = cpu::time_of(control.id())? - before;
        let used = used.as_secs_f64() * 1e3 / args.changes as f64;
        times.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        let resident = cpu::resident_kib(control.id())? as f64 / 1024.0;
        println!(
            "| {} | {} | {name} | {proxies} | {:.0} | {:.0} | ≤ {most} | {used:.0} | {:.0} | {resident:.0} |",
            size.services,
            size.proxies,
            at(0.5),
            at(0.99),
            used * 1e3 / proxies as f64,
        );
        if at(0.99) > most {
            missed.push(format!("{name}: {:.0} ms > {most}", at(0.99)));
        }
        if resident > RESIDENT_MB {
            missed.push(format!(
                "memory after {name}: {resident:.0} MiB > {RESIDENT_MB}"
            ));
        }
    }
    watched.is_over.store(true, Ordering::Relaxed);
    let lost = watched.lost.load(Ordering::Relaxed);
    ensure!(lost == 0, "{lost} streams were lost");
    // What is promised is promised of the default numbers.
    if size.services <= 1_000 && size.proxies <= 2_000 {
        ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    }
    Ok(())
}

fn wait(patience: Duration, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !done() {
        ensure!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
