//! What files would change, and at which proxies, before they are applied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use periplus_control::{Described, Generated, Index, Problem, Workload, generate};
use periplus_resources::Resource;
use serde::Serialize;

use super::control_plane::Output;
use super::finding::{Finding, Level};
use super::mesh::MeshFlags;
use super::outcome::Exit;
use super::output::{self, Looks, Style, Tone};

/// The code for changes that bring new errors: that of `periplus analyze`.
const ERRORS: u8 = 79;

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Compared is what the control plane would make of the resources now and then, for every workload \
                        and Gateway that they describe.\n\n\
                        Exit codes: 0 nothing changes at any proxy, 1 something does, 79 and there are new errors, 2 \
                        usage, 3 no control plane, 4 no answer in time. Files that are not valid: 1."
)]
pub(crate) struct Args {
    /// Files, and directories of *.yaml, *.yml and *.json: their resources take the place of those of the same kind,
    /// namespace and name, and come beside the others
    #[arg(value_name = "FILE|DIR", required_unless_present = "new_mesh_config")]
    paths: Vec<PathBuf>,

    /// The files are all that there is then: what is not in them is gone
    #[arg(long, requires = "paths")]
    replace: bool,

    /// File with the MeshConfig that there is then [default: the one that there is now]
    #[arg(long, value_name = "FILE")]
    new_mesh_config: Option<PathBuf>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    mesh: MeshFlags,
}

#[derive(Default, Serialize)]
struct Report {
    /// What keeps the files from being read; of such files nothing else is told.
    errors: Vec<Finding>,
    proxies: Vec<ProxyChanges>,
    introduced: Vec<Finding>,
    mended: Vec<Finding>,
}

#[derive(Serialize)]
struct ProxyChanges {
    proxy: String,
    changes: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    /// `listener`, `route`, `cluster` or `endpoints`.
    kind: &'static str,
    name: String,
    change: What,
    /// Of routes, the virtual hosts that change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Added,
    Removed,
    Changed,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let now = args.mesh.read_telling()?;
    let edit = Described::read(&args.paths, args.new_mesh_config.as_deref(), false)?;
    let report = match edit.errors.is_empty() {
        true => compare(&now, &args.then(&now, edit)),
        false => {
            let errors = edit.errors.into_iter();
            Report {
                errors: errors.map(|error| Finding::of(&error.into())).collect(),
                ..Report::default()
            }
        }
    };
    output::print(&match args.output {
        Output::Json => output::json(&report)?,
        Output::Table => report.render(args.looks.style()),
    })?;
    let mut introduced = report.introduced.iter();
    let is_worse = introduced.any(|one| one.level == Level::Error);
    match (
        is_worse,
        report.errors.is_empty() && report.proxies.is_empty(),
    ) {
        (true, _) => Err(Exit(ERRORS).into()),
        (false, false) => Err(Exit(1).into()),
        (false, true) => Ok(()),
    }
}

impl Args {
    /// All that there is once the files are applied.
    fn then(&self, now: &Described, edit: Described) -> Described {
        Described {
            resources: match self.replace {
                true => edit.resources,
                false => overlay(&now.resources, edit.resources),
            },
            mesh: match self.new_mesh_config {
                Some(_) => edit.mesh,
                None => now.mesh.clone(),
            },
            errors: match self.replace {
                true => Vec::new(),
                false => now.errors.clone(),
            },
            lacks_authority: now.lacks_authority,
            ..Described::default()
        }
    }
}

/// The resources with others in place of those of the same name.
fn overlay(now: &[Resource], edit: Vec<Resource>) -> Vec<Resource> {
    let is_same = |a: &Resource, b: &Resource| {
        let key = |it: &Resource| {
            (
                it.meta.kind,
                it.meta.namespace.clone(),
                it.meta.name.clone(),
            )
        };
        key(a) == key(b)
    };
    let kept = now
        .iter()
        .filter(|one| !edit.iter().any(|other| is_same(one, other)));
    let kept: Vec<_> = kept.cloned().collect();
    kept.into_iter().chain(edit).collect()
}

