//! The way of a span: provider, cluster, reachable, sampled, exported, received, propagated.

mod backend;

use std::net::SocketAddr;
use std::time::Duration;

use periplus_control::{Index, Problem};
use periplus_resources::{ExtensionProvider, Kind};
use serde_json::Value;
use tokio::net::TcpStream;

use super::Args;
use super::proxies::admins;
use super::step::{State, Step};
use crate::commands::client::Failure;
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
    done.push(exported(&rows, timeout).await);
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

/// What a proxy counts of its reports.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    spans: u64,
    sent: u64,
    dropped: u64,
    without_cluster: u64,
}

/// Whether proxies have reported spans.
async fn exported(rows: &[Value], timeout: Duration) -> Step {
    const NAME: &str = "exported";
    if rows.is_empty() {
        return Step::failed(
            NAME,
            "no proxy is connected to the control plane".to_owned(),
        )
        .advice("see `periplus doctor`");
    }
    let admins = admins(rows, timeout);
    if admins.is_empty() {
        return Step::skipped(NAME, "no proxy tells where its admin port is".to_owned())
            .advice("write it into bootstraps as node.metadata.ADMIN_ADDRESS");
    }
    let mut all = Counts::default();
    let mut dropping = Vec::new();
    for (name, client) in &admins {
        let answer = match client {
            Ok(client) => counts(client).await,
            Err(failure) => Err(failure.to_string()),
        };
        match answer {
            Ok(counts) => {
                if counts.dropped + counts.without_cluster > 0 {
                    dropping.push(name.as_str());
                }
                all.spans += counts.spans;
                all.sent += counts.sent;
                all.dropped += counts.dropped;
                all.without_cluster += counts.without_cluster;
            }
            Err(error) => return Step::failed(NAME, format!("{name}: {error}")),
        }
    }
    let at = dropping.join(", ");
    match all {
        Counts { without_cluster: 1.., sent: 0, .. } => {
            Step::failed(NAME, format!("proxies have no cluster for the collector: {at}"))
                .advice("see `periplus proxy-config clusters`")
        }
        Counts { dropped: 1.., sent: 0, .. } => Step::failed(
            NAME,
            format!("{} reports were refused or not answered, and none was taken: {at}", all.dropped),
        )
        .advice("see whether provider and port speak the same: Zipkin's is 9411, OTLP's over HTTP 4318, over gRPC 4317"),
        Counts { spans: 0, .. } => Step::failed(NAME, "no proxy has reported a span".to_owned())
            .advice("send a request through a proxy; spans are sent within a second"),
        Counts { dropped: 1.., .. } => Step::warned(
            NAME,
            format!("{} spans in {} reports, {} reports were lost: {at}", all.spans, all.sent, all.dropped),
        ),
        _ => Step::passed(NAME, format!("{} spans in {} reports", all.spans, all.sent)),
    }
}

async fn counts(client: &crate::commands::client::Client) -> Result<Counts, String> {
    let told = |failure: Failure| failure.to_string();
    let stats: Value = client
        .get("/stats?format=json&filter=tracing")
        .await
        .map_err(told)?;
    let mut counts = Counts::default();
    for stat in stats["stats"].as_array().into_iter().flatten() {
        let value = stat["value"].as_u64().unwrap_or_default();
        let name = text(stat, "name");
        let is_of_tracer = name.starts_with("tracing.");
        match name.rsplit('.').next() {
            Some("spans_sent") if is_of_tracer => counts.spans += value,
            Some("reports_sent" | "timer_flushed") if is_of_tracer => counts.sent += value,
            Some("reports_dropped") if is_of_tracer => counts.dropped += value,
            Some("reports_skipped_no_cluster") if is_of_tracer => counts.without_cluster += value,
            _ => {}
        }
    }
    Ok(counts)
}
