use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::id::{self, Reference};
use super::skeleton::{Skeleton, SpanOut, TraceOut};
use super::waterfall::{self, View};
use crate::commands::client::{Client, Failure, ServerFlags};
use crate::commands::output::{self, Looks};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids of traces (hex, or a traceparent, b3 or uber-trace-id header), or links to their pages
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// Draw only what the request waited for, and what leads there
    #[arg(long)]
    critical: bool,

    /// Draw only spans whose service or operation contains this, and what leads there
    #[arg(long, value_name = "TEXT")]
    find: Option<String>,

    /// Draw only so many levels
    #[arg(long, value_name = "LEVELS")]
    depth: Option<usize>,

    /// Columns to draw in [default: those of the terminal, or 100]
    #[arg(long, value_name = "COLUMNS")]
    width: Option<usize>,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A waterfall
    Table,
    /// An array of traces
    Json,
    /// A span in each line
    Jsonl,
    /// A span in each line
    Csv,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let references: Vec<Reference> = (args.ids.iter())
        .map(|text| id::parse(text).map_err(Failure::Usage))
        .collect::<Result<_, _>>()?;
    // Links may lead to several servers.
    let mut clients: BTreeMap<Option<&str>, Client> = BTreeMap::new();
    for Reference { server, .. } in &references {
        if let Entry::Vacant(place) = clients.entry(server.as_deref()) {
            place.insert(args.server.client(server.as_deref())?);
        }
    }
    let mut traces = Vec::with_capacity(references.len());
    for reference in &references {
        if let Some(client) = clients.get(&reference.server.as_deref()) {
            traces.push(load(client, reference).await?);
        }
    }
    print(&args, &traces)
}

async fn load(client: &Client, reference: &Reference) -> Result<(Skeleton, TraceOut), Failure> {
    let path = format!("/api/periplus/v1/traces/{}", reference.id);
    let skeleton: Skeleton = client.get(&path).await?;
    let spans = skeleton.spans().ok_or_else(|| Failure::Unreadable {
        server: client.server().to_owned(),
        cause: "the columns of the trace do not fit together".to_owned(),
    })?;
    Ok((skeleton, spans))
}

fn print(args: &Args, traces: &[(Skeleton, TraceOut)]) -> anyhow::Result<()> {
    let spans = || traces.iter().flat_map(|(_, trace)| &trace.spans);
    let text = match args.output {
        Output::Table => {
            let mut style = args.looks.style();
            style.width = args.width.or(style.width);
            let view = View {
                style,
                depth: args.depth,
                critical_only: args.critical,
                find: args.find.as_deref(),
            };
            let drawn: Vec<String> = (traces.iter())
                .map(|(skeleton, trace)| waterfall::render(trace, &skeleton.warnings, view))
                .collect();
            drawn.join("\n")
        }
        Output::Json => output::json(&traces.iter().map(|(_, trace)| trace).collect::<Vec<_>>())?,
        Output::Jsonl => output::json_lines(&spans().collect::<Vec<_>>())?,
        Output::Csv => {
            let mut out = output::csv(&SpanOut::CSV_HEAD.map(str::to_owned));
            spans().for_each(|span| out += &output::csv(&span.csv()));
            out
        }
    };
    output::print(&text)
}
