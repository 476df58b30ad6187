//! The way of a span: provider, cluster, reachable, sampled, exported, received, propagated.

mod backend;
mod exported;

use std::time::Duration;

use periplus_control::{Index, Problem, Workload, reach};
use periplus_resources::{ExtensionProvider, Kind, ProviderKind, TraceContext};
use serde_json::Value;

use super::Args;
use super::step::{State, Step};
use crate::commands::proxy_status::text;

/// What is looked at, in this order.
const STEPS: [&str; 7] = [
    "provider",
    "cluster",
    "reachable",
    "sampled",
    "exported",
    "received",
    "propagated",
];

/// The steps; after the first that fails nothing is looked at.
pub(super) fn steps(args: &Args) -> anyhow::Result<Vec<Step>> {
    let described = args.mesh.read_telling()?;
    let (index, problems) = described.analyse();
    let mut done = Vec::new();
    let of_files = [provider, cluster];
    for look in of_files {
        done.push(look(&index, &problems));
        if has_failed(&done) {
            return Ok(with_rest(done));
        }
    }
    crate::commands::block_on(live(args, &index, done))
}

fn has_failed(steps: &[Step]) -> bool {
    steps.last().is_some_and(|step| step.state == State::Failed)
}

/// The others were not looked at.
fn with_rest(mut done: Vec<Step>) -> Vec<Step> {
    let rest = STEPS.iter().skip(done.len());
    done.extend(rest.map(|name| Step::skipped(name, "not looked at".to_owned())));
    done
}

async fn live(args: &Args, index: &Index, mut done: Vec<Step>) -> anyhow::Result<Vec<Step>> {
    let timeout = args.mesh.control.timeout;
    done.push(reachable(index, timeout).await);
    if has_failed(&done) {
        return Ok(with_rest(done));
    }
    done.push(sampled(index));
    if has_failed(&done) {
        return Ok(with_rest(done));
    }
    let client = args.mesh.control.client()?;
    let rows: Vec<Value> = match client.get("/debug/syncz").await {
        Ok(rows) => rows,
        Err(failure) => {
            done.push(Step::failed("exported", failure.to_string()));
            return Ok(with_rest(done));
        }
    };
    done.push(exported::exported(&rows, timeout).await);
    if has_failed(&done) {
        return Ok(with_rest(done));
    }
    let backend = args.backend()?;
    done.push(match alone(index, &rows) {
        Some(step) => step,
        None => backend::received(&backend, &rows, |silent| silenced(index, silent)).await,
    });
    if has_failed(&done) {
        return Ok(with_rest(done));
    }
    done.push(match backend::propagated(&backend, &headers(index)).await {
        Ok(step) => step,
        Err(failure) => Step::failed("propagated", failure.to_string()),
    });
    Ok(done)
}

/// Where gateways alone are connected, theirs are all the spans that there can be.
fn alone(index: &Index, rows: &[Value]) -> Option<Step> {
    let are_gateways = rows.iter().all(|row| text(row, "proxy_type") == "router");
    let is_gateway = |one: &Workload| {
        let mut gateways = index.gateways().iter();
        gateways.any(|entry| one.proxy.is_selected_by(&entry.spec.selector))
            || rows.iter().any(|row| text(row, "proxy") == one.name())
    };
    let described = index.described().into_iter();
    let names = described
        .filter(|one| !is_gateway(one))
        .map(|one| one.name());
    let names: Vec<_> = names.collect();
    if !are_gateways || names.is_empty() {
        return None;
    }
    let said = format!(
        "gateways alone are connected, and none of {} has a proxy: traces end at the gateway",
        names.join(", ")
    );
    Some(Step::failed("received", said).advice(
        "start a sidecar beside each workload (`periplus proxy`), and see that `periplus proxy-status` lists it",
    ))
}

/// The providers that the described proxies report to.
fn providers(index: &Index) -> Vec<&ExtensionProvider> {
    let mut providers: Vec<&ExtensionProvider> = Vec::new();
    for workload in index.proxies() {
        if let Some((provider, _)) = index.traced(&workload.proxy)
            && !providers.iter().any(|known| known.name == provider.name)
        {
            providers.push(provider);
        }
    }
    providers
}

