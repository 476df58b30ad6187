//! Who may do what at a workload, as the policies that select it say.

use periplus_control::Index;
use periplus_resources::{AuthorizationPolicy, MutualTls, PolicyAction};
use serde::Serialize;

use super::client::Failure;
use super::control_plane::Output;
use super::mesh::MeshFlags;
use super::output::{self, Looks, Style, Table, Tone, left, right};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The policies of a workload, in the order in which they are asked
    Check(Box<CheckArgs>),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Whether a certain request may pass is what `periplus explain` tells.")]
struct CheckArgs {
    /// A workload (NAME or NAME.NAMESPACE), or a Gateway
    #[arg(value_name = "WORKLOAD")]
    workload: String,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    mesh: MeshFlags,
}

/// A policy, and where it is written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) action: String,
    /// `NAME.NAMESPACE`
    pub(super) policy: String,
    pub(super) rules: usize,
    pub(super) is_dry_run: bool,
    pub(super) source: String,
}

/// The policies of a workload in the order in which they are asked.
pub(super) fn policies(index: &Index, proxy: &periplus_control::Proxy) -> Vec<Listed> {
    let order = |action: &PolicyAction| match action {
        PolicyAction::Custom(_) => 0,
        PolicyAction::Deny => 1,
        PolicyAction::Allow => 2,
        PolicyAction::Audit => 3,
    };
    let mut entries: Vec<_> = index.authorization_policies(proxy).collect();
    entries.sort_by_key(|entry| order(&entry.spec.action));
    let list = |entry: &&periplus_control::Entry<AuthorizationPolicy>| Listed {
        action: match &entry.spec.action {
            PolicyAction::Allow => "ALLOW".to_owned(),
            PolicyAction::Deny => "DENY".to_owned(),
            PolicyAction::Audit => "AUDIT".to_owned(),
            PolicyAction::Custom(provider) => format!("CUSTOM {provider}"),
        },
        policy: format!("{}.{}", entry.meta.name, entry.meta.namespace),
        rules: entry.spec.rules.len(),
        is_dry_run: entry.spec.is_dry_run,
        source: entry.meta.source.to_string(),
    };
    entries.iter().map(list).collect()
}

/// The table of policies.
pub(super) fn table(policies: &[Listed], style: Style) -> String {
    let mut table = Table::new(&[
        left("ACTION"),
        left("AUTHORIZATIONPOLICY"),
        right("RULES"),
        left("SOURCE"),
    ]);
    for one in policies {
        let action = match one.is_dry_run {
            true => format!("{} (dry run)", one.action),
            false => one.action.clone(),
        };
        table.row(vec![
            (Tone::Plain, action),
            (Tone::Plain, one.policy.clone()),
            (Tone::Plain, one.rules.to_string()),
            (Tone::Plain, one.source.clone()),
        ]);
    }
    table.render(style)
}

/// `DISABLE`, `PERMISSIVE` or `STRICT`.
pub(super) fn mode(mode: MutualTls) -> &'static str {
    match mode {
        MutualTls::Disable => "DISABLE",
        MutualTls::Permissive => "PERMISSIVE",
        MutualTls::Strict => "STRICT",
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Check(args) = &args.command;
    let (index, _) = args.mesh.read_telling()?.analyse();
    let workload = index
        .find_workload(&args.workload)
        .map_err(Failure::Nothing)?;
    let policies = policies(&index, &workload.proxy);
    if args.output == Output::Json {
        return output::print(&output::json(&policies)?);
    }
    output::print(&table(&policies, args.looks.style()))?;
    let enforced = || policies.iter().filter(|one| !one.is_dry_run);
    let note = match (
        enforced().next(),
        enforced().any(|one| one.action == "ALLOW"),
    ) {
        (None, _) => "no policy selects it: whoever gets there may do everything",
        (_, true) => "what no ALLOW policy matches is denied",
        (_, false) => "what no policy denies is allowed",
    };
    eprintln!("note: {note}");
    Ok(())
}
