//! A mesh of the user's own processes on this machine, from one file.

mod door;
mod file;
mod table;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use periplus_local::{Mesh, Part, Probe, Supervisor, check_free};

use super::local::parts::{Maker, claims};
use super::local::progress::Screen;
use super::local::state::{State, local as on_this_machine};
use super::local::{self, Interruptions, ProxyChoice};
use super::output::{self, Looks, Table, Tone, left, right};
use door::Question;
use file::File;
use table::{Parts, Status};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File of the mesh: its services, how they are started, and where its Istio resources are
    file: PathBuf,

    /// Keep configuration, traces and logs in this directory [default: .periplus beside the file]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// Take all ports from N upwards; without it the UI is on 16686
    #[arg(long, value_name = "N")]
    port_base: Option<u16>,

    /// Which proxy to run as sidecars and gateway: periplus, or envoy=PATH
    #[arg(long, value_name = "PROXY", default_value = "periplus")]
    proxy: ProxyChoice,

    /// How long certificates of workloads hold; they are renewed at half of it
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::duration::parse)]
    certificate_lifetime: Duration,

    /// Without one, the mesh is started
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do with a mesh that runs.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// How each of its processes is
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,

        #[command(flatten)]
        looks: Looks,
    },
    /// Stop one of its processes and start it again
    Restart {
        /// Its name, as `status` has it
        part: String,
    },
    /// What one of its processes has said
    Logs {
        /// Its name, as `status` has it
        part: String,

        /// Go on with what it says next
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Runs the mesh until it is told to stop, or does something with one that runs.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shown = args.file.display();
    let path = (args.file.canonicalize()).with_context(|| format!("cannot read {shown}"))?;
    let beside = path.parent().context("the file is in no directory")?;
    let directory = match &args.dir {
        Some(directory) => directory.clone(),
        None => beside.join(".periplus"),
    };
    match &args.action {
        None => super::block_on(up(args, &path, directory)),
        Some(Action::Status { output, looks }) => {
            let parts = door::ask(&directory, &Question::Status)?;
            output::print(&match output {
                Output::Json => output::json(&parts)?,
                Output::Table => table_of(&parts).render(looks.style()),
            })
        }
        Some(Action::Restart { part }) => {
            door::ask(&directory, &Question::Restart(part.clone()))?;
            output::print(&format!("{part} is started again\n"))
        }
        Some(Action::Logs { part, follow }) => logs(&directory, part, *follow),
    }
}

fn table_of(parts: &[Status]) -> Table {
    let mut table = Table::new(&[
        left("NAME"),
        left("STATE"),
        right("PID"),
        right("RESTARTS"),
        right("FOR"),
    ]);
    for part in parts {
        let tone = match part.state {
            table::State::Crashed | table::State::Down => Tone::Bad,
            table::State::Waiting | table::State::Starting => Tone::Faint,
            table::State::Ready => Tone::Plain,
        };
        table.row(vec![
            (Tone::Plain, part.name.clone()),
            (tone, part.state.name().to_owned()),
            (
                Tone::Plain,
                part.pid
                    .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            ),
            (Tone::Plain, part.restarts.to_string()),
            (Tone::Plain, age(part.time())),
        ]);
    }
    table
}

/// As kubectl writes it.
fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

async fn up(args: &Args, path: &Path, directory: PathBuf) -> anyhow::Result<()> {
    let mut interruptions = Interruptions::listen()?;

    let file = File::read(path)?;
    let beside = path.parent().context("the file is in no directory")?;
    let rules: Vec<PathBuf> = file.rules.iter().map(|rules| beside.join(rules)).collect();
    for rules in &rules {
        ensure!(
            rules.is_dir(),
            "rules: there is no directory {}",
            rules.display()
        );
    }
    let mesh = file.mesh(args.port_base)?;
    check_free(&claims(&mesh))?;
    let state = State::create(Some(directory), &mesh, &args.proxy, &[])?;
    let door = door::listen(state.directory())?;
    let maker = Maker::new(
        &mesh,
        &state,
        &args.proxy,
        args.certificate_lifetime,
        &rules,
    )?;
    let parts = maker.with(applications(&maker, &mesh, &file, beside)?);
    let table = Parts::new(&parts);
    let screen = Screen::new(parts.len());
    screen.line(&format!(
        "starting {} processes; configuration, traces and logs: {}",
        parts.len(),
        state.directory().display(),
    ));

    let live = async |supervisor: &Supervisor| {
        let start = async {
            local::start(supervisor, &state).await?;
            welcome(args, &mesh, &state, &rules, &screen);
            match local::keep_tokens(&state, &mesh, &screen).await {}
        };
        tokio::select! {
            outcome = start => outcome,
            never = door::serve(&door, supervisor, &table) => match never {},
        }
    };
    let see = |event: &periplus_local::Event| table.see(event);
    let outcome = local::run(parts, (&state, &screen), &mut interruptions, see, live).await;
    fs::remove_file(door::path(state.directory())).ok();
    outcome.map(drop)
}