/// Whether anybody says where spans go.
fn provider(index: &Index, problems: &[Problem]) -> Step {
    const NAME: &str = "provider";
    let mesh = index.mesh();
    let of_telemetry = problems.iter().find(|problem| {
        let kind = problem.about.as_ref().map(|about| about.kind);
        kind == Some(Kind::Telemetry) && matches!(problem.code.id, "IST0101" | "PER0202")
    });
    if let Some(problem) = of_telemetry {
        return Step::failed(NAME, problem.to_string());
    }
    let names = mesh.providers.iter().map(|provider| provider.name.as_str());
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Step::failed(
            NAME,
            "the mesh configuration has no `extensionProviders` for traces".to_owned(),
        )
        .advice(
            "describe the collector there, with `zipkin` or `opentelemetry`, and name it in \
                 `defaultProviders.tracing`",
        );
    }
    if let Some(provider) = mesh.tracing_provider() {
        return Step::passed(NAME, format!("`{}` ({})", provider.name, provider.service));
    }
    let used = providers(index);
    match used.first() {
        Some(provider) => Step::passed(NAME, format!("`{}`, by Telemetry resources", provider.name)),
        None if !mesh.enable_tracing => {
            Step::failed(NAME, "`enableTracing: false` turns tracing off".to_owned())
                .advice("remove it from the mesh configuration")
        }
        None => Step::failed(
            NAME,
            format!("nothing says that {} is to be used for traces", names.join(" or ")),
        )
        .advice("name it in `defaultProviders.tracing` of the mesh configuration, or in a Telemetry resource"),
    }
}

/// Whether its service is in the mesh.
fn cluster(index: &Index, problems: &[Problem]) -> Step {
    const NAME: &str = "cluster";
    if let Some(problem) = problems.iter().find(|problem| problem.code.id == "PER0201") {
        return Step::failed(NAME, problem.to_string());
    }
    let used = providers(index);
    if used.is_empty() {
        return Step::failed(NAME, "no workload or Gateway that is described is traced".to_owned()).advice(
            "describe workloads as WorkloadEntries or Pods; `disableSpanReporting` of a Telemetry turns tracing off",
        );
    }
    let clusters = used
        .iter()
        .map(|provider| format!("outbound|{}||{}", provider.port, provider.service));
    Step::passed(NAME, clusters.collect::<Vec<_>>().join(", "))
}

/// Whether somebody listens there.
async fn reachable(index: &Index, timeout: Duration) -> Step {
    const NAME: &str = "reachable";
    let mut reached = Vec::new();
    for provider in providers(index) {
        match reach(index, provider, timeout).await {
            Ok(addresses) => reached.extend(addresses.iter().map(ToString::to_string)),
            Err(unreached) => return Step::failed(NAME, unreached.reason).advice(unreached.advice),
        }
    }
    Step::passed(
        NAME,
        format!(
            "{} take connections, from here at least",
            reached.join(", ")
        ),
    )
}

/// The headers that carry the context, by provider.
fn headers(index: &Index) -> String {
    let all = providers(index).into_iter().map(|provider| {
        let headers = match &provider.kind {
            ProviderKind::Zipkin {
                context: TraceContext::B3,
                ..
            } => "x-b3-* or b3",
            ProviderKind::Zipkin { .. } => "x-b3-* or b3, and traceparent",
            ProviderKind::OpenTelemetry { .. } | ProviderKind::OpenTelemetryGrpc { .. } => {
                "traceparent and tracestate"
            }
        };
        format!("{headers} with provider `{}`", provider.name)
    });
    all.collect::<Vec<_>>().join(", ")
}

/// How much is traced.
fn sampled(index: &Index) -> Step {
    const NAME: &str = "sampled";
    let mut shares: Vec<(f64, String)> = Vec::new();
    for workload in index.proxies() {
        if let Some((_, percent)) = index.traced(&workload.proxy) {
            let (by, _) = index.tracing_said_by(&workload.proxy);
            let by = by.map_or_else(
                || "the mesh configuration".to_owned(),
                |meta| format!("{meta} ({})", meta.source),
            );
            shares.push((percent, format!("at {}, by {by}", workload.name())));
        }
    }
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    let advice = "set `randomSamplingPercentage` of a Telemetry, or `defaultConfig.tracing.sampling` of the mesh \
                  configuration; a request whose caller has decided keeps its decision";
    let (Some((least, at)), Some((most, _))) = (shares.first(), shares.last()) else {
        return Step::failed(NAME, "nothing is traced".to_owned()).advice(advice);
    };
    if *most == 0.0 {
        let said = format!("0 % of the requests are sampled, {at}");
        return Step::failed(NAME, said).advice(advice);
    }
    if *least <= 1.0 {
        let said = format!("{least} % of the requests {at}: most of what you try leaves no trace");
        return Step::warned(NAME, said).advice(advice);
    }
    if least == most {
        return Step::passed(NAME, format!("{least} % of the requests"));
    }
    Step::passed(
        NAME,
        format!("{least} % to {most} % of the requests, {least} % {at}"),
    )
}

/// Which of these workloads report nothing, and why: who says so, with file and line.
fn silenced(index: &Index, workloads: &[String]) -> Vec<String> {
    let all = index.proxies().into_iter();
    let silenced = all.filter_map(|workload| {
        let name = workload.name();
        let name = name.split('.').next().unwrap_or_default();
        let (_, by) = index.tracing_said_by(&workload.proxy);
        let by = by.filter(|_| workloads.iter().any(|one| one == name))?;
        Some(format!(
            "{by} ({}) turns the spans of {name} off",
            by.source
        ))
    });
    silenced.collect()
}
