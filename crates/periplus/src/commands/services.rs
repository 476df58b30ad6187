//! Which services there are, and what they do.

use serde::Deserialize;

use super::client::{Failure, ServerFlags, escape};
use super::output::{self, Looks, Table, Tone, clean, left};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service: its operations are listed
    service: Option<String>,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// End with code 1 if there are none
    #[arg(long)]
    fail_on_empty: bool,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    /// One document
    Json,
    /// One in each line
    Jsonl,
    /// One in each line
    Csv,
}

/// Jaeger's envelope.
#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<Vec<T>>,
}

#[derive(Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    name: String,
    span_kind: String,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    super::block_on(async { list(args).await })
}

async fn list(args: Args) -> anyhow::Result<()> {
    let client = args.server.client(None)?;
    let style = args.looks.style();
    let (text, empty) = match &args.service {
        None => {
            let answer: Envelope<String> = client.get("/api/services").await?;
            let names = answer.data.unwrap_or_default();
            let text = match args.output {
                Output::Table => {
                    let mut table = Table::new(&[left("SERVICE")]);
                    names
                        .iter()
                        .for_each(|name| table.row(vec![(Tone::Plain, clean(name))]));
                    table.render(style)
                }
                Output::Json => output::json(&names)?,
                Output::Jsonl => output::json_lines(&names)?,
                Output::Csv => {
                    let rows = names
                        .iter()
                        .map(|name| output::csv(std::slice::from_ref(name)));
                    output::csv(&["service".to_owned()]) + &rows.collect::<String>()
                }
            };
            (
                text,
                names.is_empty().then_some("there are no services yet"),
            )
        }
        Some(service) => {
            let path = format!("/api/operations?service={}", escape(service));
            let answer: Envelope<Operation> = client.get(&path).await?;
            let operations = answer.data.unwrap_or_default();
            let text = match args.output {
                Output::Table => {
                    let mut table = Table::new(&[left("KIND"), left("OPERATION")]);
                    for operation in &operations {
                        table.row(vec![
                            (Tone::Plain, clean(&operation.span_kind)),
                            (Tone::Plain, clean(&operation.name)),
                        ]);
                    }
                    table.render(style)
                }
                Output::Json => output::json(&operations)?,
                Output::Jsonl => output::json_lines(&operations)?,
                Output::Csv => {
                    let rows = (operations.iter()).map(|operation| {
                        output::csv(&[operation.span_kind.clone(), operation.name.clone()])
                    });
                    output::csv(&["spanKind", "operation"].map(str::to_owned))
                        + &rows.collect::<String>()
                }
            };
            (
                text,
                operations.is_empty().then_some("there is no such service"),
            )
        }
    };
    match empty {
        Some(note) if args.fail_on_empty => return Err(Failure::Nothing(note.to_owned()).into()),
        Some(note) => eprintln!("note: {note}"),
        None => {}
    }
    output::print(&text)
}
