//! What the trace backend has: whether spans arrive there, and whether they make whole traces.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::commands::client::{Client, Failure, query};
use crate::commands::doctor::step::Step;
use crate::commands::proxy_status::text;

/// How far back is looked.
const LOOKBACK: &str = "1h";

/// So many traces are looked at.
const MOST: &str = "200";

/// `/search`
#[derive(Deserialize)]
struct Found {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_id: String,
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    service: String,
    missing: bool,
}

/// Jaeger's list of services.
#[derive(Deserialize)]
struct Services {
    data: Option<Vec<String>>,
}

/// The conventions of a context that came, and of what was read: what to do about it.
const CONVENTIONS: [(&str, &str, &str); 2] = [
    (
        "b3",
        "traceparent",
        "have it copy traceparent and tracestate too, or report through a `zipkin` provider, whose proxies read B3",
    ),
    (
        "w3c",
        "B3",
        "give the `zipkin` provider `traceContextOption: USE_B3_WITH_W3C_PROPAGATION`, or have it copy b3 and x-b3-* too",
    ),
];

async fn search(client: &Client, line: &str, limit: &str) -> Result<Vec<Trace>, Failure> {
    let pairs = [("q", line), ("limit", limit), ("lookback", LOOKBACK)];
    let path = format!("/api/periplus/v1/search{}", query(&pairs));
    let found: Found = client.get(&path).await?;
    Ok(found.traces)
}

/// Whether the backend has spans of the proxies; `why` says of workloads why they report none.
pub(super) async fn received(
    client: &Client,
    rows: &[Value],
    why: impl FnOnce(&[String]) -> Vec<String>,
) -> Step {
    const NAME: &str = "received";
    let services: Services = match client.get("/api/services").await {
        Ok(services) => services,
        Err(failure) => return Step::failed(NAME, failure.to_string()),
    };
    let services = services.data.unwrap_or_default();
    if services.is_empty() {
        return Step::failed(NAME, format!("{} has no spans, and proxies have sent some", client.server()))
            .advice("see whether the provider names this backend, and not another; --server names another one");
    }
    // Sidecars have the names of their workloads here, not those of services: it is enough that some are there.
    let prefix = |row: &Value| {
        let name = text(row, "proxy");
        name.split_once('.')
            .map_or(name, |(name, _)| name)
            .to_owned()
    };
    let is_there = |row: &&Value| {
        let workload = prefix(row);
        services.iter().any(|service| {
            let app = service.split('.').next().unwrap_or(service);
            workload == app
                || workload
                    .strip_prefix(app)
                    .is_some_and(|rest| rest.starts_with('-'))
        })
    };
    let silent: Vec<String> = rows
        .iter()
        .filter(|row| !is_there(row))
        .map(prefix)
        .collect();
    let said = format!(
        "spans of {} services at {}",
        services.len(),
        client.server()
    );
    if silent.is_empty() {
        return Step::passed(NAME, said);
    }
    let why = why(&silent);
    let said = format!("{said}, none of {}", silent.join(", "));
    match why.is_empty() {
        true => Step::warned(NAME, said).advice(
            "without requests there are none; otherwise see whether a Sidecar is about it alone",
        ),
        false => Step::warned(NAME, format!("{said}: {}", why.join("; ")))
            .advice("remove `disableSpanReporting` there: callers' traces end at that workload"),
    }
}

/// Whether calls belong to the traces of the requests that they were made for.
///
/// A sidecar whose application has not handed on the headers of the request that it worked on takes a call of
/// the application for the beginning of something, and starts a trace.
///
/// `headers` are those that the proxies speak.
pub(super) async fn propagated(client: &Client, headers: &str) -> Result<Step, Failure> {
    const NAME: &str = "propagated";
    let begun = search(client, "root kind=client node_id=~\"sidecar~.*\"", MOST).await?;
    let mut by_service: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for trace in begun {
        if !trace.root.missing {
            let entry = by_service.entry(trace.root.service);
            entry.or_insert((0, trace.trace_id)).0 += 1;
        }
    }
    let mut dropping = Vec::new();
    for (service, (count, example)) in by_service {
        // Who is never asked begins traces by right.
        let line = format!("service=\"{service}\" kind=server");
        let worked_on = search(client, &line, "1").await?;
        // One call may be a probe's.
        if !worked_on.is_empty() && count > 1 {
            dropping.push((service, count, example));
        }
    }
    let Some((service, count, example)) = dropping.iter().max_by_key(|(_, count, _)| *count) else {
        let orphans = search(client, "!root", MOST).await?;
        let torn = orphans.iter().filter(|trace| trace.root.missing).count();
        return Ok(match torn {
            0 => Step::passed(
                NAME,
                "calls belong to the traces of their requests".to_owned(),
            ),
            n => Step::warned(NAME, format!("{n} traces lack their beginning")).advice(
                "somebody in front of the mesh has begun them, and reports elsewhere or not at all",
            ),
        });
    };
    // The proxy has seen a context of the other convention: nothing was dropped.
    for (came, read, advice) in CONVENTIONS {
        let line =
            format!("root kind=client service=\"{service}\" periplus.context.ignored=\"{came}\"");
        if let Some(trace) = search(client, &line, "1").await?.first() {
            let said = format!(
                "the application of {service} sends {came} headers alone, and its proxy reads {read}: its calls \
                 begin traces of their own, such as {}",
                trace.trace_id
            );
            return Ok(Step::failed(NAME, said).advice(advice));
        }
    }
    let others: Vec<&str> = dropping
        .iter()
        .map(|(name, ..)| name.as_str())
        .filter(|name| name != service)
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; likewise {}", others.join(", ")),
    };
    let times = match count {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    Ok(Step::failed(
        NAME,
        format!(
            "the application of {service} does not hand on the tracing headers of the requests that it works on \
             ({headers}): its calls began traces of their own {times} within {LOOKBACK}, such as {example}{others}"
        ),
    )
    .advice(
        "have it copy x-request-id, traceparent, tracestate, b3 and x-b3-* from each request to the calls that it makes \
         for it; one that copies x-b3-* alone drops what the proxies of an OpenTelemetry provider send",
    ))
}
