//! What is wrong with files of resources, or with those of a control plane that runs: `analyze` and `validate`.

use std::path::PathBuf;

use periplus_control::{CODES, Described};
use serde::{Deserialize, Serialize};

use super::client::Failure;
use super::control_plane::{ControlFlags, Output};
use super::finding::{Finding, Level, Suppression};
use super::outcome::Exit;
use super::output::{self, Looks, Table, Tone, left};

/// The code that `istioctl analyze` ends with if it has found something.
const FOUND: u8 = 79;

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct FileFlags {
    /// File with Istio's MeshConfig, as the control plane gets it
    #[arg(long, value_name = "FILE")]
    pub(super) mesh_config: Option<PathBuf>,

    /// Look into directories in directories too
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
}

impl FileFlags {
    pub(super) fn read(&self, paths: &[PathBuf]) -> anyhow::Result<Described> {
        Ok(Described::read(
            paths,
            self.mesh_config.as_deref(),
            self.recursive,
        )?)
    }
}

/// Flags of `analyze`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing found, 79 something at or above --failure-threshold, 1 files cannot be \
                        read, 2 usage, 3 no control plane, 4 no answer in time.\n\n\
                        The annotation `galley.istio.io/analyze-suppress: CODE,CODE` (or `*`) of a resource does \
                        what --suppress does."
)]
pub(crate) struct AnalyzeArgs {
    /// Files, and directories of *.yaml, *.yml and *.json; without any, what the control plane that runs has loaded
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    files: FileFlags,

    /// How bad a finding must be for the exit code 79
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true, default_value_t = Level::Error)]
    failure_threshold: Level,

    /// How bad a finding must be to be told
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true, default_value_t = Level::Info)]
    output_threshold: Level,

    /// Findings that are not told: CODE=KIND NAME.NAMESPACE, with * for anything; repeatable
    #[arg(long, value_name = "CODE=RESOURCE")]
    suppress: Vec<Suppression>,

    /// List the codes
    #[arg(short = 'L', long, conflicts_with = "paths")]
    list_codes: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    control: ControlFlags,
}

/// A row of the control plane's `/debug/config_errors`.
#[derive(Deserialize)]
struct Row {
    severity: String,
    code: String,
    resource: Option<String>,
    file: String,
    line: u32,
    column: u32,
    field: String,
    message: String,
}

impl Row {
    fn finding(self) -> Finding {
        Finding {
            code: self.code,
            level: match self.severity.as_str() {
                "error" => Level::Error,
                "warning" => Level::Warning,
                _ => Level::Info,
            },
            message: self.message,
            origin: self.resource.unwrap_or_default(),
            reference: format!("{}:{}", self.file, self.line),
            column: self.column,
            field: self.field,
        }
    }
}

/// Runs `analyze`.
pub(crate) fn analyze(args: &AnalyzeArgs) -> anyhow::Result<()> {
    if args.list_codes {
        return list_codes(args);
    }
    let (mut findings, of) = match args.paths.is_empty() {
        true => super::block_on(running(args))?,
        false => {
            let (_, problems) = args.files.read(&args.paths)?.analyse();
            (
                problems.iter().map(Finding::of).collect(),
                names(&args.paths),
            )
        }
    };
    findings.retain(|one: &Finding| !args.suppress.iter().any(|it| it.covers(one)));
    let is_bad = (findings.iter()).any(|one| one.level >= args.failure_threshold);
    let found = findings.len();
    findings.retain(|one| one.level >= args.output_threshold);
    if findings.is_empty() && found > 0 {
        let found = counted(found, "finding");
        eprintln!("note: {found} in {of}, not told because of --output-threshold");
    }
    let style = args.looks.style();
    output::print(&match args.output {
        Output::Json => output::json(&findings)?,
        Output::Table if found == 0 => {
            let tick = style.pick("✔", "ok:");
            format!("{tick} No validation issues found when analyzing {of}.\n")
        }
        Output::Table => findings.iter().map(|one| one.line(style)).collect(),
    })?;
    match is_bad {
        true => Err(Exit(FOUND).into()),
        false => Ok(()),
    }
}

async fn running(args: &AnalyzeArgs) -> anyhow::Result<(Vec<Finding>, String)> {
    let client = args.control.client()?;
    let rows: Vec<Row> = client.get("/debug/config_errors").await?;
    let findings = rows.into_iter().map(Row::finding).collect();
    Ok((
        findings,
        format!("the control plane at {}", client.server()),
    ))
}

fn list_codes(args: &AnalyzeArgs) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Listed {
        code: &'static str,
        name: &'static str,
        about: &'static str,
    }
    let listed: Vec<Listed> = (CODES.iter())
        .map(|code| Listed {
            code: code.id,
            name: code.name,
            about: code.about,
        })
        .collect();
    output::print(&match args.output {
        Output::Json => output::json(&listed)?,
        Output::Table => {
            let mut table = Table::new(&[left("CODE"), left("NAME"), left("RAISED WHEN")]);
            for one in listed {
                let cells = [one.code, one.name, one.about];
                table.row(cells.map(|cell| (Tone::Plain, cell.to_owned())).into());
            }
            table.render(args.looks.style())
        }
    })
}

/// Flags of `validate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each document is looked at for itself; `periplus analyze` finds what is wrong between them.\n\n\
                        Exit codes: 0 all are valid, 1 some are not, or cannot be read, 2 usage."
)]
pub(crate) struct ValidateArgs {
    /// Files, and directories of *.yaml, *.yml and *.json
    #[arg(value_name = "FILE|DIR", required_unless_present = "mesh_config")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    files: FileFlags,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,
}

/// Runs `validate`.
pub(crate) fn validate(args: &ValidateArgs) -> anyhow::Result<()> {
    let described = args.files.read(&args.paths)?;
    let errors = described.errors.iter().cloned();
    let errors: Vec<Finding> = errors.map(|error| Finding::of(&error.into())).collect();
    if described.files == 0 && errors.is_empty() && !args.paths.is_empty() {
        let deeper = match args.files.recursive {
            true => "",
            false => "; -R looks into directories in it too",
        };
        return Err(Failure::Nothing(format!(
            "{}: no file *.yaml, *.yml or *.json is there, so nothing is validated{deeper}",
            names(&args.paths)
        ))
        .into());
    }
    let style = args.looks.style();
    output::print(&match args.output {
        Output::Json => output::json(&errors)?,
        Output::Table if errors.is_empty() => format!(
            "{} valid: {} in {}\n",
            style.pick("✔", "ok:"),
            counted(described.resources.len(), "resource"),
            counted(described.files, "file")
        ),
        Output::Table => errors.iter().map(|one| one.line(style)).collect(),
    })?;
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Exit(1).into()),
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The paths, as they were given.
fn names(paths: &[PathBuf]) -> String {
    let names = paths.iter().map(|path| path.display().to_string());
    names.collect::<Vec<_>>().join(", ")
}