/// The user's own processes, each behind a guard: they know nothing of a supervisor.
fn applications(
    maker: &Maker<'_>,
    mesh: &Mesh,
    file: &File,
    beside: &Path,
) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for workload in &mesh.workloads {
        let ports = mesh.ports.workloads[&workload.name];
        let Some(process) = file.process(workload, ports.app, beside) else {
            continue;
        };
        let directory = process.directory;
        let name = &workload.name;
        ensure!(
            directory.is_dir(),
            "{name}: there is no directory {}",
            directory.display()
        );
        let address = on_this_machine(ports.app);
        let ready = match process.ready {
            Some(path) => Probe::Http { address, path },
            None => Probe::Tcp(address),
        };
        let mut arguments = vec!["guard".to_owned()];
        let mut command = process.command.into_iter();
        arguments.extend(command.next());
        arguments.push("--".to_owned());
        arguments.extend(command);
        let mut part = maker.part(name, arguments, ready, &[]);
        part.directory = Some(directory);
        part.environment = surroundings(mesh, ports.outbound);
        // What the user has said goes first.
        part.environment.extend(process.environment);
        parts.push(part);
    }
    Ok(parts)
}

/// What a process of the mesh finds in its environment.
fn surroundings(mesh: &Mesh, outbound: u16) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{outbound}");
    let otlp = format!("http://127.0.0.1:{}", mesh.ports.backend.otlp_http);
    [
        ("http_proxy", proxy.as_str()),
        ("HTTP_PROXY", &proxy),
        // Not what is asked for by address: databases and the like.
        ("no_proxy", "localhost,127.0.0.1"),
        ("NO_PROXY", "localhost,127.0.0.1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &otlp),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn welcome(args: &Args, mesh: &Mesh, state: &State, rules: &[PathBuf], screen: &Screen) {
    screen.clear();
    screen.line("");
    screen.line(&format!(
        "  traces    http://127.0.0.1:{}/",
        mesh.ports.backend.ui
    ));
    for workload in &mesh.workloads {
        let ports = mesh.ports.workloads[&workload.name];
        screen.line(&format!(
            "  {:<24} http://127.0.0.1:{} (its sidecar: {})",
            workload.name, ports.app, ports.inbound
        ));
    }
    for rules in rules {
        screen.line(&format!("  rules     {}", rules.display()));
    }
    screen.line(&format!("  logs      {}", state.logs().display()));
    let file = args.file.display();
    screen.line(&format!(
        "\n`periplus up {file} status`, `… restart NAME` and `… logs NAME` look after it. Ctrl-C stops everything."
    ));
}

/// How much of a log is shown.
const LAST_BYTES: u64 = 64 << 10;
/// How often is looked whether there is more.
const PAUSE: Duration = Duration::from_millis(200);

fn logs(directory: &Path, part: &str, follow: bool) -> anyhow::Result<()> {
    // A name is no path to somewhere else.
    ensure!(!part.contains('/'), "'{part}' is the name of no process");
    let path = directory.join("logs").join(format!("{part}.log"));
    let open = || fs::File::open(&path);
    let mut file = open()
        .with_context(|| format!("there is no log of '{part}' in {}", directory.display()))?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LAST_BYTES)))?;
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = file.read_to_end(&mut text)?;
        let mut out = std::io::stdout().lock();
        // A closed pipe (`… | head`) is the end.
        if out.write_all(&text).and_then(|()| out.flush()).is_err() || !follow {
            return Ok(());
        }
        // When it has become too large, another is begun.
        if read == 0
            && let Ok(newest) = open()
            && newest.metadata()?.len() < file.stream_position()?
        {
            file = newest;
            continue;
        }
        std::thread::park_timeout(PAUSE);
    }
}
