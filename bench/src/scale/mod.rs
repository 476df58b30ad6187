//! The control plane with many services and many proxies: how soon a change is everywhere, what it costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use memchr::memmem;
use periplus_xds::client::{Config, Form, Handler, Named, Rejection, StreamError, run as follow};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};

use crate::cpu;
use crate::peers::{Process, free_address};

/// Flags of the measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The periplus binary, built with the release profile
    #[arg(long, env = "PERIPLUS_BIN", default_value = "target/release/periplus")]
    periplus: PathBuf,
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
    /// Changes of each kind
    #[arg(long, default_value_t = 20)]
    changes: usize,
}

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let directory = tempfile::tempdir()?;
    let resources = directory.path().join("mesh");
    fs::create_dir_all(&resources)?;
    for namespace in 0..args.namespaces {
        write(args, &resources, namespace, &Edit::default())?;
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
    for number in 0..args.proxies {
        let mut config = Config::new(format!("http://{xds}"), node(args, number));
        config.form = Form::Delta;
        let mut proxy = Proxy {
            watched: Arc::clone(&watched),
            wanted: [(ENDPOINT, Vec::new()), (ROUTE, Vec::new())].into(),
            is_ready: false,
        };
        runtime.spawn(async move { match follow(&config, &mut proxy).await {} });
    }
    let all_ready = || watched.ready.load(Ordering::Relaxed) == args.proxies;
    wait(2 * PATIENCE, "all proxies to have their routes", all_ready)?;
    eprintln!(
        "{} proxies have {} resources after {:.1} s, for which the control plane computed {:.1} s",
        args.proxies,
        watched.resources.load(Ordering::Relaxed),
        begin.elapsed().as_secs_f64(),
        cpu::time_of(control.id())?.as_secs_f64(),
    );

    println!(
        "| change | proxies | p50 ms | p99 ms | promised | CPU of the control plane, ms a change | resident MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut missed = Vec::new();
    let one = args.proxies.div_ceil(args.namespaces);
    for (name, namespace, proxies, is_rule, most) in [
        (
            "an endpoint of a service that one namespace knows",
            1,
            one,
            false,
            ENDPOINT_MS,
        ),
        (
            "an endpoint of a service that all know",
            0,
            args.proxies,
            false,
            ENDPOINT_MS,
        ),
        (
            "a VirtualService that one namespace knows",
            1,
            one,
            true,
            RULE_MS,
        ),
        (
            "a VirtualService that all know",
            0,
            args.proxies,
            true,
            RULE_MS,
        ),
    ] {
        let before = cpu::time_of(control.id())?;
        let mut times = Vec::new();
        for change in 0..args.changes {
            let edit = Edit::of(change, is_rule);
            *watched
                .marker
                .write()
                .unwrap_or_else(PoisonError::into_inner) = edit.marker();
            watched.seen().clear();
            let begin = Instant::now();
            write(args, &resources, namespace, &edit)?;
            let everywhere = || watched.seen().len() >= proxies;
            wait(PATIENCE, "a change to be everywhere", everywhere)?;
            times.extend(
                watched
                    .seen()
                    .iter()
                    .map(|at| (*at - begin).as_secs_f64() * 1e3),
            );
        }
        let used = cpu::time_of(control.id())? - before;
        times.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        let resident = cpu::resident_kib(control.id())? as f64 / 1024.0;
        println!(
            "| {name} | {proxies} | {:.0} | {:.0} | ≤ {most} | {:.0} | {resident:.0} |",
            at(0.5),
            at(0.99),
            used.as_secs_f64() * 1e3 / args.changes as f64,
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
    let lost = watched.lost.load(Ordering::Relaxed);
    ensure!(lost == 0, "{lost} streams were lost");
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
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

/// What is other than at first in a namespace's first service.
#[derive(Debug, Default)]
struct Edit {
    /// The last part of the address of its first endpoint.
    endpoint: Option<u8>,
    /// Milliseconds of its route's timeout, and a header's value.
    rule: Option<usize>,
}

impl Edit {
    fn of(change: usize, is_rule: bool) -> Self {
        match is_rule {
            true => Self {
                rule: Some(change),
                ..Self::default()
            },
            false => Self {
                endpoint: Some(100 + (change % 100) as u8),
                ..Self::default()
            },
        }
    }

    /// What only the resource that it changes has.
    fn marker(&self) -> Vec<u8> {
        let text = match (self.endpoint, self.rule) {
            (Some(last), _) => format!("10.255.255.{last}"),
            (_, Some(rule)) => format!("rule-of-the-bench-{rule}."),
            _ => String::new(),
        };
        text.into_bytes()
    }
}

/// Writes a namespace's resources as editors do: beside, then in its place.
fn write(args: &Args, directory: &Path, namespace: usize, edit: &Edit) -> anyhow::Result<()> {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: ns-{namespace}}}
spec: {{egress: [{{hosts: ['./*', 'ns-0/*']}}]}}
"
    );
    let per_namespace = args.services.div_ceil(args.namespaces);
    for service in 0..per_namespace {
        let is_edited = service == 0;
        let mut addresses = String::new();
        for endpoint in 0..args.endpoints {
            let address = match edit.endpoint {
                Some(last) if is_edited && endpoint == 0 => format!("10.255.255.{last}"),
                _ => format!("10.{namespace}.{service}.{endpoint}"),
            };
            write!(
                addresses,
                "{{address: {address}, labels: {{version: v1}}}}, "
            )?;
        }
        let header = match edit.rule {
            Some(rule) if is_edited => format!("rule-of-the-bench-{rule}."),
            _ => "none".to_owned(),
        };
        write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  hosts: [s-{service}.ns-{namespace}.svc.cluster.local]
  addresses: [240.{namespace}.{service}.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {PORT}, name: http, protocol: HTTP}}]
  endpoints: [{addresses}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s-{service}, namespace: ns-{namespace}}}
