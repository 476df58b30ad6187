//! The way of a span: provider, cluster, reachable, sampled, exported, received, propagated.

mod backend;
mod exported;

use std::net::SocketAddr;
use std::time::Duration;

use periplus_control::{Index, Problem};
use periplus_resources::{ExtensionProvider, Kind};
use serde_json::Value;
use tokio::net::TcpStream;

use super::Args;
use super::step::{State, Step};

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
    done.push(backend::received(&backend, &rows).await);
    if has_failed(&done) {
        return Ok(with_rest(done));
    }
    done.push(match backend::propagated(&backend).await {
        Ok(step) => step,
        Err(failure) => Step::failed("propagated", failure.to_string()),
    });
    Ok(done)
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
        let Some(service) = index.service(&provider.service) else {
            continue;
        };
        let Some(port) = service.port(provider.port) else {
            continue;
        };
        let mut addresses: Vec<SocketAddr> = (service.endpoints.iter())
            .map(|endpoint| SocketAddr::new(endpoint.address, endpoint.target_port(port)))
            .collect();
        if addresses.is_empty() {
            let name = format!("{}:{}", service.host, provider.port);
            match tokio::net::lookup_host(&name).await {
                Ok(found) => addresses.extend(found),
                Err(error) => {
                    return Step::failed(
                        NAME,
                        format!(
                            "`{}` has no endpoints, and its name cannot be looked up ({error})",
                            service.host
                        ),
                    )
                    .advice(format!(
                        "write them into {} ({})",
                        service.meta, service.meta.source
                    ));
                }
            }
        }
        for address in &addresses {
            let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
            let why = match connected {
                Ok(Ok(_)) => {
                    reached.push(address.to_string());
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            return Step::failed(
                NAME,
                format!(
                    "the collector of `{}` at {address} does not take connections: {why}",
                    provider.name
                ),
            )
            .advice(format!(
                "start it (`periplus serve`), or mend port and endpoints of {} ({})",
                service.meta, service.meta.source
            ));
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

/// How much is traced.
fn sampled(index: &Index) -> Step {
    const NAME: &str = "sampled";
    let mut percents: Vec<(f64, String)> = Vec::new();
    for workload in index.proxies() {
        if let Some((_, percent)) = index.traced(&workload.proxy) {
            percents.push((percent, workload.name()));
        }
    }
    let most = percents
        .iter()
        .map(|(percent, _)| *percent)
        .fold(0.0, f64::max);
    let least = percents.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let advice = "set `randomSamplingPercentage` of a Telemetry, or `defaultConfig.tracing.sampling` of the mesh \
                  configuration; a request whose caller has decided keeps its decision";
    match least {
        _ if most == 0.0 => {
            Step::failed(NAME, "0 % of the requests are sampled".to_owned()).advice(advice)
        }
        Some((percent, name)) if *percent <= 1.0 => Step::warned(
            NAME,
            format!("{percent} % of the requests at {name}: most of what you try leaves no trace"),
        )
        .advice(advice),
        Some((percent, _)) if *percent == most => {
            Step::passed(NAME, format!("{percent} % of the requests"))
        }
        Some((percent, _)) => {
            Step::passed(NAME, format!("{percent} % to {most} % of the requests"))
        }
        None => Step::failed(NAME, "nothing is traced".to_owned()).advice(advice),
    }
}
