//! What is amiss with a mesh that runs.

mod authority;
mod proxies;
mod step;
mod tracing;

use serde_json::Value;

use self::step::{State, Step, render};
use super::client::{AccessFlags, Client};
use super::control_plane::Output;
use super::mesh::MeshFlags;
use super::outcome::Exit;
use super::output::{self, Looks};
use super::proxy_status::text;

/// Flags.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all is well, or only warned of; 1 something is not; 2 usage."
)]
pub(crate) struct Args {
    /// What to look at
    #[arg(value_enum, default_value_t = What::Mesh)]
    what: What,

    #[command(flatten)]
    backend: AccessFlags,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    mesh: MeshFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Control plane, resources, certificates, proxies
    Mesh,
    /// The way of a span, from the provider to the trace that it belongs to: the first step that fails
    Tracing,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let steps = match args.what {
        What::Mesh => super::block_on(mesh(args))?,
        What::Tracing => tracing::steps(args)?,
    };
    output::print(&match args.output {
        Output::Json => output::json(&steps)?,
        Output::Table => render(&steps, args.looks.style()),
    })?;
    match steps.iter().any(|step| step.state == State::Failed) {
        true => Err(Exit(1).into()),
        false => Ok(()),
    }
}

impl Args {
    /// The trace backend.
    fn backend(&self) -> anyhow::Result<Client> {
        Ok(self.backend.client(None, self.mesh.control.timeout)?)
    }
}

async fn mesh(args: &Args) -> anyhow::Result<Vec<Step>> {
    let client = args.mesh.control.client()?;
    let version: Value = match client.get("/version").await {
        Ok(version) => version,
        Err(failure) => return Ok(vec![Step::failed("control plane", failure.to_string())]),
    };
    let said = format!(
        "{} {} at {}",
        text(&version, "name"),
        text(&version, "version"),
        client.server()
    );
    let mut steps = vec![Step::passed("control plane", said)];
    steps.push(resources(&client).await?);
    let certificates: Value = client.get("/debug/certificates").await?;
    steps.push(authority::holds(&certificates));
    if !certificates.is_null() {
        steps.extend(authority::issuers(&certificates));
        steps.push(refusals(&certificates));
    }
    let rows: Vec<Value> = client.get("/debug/syncz").await?;
    steps.push(proxies::in_sync(&rows));
    steps.push(proxies::running(&rows, args.mesh.control.timeout).await);
    Ok(steps)
}

async fn resources(client: &Client) -> anyhow::Result<Step> {
    let rows: Vec<Value> = client.get("/debug/config_errors").await?;
    let count = |severity: &str| {
        rows.iter()
            .filter(|row| text(row, "severity") == severity)
            .count()
    };
    let (errors, warnings) = (count("error"), count("warning"));
    let said = format!("{errors} errors, {warnings} warnings");
    let step = match (errors, warnings) {
        (0, 0) => Step::passed("resources", "nothing is wrong with them".to_owned()),
        (0, _) => Step::warned("resources", said),
        _ => Step::failed("resources", said),
    };
    Ok(match step.state {
        State::Passed => step,
        _ => step.advice("see `periplus analyze`"),
    })
}

/// Who was refused a certificate, or the configuration of a proxy, since the control plane has started.
fn refusals(page: &Value) -> Step {
    const NAME: &str = "refusals";
    let of = |key: &str, what: &str| {
        let reasons = page[key].as_object().into_iter().flatten();
        let counts = reasons.map(|(reason, count)| (reason, count.as_u64().unwrap_or_default()));
        let counts = counts.filter(|(_, count)| *count > 0);
        let told: Vec<String> = counts
            .map(|(reason, count)| format!("{count} {what} ({reason})"))
            .collect();
        told
    };
    let all = [
        of("refused", "requests for certificates"),
        of("streamsRefused", "streams of proxies"),
    ]
    .concat();
    match all.is_empty() {
        true => Step::passed(NAME, "nobody was refused".to_owned()),
        false => Step::warned(NAME, all.join(", "))
            .advice("the control plane's log says who, and why: docs/identity.md has the reasons"),
    }
}
