//! The peers' drivers: Python programs in an environment of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;

use super::corpus::Corpus;
use super::questions::{Answers, Patience, Question};
use super::rows;

/// Where the drivers are.
const DRIVERS: &str = "bench/store";

/// What the drivers need, installed from PyPI.
const REQUIREMENTS: &str = "bench/store/requirements.txt";

/// An engine that we are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Peer {
    /// ClickHouse with Jaeger's tables.
    Jaeger,
    /// ClickHouse with those of the OpenTelemetry collector's exporter.
    Otel,
    /// ClickHouse with the tables of SigNoz.
    Signoz,
    /// DuckDB's own tables.
    Duckdb,
    /// Parquet files that DuckDB reads.
    Parquet,
}

impl Peer {
    pub(super) const ALL: [Self; 5] = [
        Self::Jaeger,
        Self::Otel,
        Self::Signoz,
        Self::Duckdb,
        Self::Parquet,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Jaeger => "jaeger",
            Self::Otel => "otel",
            Self::Signoz => "signoz",
            Self::Duckdb => "duckdb",
            Self::Parquet => "parquet",
        }
    }

    const fn driver(self) -> &'static str {
        match self {
            Self::Jaeger | Self::Otel | Self::Signoz => "clickhouse.py",
            Self::Duckdb | Self::Parquet => "columns.py",
        }
    }
}

/// What a driver has measured.
#[derive(Debug, Deserialize)]
pub(super) struct Result {
    pub(super) title: String,
    pub(super) version: String,
    pub(super) insert_cpu_s: f64,
    pub(super) insert_wall_s: f64,
    pub(super) compact_cpu_s: f64,
    pub(super) disk_bytes: u64,
    pub(super) note: String,
    pub(super) peak_kib: u64,
    pub(super) answers: Answers,
}

/// Makes the environment if it is not there, and gives its Python.
pub(super) fn environment(below: &Path) -> anyhow::Result<PathBuf> {
    let environment = below.join("venv");
    let python = environment.join("bin/python");
    let (wanted, marker) = (fs::read(REQUIREMENTS)?, environment.join("installed.txt"));
    if fs::read(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    fs::create_dir_all(below)?;
    let run = |command: &mut Command| -> anyhow::Result<()> {
        eprintln!("$ {command:?}");
        let status = command.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{command:?} failed: {status}");
        Ok(())
    };
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(REQUIREMENTS))?;
    fs::write(marker, wanted)?;
    Ok(python)
}

/// Fills the engine, lets it merge, and asks it.
pub(super) fn run(
    peer: Peer,
    python: &Path,
    (corpus, directory, cores): (&Corpus, &Path, &str),
    questions: &[Question],
    patience: Patience,
) -> anyhow::Result<Result> {
    let job = directory.join("job.json");
    let about = json!({
        "engine": peer.name(),
        "directory": directory,
        "chunks": corpus.chunks,
        "resources": corpus.resources,
        "row_structure": rows::SPAN,
        "resource_structure": rows::RESOURCE,
        "attribute_keys": corpus.keys,
        "spans": corpus.spans,
        "questions": questions,
        "repetitions": patience.repetitions,
        "seconds_per_question": patience.per_question.as_secs_f64(),
    });
    fs::write(&job, serde_json::to_vec(&about)?)?;
    let mut child = Command::new("taskset")
        .args(["-c", cores])
        .arg(python)
        .arg(Path::new(DRIVERS).join(peer.driver()))
        .arg(&job)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let lines: Vec<String> = BufReader::new(stdout)
        .lines()
        .collect::<std::io::Result<_>>()?;
    let status = child.wait()?;
    ensure!(status.success(), "the driver of {peer:?} failed: {status}");
    let last = lines.last().context("the driver has said nothing")?;
    serde_json::from_str(last).with_context(|| format!("{peer:?} says {last}"))
}
