//! The questions put to our own server over HTTP, and to the store itself as a library.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use periplus_model::TraceId;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    Comparison, Field, Intrinsic, Literal, RedQuery, ScanQuery, Scope, SpanFilter, SpanStore,
    TimeRange, TraceFilter, TraceQuery,
};
use serde_json::Value;

use super::http::Client;
use super::process;
use super::questions::{self, Answers, Arguments, Patience, Question};
use super::serve::Server;

/// Asks the server. A trace is Jaeger's JSON of it with all attributes; a search gives summaries of
/// whole traces.
pub(super) fn server(
    server: &Server,
    questions: &[&Question],
    patience: Patience,
) -> anyhow::Result<Answers> {
    let mut client = Client::connect(server.api)?;
    let answer = |name: &str, arguments: &Arguments| over_http(&mut client, name, arguments);
    Ok(questions::ask(questions, patience, answer, || server.cpu()))
}

/// The time until the whole answer was there, and how many rows it has; `None` if it is none that the
/// server is asked.
pub(super) fn over_http(
    client: &mut Client,
    name: &str,
    arguments: &Arguments,
) -> anyhow::Result<Option<(Duration, usize)>> {
    let Some(path) = path(name, arguments) else {
        return Ok(None);
    };
    let begin = Instant::now();
    let (status, body) = client.get(&path)?;
    let time = begin.elapsed();
    let rows = match status {
        404 => 0,
        200 => rows(name, &serde_json::from_slice(&body)?)
            .with_context(|| format!("the answer to {path} has another form"))?,
        _ => bail!("{status} for {path}: {}", String::from_utf8_lossy(&body)),
    };
    Ok(Some((time, rows)))
}

fn path(name: &str, arguments: &Arguments) -> Option<String> {
    let of = |key| arguments[key].as_str();
    let nano = |key| of(key).parse::<u64>().unwrap_or_default();
    let (start, end) = (nano("start"), nano("end"));
    let range = format!("start={}&end={}", start / 1_000, end.div_ceil(1_000));
    let search = |rest: String| Some(format!("/api/periplus/v1/search?limit=20&{range}&{rest}"));
    match name {
        questions::TRACE | questions::ABSENT_TRACE => Some(format!("/api/traces/{}", of("trace"))),
        questions::NEWEST => search(format!("service={}", of("service"))),
        questions::RARE | questions::ABSENT_VALUE => {
            search(format!("tag={}:{}", of("key"), of("value")))
        }
        questions::SERVICES => Some("/api/services".to_owned()),
        questions::OPERATIONS => Some(format!("/api/operations?service={}", of("service"))),
        questions::DEPENDENCIES => Some(format!("/api/periplus/v1/dependencies?{range}")),
        questions::RED_HOUR => Some(format!("/api/periplus/v1/red?{range}&step=1h")),
        questions::RED_MINUTES => Some(format!("/api/periplus/v1/red?{range}&step=1m")),
        questions::RED_SERVICE => Some(format!(
            "/api/periplus/v1/red?{range}&step=1m&service={}",
            of("service")
        )),
        questions::SCAN => search(format!(
            "service={}&tag=error:true&minDuration={}ns",
            of("service"),
            of("duration")
        )),
        _ => None,
    }
}

fn rows(name: &str, answer: &Value) -> Option<usize> {
    let list = match name {
        questions::TRACE | questions::ABSENT_TRACE => &answer["data"][0]["spans"],
        questions::NEWEST | questions::RARE | questions::ABSENT_VALUE | questions::SCAN => {
            &answer["traces"]
        }
        questions::DEPENDENCIES => &answer["edges"],
        questions::RED_HOUR | questions::RED_SERVICE | questions::RED_MINUTES => &answer["series"],
        _ => &answer["data"],
    };
    list.as_array().map(Vec::len)
}

/// Opens the store, which nobody else may have open, and asks it. Gives the time of the opening too.
pub(super) fn library(
    data: &Path,
    questions: &[Question],
    patience: Patience,
) -> anyhow::Result<(Duration, Answers)> {
    let options = Options {
        retention: None,
        max_disk_bytes: None,
        background: false,
        ..Options::default()
    };
    let begin = Instant::now();
    let store = EmbeddedStore::open(data, options)?;
    let opened = begin.elapsed();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = |name: &str, arguments: &Arguments| {
        let begin = Instant::now();
        let rows = runtime.block_on(look(&store, name, arguments))?;
        Ok(rows.map(|rows| (begin.elapsed(), rows)))
    };
    let all: Vec<&Question> = questions.iter().collect();
    let answers = questions::ask(&all, patience, answer, || {
        process::cpu_of(std::process::id())
    });
    store.close()?;
    Ok((opened, answers))
}

async fn look(
    store: &EmbeddedStore,
    name: &str,
    arguments: &Arguments,
) -> anyhow::Result<Option<usize>> {
    let of = |key| arguments[key].as_str();
    let range = TimeRange {
        start_unix_nano: of("start").parse()?,
        end_unix_nano: of("end").parse()?,
    };
    let search = async |filter| {
        let query = TraceQuery::new(range, TraceFilter::AnySpan(filter), 20);
        let mut found = store.find_traces(query);
        let mut rows = 0;
        while let Some(trace) = found.next().await {
            trace?;
            rows += 1;
        }
        anyhow::Ok(rows)
    };
    let red = async |seconds: u64, service| {
        let query = RedQuery {
            step_nano: Some(seconds * 1_000_000_000),
            service,
            ..RedQuery::new(range)
        };
        anyhow::Ok(store.red_by(query).await?.len())
    };
    let intrinsic = |which, text: &str| SpanFilter::equals(Field::Intrinsic(which), text);
    Ok(Some(match name {
        questions::TRACE | questions::ABSENT_TRACE => {
            let id = u128::from_str_radix(of("trace"), 16)?;
            let trace = store.trace(TraceId::from_bytes(id.to_be_bytes())).await?;
            trace.map_or(0, |trace| trace.span_count())
        }
        questions::NEWEST => search(intrinsic(Intrinsic::Service, of("service"))).await?,
        questions::RARE | questions::ABSENT_VALUE => {
            let field = Field::Attribute {
                scope: Scope::Span,
                key: of("key").to_owned(),
            };
            search(SpanFilter::equals(field, of("value"))).await?
        }
        questions::SCAN => {
            let duration: i64 = of("duration").parse()?;
            let long = SpanFilter::Compare {
                field: Field::Intrinsic(Intrinsic::Duration),
                comparison: Comparison::GreaterOrEqual,
                literal: Literal::Int(duration),
            };
            let filter = SpanFilter::And(vec![
                intrinsic(Intrinsic::Service, of("service")),
                intrinsic(Intrinsic::Status, "error"),
                long,
            ]);
            let rows = store.count(ScanQuery::new(range, filter)).await? as usize;
            ensure!(rows == 0, "the scan found something");
            rows
        }
        questions::SERVICES => store.services().await?.len(),
        questions::OPERATIONS => store.operations(of("service"), None).await?.len(),
        questions::DEPENDENCIES => store.dependencies(range).await?.len(),
        questions::RED_HOUR => red(3_600, None).await?,
        questions::RED_SERVICE => red(60, Some(of("service").to_owned())).await?,
        questions::RED_MINUTES => red(60, None).await?,
        _ => return Ok(None),
    }))
}
