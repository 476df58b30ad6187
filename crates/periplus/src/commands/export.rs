//! Traces of a running server, into a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Failure, ServerFlags};
use super::trace::{Found, SearchFlags};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    search: SearchFlags,

    /// File to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Otlp)]
    format: Format,

    /// Traces at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A trace in each line, as OTLP's JSON: what the OpenTelemetry collector's file exporter writes
    /// and its receivers read
    Otlp,
    /// One document with all traces, as Jaeger's UI writes and reads it
    Jaeger,
}

/// Traces of one page.
const PAGE: usize = 500;

/// `GET /api/v3/traces/{id}`.
#[derive(Deserialize)]
struct V3 {
    result: Box<RawValue>,
}

/// `GET /api/traces/{id}`.
#[derive(Deserialize)]
struct V1 {
    data: Vec<Box<RawValue>>,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    super::block_on(async { export(args).await })
}

async fn export(args: Args) -> anyhow::Result<()> {
    let client = args.server.client(None)?;
    let line = args.search.line();
    let start_us = args.search.start_us();
    let mut out = Out::create(&args.output)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let (mut traces, mut spans) = (0_u64, 0_u64);
    let mut after = String::new();
    out.write(match args.format {
        Format::Otlp => "",
        Format::Jaeger => "{\"data\":[",
    })?;
    while left > 0 {
        let found = Found::load(&client, &line, start_us, PAGE.min(left), &after).await?;
        for item in &found.traces {
            // It may be gone since the search: the oldest go first when there is no more room.
            let Some(text) = load(&client, args.format, &item.trace_id).await? else {
                eprintln!("note: trace {} is gone", item.trace_id);
                continue;
            };
            let between = match (args.format, traces) {
                (Format::Jaeger, 0) | (Format::Otlp, _) => "",
                (Format::Jaeger, _) => ",\n",
            };
            out.write(between)?;
            out.write(&text)?;
            traces += 1;
            spans += item.spans;
        }
        left -= found.traces.len().min(left);
        match found.next {
            Some(next) if found.truncated => after = next,
            _ => break,
        }
    }
    out.write(match args.format {
        Format::Otlp => "",
        Format::Jaeger => "],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}\n",
    })?;
    out.finish()?;
    eprintln!(
        "{traces} traces with {spans} spans written to {}",
        name(&args.output)
    );
    Ok(())
}

async fn load(client: &Client, format: Format, id: &str) -> Result<Option<String>, Failure> {
    let loaded = match format {
        Format::Otlp => {
            let answer = client.get::<V3>(&format!("/api/v3/traces/{id}")).await;
            answer.map(|answer| answer.result.get().to_owned() + "\n")
        }
        Format::Jaeger => {
            let answer = client.get::<V1>(&format!("/api/traces/{id}")).await;
            answer.map(|answer| {
                let traces: Vec<&str> = answer.data.iter().map(|trace| trace.get()).collect();
                traces.join(",\n")
            })
        }
    };
    match loaded {
        Ok(text) => Ok(Some(text)),
        Err(Failure::Refused { status, .. }) if status == http::StatusCode::NOT_FOUND => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn name(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "standard output".to_owned(),
        _ => path.display().to_string(),
    }
}

/// A file that is not there before it is complete, or standard output.
enum Out {
    Standard(BufWriter<io::Stdout>),
    File {
        out: BufWriter<File>,
        part: PathBuf,
        path: PathBuf,
    },
}

impl Out {
    fn create(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Standard(BufWriter::new(io::stdout())));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file =
            File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Self::File {
            out: BufWriter::new(file),
            part,
            path: path.to_owned(),
        })
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Standard(out) => match out.write_all(text.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
                written => Ok(written?),
            },
            Self::File { out, part, .. } => (out.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", part.display())),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Standard(mut out) => Ok(out.flush()?),
            Self::File { out, part, path } => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                std::fs::rename(&part, &path).with_context(|| {
                    format!("cannot rename {} to {}", part.display(), path.display())
                })
            }
        }
    }
}