fn compare(now: &Described, then: &Described) -> Report {
    let (before, problems_before) = now.analyse();
    let (after, problems_after) = then.analyse();
    let by_name = |index: &Index| -> BTreeMap<String, Workload> {
        let all = index.proxies().into_iter();
        all.map(|one| (one.name(), one)).collect()
    };
    let (old, new) = (by_name(&before), by_name(&after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let made = |index: &Index, workload: Option<&Workload>| {
        workload.map_or_else(Generated::default, |one| generate(index, &one.proxy))
    };
    let changes_of = |name: &String| ProxyChanges {
        proxy: name.clone(),
        changes: changes(&made(&before, old.get(name)), &made(&after, new.get(name))),
    };
    let proxies = names.into_iter().map(changes_of);
    Report {
        errors: Vec::new(),
        proxies: proxies.filter(|one| !one.changes.is_empty()).collect(),
        introduced: only_in(&problems_after, &problems_before),
        mended: only_in(&problems_before, &problems_after),
    }
}

/// What is said of the first and not of the second, wherever in files it stands.
fn only_in(these: &[Problem], those: &[Problem]) -> Vec<Finding> {
    let key = |problem: &Problem| {
        (
            problem.code.id,
            problem.about.clone(),
            problem.diagnostic.message.clone(),
        )
    };
    let known: Vec<_> = those.iter().map(key).collect();
    let new = these.iter().filter(|one| !known.contains(&key(one)));
    new.map(Finding::of).collect()
}

fn changes(before: &Generated, after: &Generated) -> Vec<Change> {
    let mut all = differing("listener", &before.listeners, &after.listeners, |it| {
        &it.name
    });
    let mut routes = differing("route", &before.routes, &after.routes, |it| &it.name);
    for route in &mut routes {
        let old = before.routes.iter().find(|one| one.name == route.name);
        let new = after.routes.iter().find(|one| one.name == route.name);
        if let (Some(old), Some(new)) = (old, new) {
            let (old, new) = (&old.virtual_hosts, &new.virtual_hosts);
            let hosts = differing("host", old, new, |host| &host.name);
            route.parts = hosts.into_iter().map(|host| host.name).collect();
        }
    }
    all.append(&mut routes);
    all.extend(differing(
        "cluster",
        &before.clusters,
        &after.clusters,
        |it| &it.name,
    ));
    let (old, new) = (&before.endpoints, &after.endpoints);
    all.extend(differing("endpoints", old, new, |it| &it.cluster_name));
    all
}

fn differing<T: PartialEq>(
    kind: &'static str,
    before: &[T],
    after: &[T],
    name: impl Fn(&T) -> &String,
) -> Vec<Change> {
    let old: BTreeMap<&String, &T> = before.iter().map(|one| (name(one), one)).collect();
    let new: BTreeMap<&String, &T> = after.iter().map(|one| (name(one), one)).collect();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).copied().collect();
    let change = |name: &String| {
        let change = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => What::Changed,
            (Some(_), None) => What::Removed,
            (None, _) => What::Added,
        };
        Some(Change {
            kind,
            name: name.clone(),
            change,
            parts: Vec::new(),
        })
    };
    names.into_iter().filter_map(change).collect()
}

impl Report {
    fn render(&self, style: Style) -> String {
        let mut text: String = self.errors.iter().map(|error| error.line(style)).collect();
        for proxy in &self.proxies {
            text += &format!("{}\n", style.paint(Tone::Strong, &proxy.proxy));
            for one in &proxy.changes {
                let sign = match one.change {
                    What::Added => "+",
                    What::Removed => "-",
                    What::Changed => "~",
                };
                let parts = match one.parts.is_empty() {
                    true => String::new(),
                    false => format!(": {}", one.parts.join(", ")),
                };
                text += &format!("  {sign} {} {}{parts}\n", one.kind, one.name);
            }
        }
        if self.proxies.is_empty() && self.errors.is_empty() {
            text += "nothing changes at any proxy\n";
        }
        for (title, findings) in [("New findings", &self.introduced), ("Gone", &self.mended)] {
            if !findings.is_empty() {
                text += &format!("{}\n", style.paint(Tone::Strong, title));
                text.extend(findings.iter().map(|finding| finding.line(style)));
            }
        }
        text
    }
}