spec:
  hosts: [s-{service}.ns-{namespace}.svc.cluster.local]
  http:
  - headers: {{request: {{set: {{x-bench: '{header}'}}}}}}
    route: [{{destination: {{host: s-{service}.ns-{namespace}.svc.cluster.local}}}}]
"
        )?;
    }
    let (beside, place) = (
        directory.join(format!(".ns-{namespace}.yaml.new")),
        directory.join(format!("ns-{namespace}.yaml")),
    );
    fs::write(&beside, text)?;
    fs::rename(&beside, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// A replica of a service: the last of its endpoints.
fn node(args: &Args, number: usize) -> Node {
    let per_namespace = args.services.div_ceil(args.namespaces);
    let namespace = number % args.namespaces;
    let service = number / args.namespaces % per_namespace;
    let replica = number / (args.namespaces * per_namespace);
    let address = format!(
        "10.{namespace}.{service}.{}",
        args.endpoints.saturating_sub(replica + 1)
    );
    let text = |text: String| Value {
        kind: Some(Kind::StringValue(text)),
    };
    let structure = |fields: &[(&str, Value)]| Struct {
        fields: (fields.iter())
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
    };
    let app = format!("s-{service}");
    let labels = structure(&[
        ("app", text(app.clone())),
        ("version", text("v1".to_owned())),
    ]);
    let labels = Value {
        kind: Some(Kind::StructValue(labels)),
    };
    let metadata = structure(&[
        ("NAMESPACE", text(format!("ns-{namespace}"))),
        ("INTERCEPTION_MODE", text("REDIRECT".to_owned())),
        ("WORKLOAD_NAME", text(app.clone())),
        ("LABELS", labels),
    ]);
    Node {
        id: format!(
            "sidecar~{address}~{app}-{replica}.ns-{namespace}~ns-{namespace}.svc.cluster.local"
        ),
        cluster: format!("{app}.ns-{namespace}"),
        metadata: Some(metadata),
        ..Node::default()
    }
}
