//! What a file of tail sampling policies would do.

use std::path::PathBuf;

use periplus_collect::sampling::dry_run;
use periplus_sampling::tail::{DryRunReport, Example, Sum};
use periplus_store::{TimeRange, TraceQuery};

use super::client::{Failure, ServerFlags, query};
use super::output::{self, Looks, Style, Table, Tone, clean, left, right};
use super::serve::read_tail_sampling;
use super::store::open_quietly;
use super::trace::SearchFlags;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what a file of policies would keep and drop of the traces that are stored
    DryRun(DryRun),
}

#[derive(Debug, clap::Args)]
struct DryRun {
    /// The file, as `periplus serve --tail-sampling` takes it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Directory of a store that no server has open; without it a server is asked
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,

    #[command(flatten)]
    search: SearchFlags,

    /// Traces at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    limit: usize,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Command::DryRun(args) = args.command;
    let (_, policies) = read_tail_sampling(&args.config)?;
    let report = match &args.data {
        Some(dir) => {
            let store = open_quietly(dir)?;
            let line = args.search.line();
            let filter = periplus_store::parse(&line).map_err(|e| Failure::Usage(e.to_string()))?;
            let range = TimeRange {
                start_unix_nano: args.search.start_us().saturating_mul(1_000),
                end_unix_nano: u64::MAX,
            };
            let query = TraceQuery::new(range, filter, args.limit);
            super::block_on(async { Ok(dry_run(&store, policies, query).await?) })?
        }
        None => super::block_on(async { Ok(ask(&args).await?) })?,
    };
    let text = match args.output {
        Output::Json => output::json(&report)?,
        Output::Table => render(&report, args.looks.style()),
    };
    output::print(&text)?;
    if let Some(reason) = &report.partial {
        eprintln!("note: not all traces were looked at: {reason}");
    }
    Ok(())
}

async fn ask(args: &DryRun) -> Result<DryRunReport, Failure> {
    let client = args.server.client(None)?;
    let text = std::fs::read_to_string(&args.config)
        .map_err(|error| Failure::Usage(format!("{}: {error}", args.config.display())))?;
    let query = query(&[
        ("q", &args.search.line()),
        ("start", &args.search.start_us().to_string()),
        ("limit", &args.limit.to_string()),
    ]);
    client
        .post(&format!("/api/periplus/v1/sampling/dry-run{query}"), text)
        .await
}

fn render(report: &DryRunReport, style: Style) -> String {
    let mut table = Table::new(&[
        left("POLICY"),
        left("TYPE"),
        right("SAMPLES"),
        right("DROPS"),
        right("DECIDES"),
        right("SPANS"),
        right("MEMORY"),
        right("SHARE"),
    ]);
    let plain = |text: String| (Tone::Plain, text);
    let row = |name: &str, kind: &str, counts: [String; 3], sum: &Sum| {
        vec![
            plain(clean(name)),
            plain(kind.to_owned()),
            plain(counts[0].clone()),
            plain(counts[1].clone()),
            plain(counts[2].clone()),
            plain(sum.spans.to_string()),
            plain(bytes(sum.bytes)),
            plain(share(sum.traces, report.all.traces)),
        ]
    };
    for policy in &report.policies {
        let counts =
            [policy.sampled, policy.dropped, policy.decides].map(|sum| sum.traces.to_string());
        table.row(row(&policy.name, &policy.kind, counts, &policy.decides));
    }
    for (name, sum) in [
        ("kept", &report.kept),
        ("dropped", &report.dropped),
        ("all", &report.all),
    ] {
        let counts = [String::new(), String::new(), sum.traces.to_string()];
        table.row(row(name, "", counts, sum));
    }
    let mut out = table.render(style);
    for policy in report
        .policies
        .iter()
        .filter(|policy| !policy.examples.is_empty())
    {
        out += &format!("\ndecided by '{}', such as\n", clean(&policy.name));
        policy
            .examples
            .iter()
            .for_each(|example| out += &line(example, style));
    }
    if !report.unwanted.is_empty() {
        out += "\nwanted by no policy, such as\n";
        report
            .unwanted
            .iter()
            .for_each(|example| out += &line(example, style));
    }
    out
}

fn line(example: &Example, style: Style) -> String {
    format!(
        "  {} {:>8} {:>5} spans  {} {}\n",
        example.trace_id,
        output::duration(example.duration_ms * 1_000, style),
        example.spans,
        clean(&example.service),
        clean(&example.operation)
    )
}

fn share(part: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        all => format!("{:.1}%", part as f64 * 100.0 / all as f64),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use periplus_sampling::tail::PolicyReport;

    use super::*;

    #[test]
    fn a_report_says_who_decides_what() {
        let sum = |traces| Sum {
            traces,
            spans: traces * 3,
            bytes: traces * 3_000,
        };
        let example = |trace_id: &str| Example {
            trace_id: trace_id.to_owned(),
            service: "shop".to_owned(),
            operation: "GET /buy".to_owned(),
            duration_ms: 1_240,
            spans: 3,
        };
        let policy = |name: &str, kind: &str, counts: [u64; 3]| PolicyReport {
            name: name.to_owned(),
            kind: kind.to_owned(),
            sampled: sum(counts[0]),
            dropped: sum(counts[1]),
            decides: sum(counts[2]),
            examples: vec![example("463ac35c9f6413ad48485a3953bb6124")],
        };
        let report = DryRunReport {
            all: sum(1_000),
            kept: sum(120),
            dropped: sum(880),
            policies: vec![
                policy("errors", "status_code", [100, 0, 100]),
                policy("health", "drop", [0, 30, 30]),
            ],
            unwanted: vec![example("00000000000000000000000000000abc")],
            partial: None,
        };
        let style = Style {
            color: false,
            ascii: false,
            width: None,
        };
        insta::assert_snapshot!(render(&report, style));
    }
}
