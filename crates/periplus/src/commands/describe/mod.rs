//! What the resources say of a service or a workload.

mod rules;

use std::fmt::Write as _;

use periplus_control::{Described, Entry, Index, Problem, Service, Workload};
use periplus_resources::{Host, Labels, Meta, RequestAuthentication, Resolution};
use serde::Serialize;

use super::authz::{Listed, mode, policies};
use super::client::Failure;
use super::control_plane::Output;
use super::finding::Finding;
use super::mesh::MeshFlags;
use super::output::{self, Looks, Style, Tone};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A service (its host, or the beginning of it), or a workload (NAME or NAME.NAMESPACE)
    #[arg(value_name = "SERVICE|WORKLOAD")]
    name: String,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    looks: Looks,

    #[command(flatten)]
    mesh: MeshFlags,
}

/// All that is said.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadText>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceText {
    host: String,
    source: String,
    ports: Vec<String>,
    endpoints: Vec<String>,
    /// Who answers if there are none.
    #[serde(skip)]
    nobody: &'static str,
    destination_rules: Vec<String>,
    subsets: Vec<String>,
    routes: Vec<String>,
    exposed_by: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadText {
    name: String,
    source: String,
    address: String,
    labels: Labels,
    service_account: String,
    services: Vec<String>,
    sidecar: Option<String>,
    mutual_tls: Vec<String>,
    request_authentications: Vec<String>,
    policies: Vec<Listed>,
    tracing: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let described = args.mesh.read_telling()?;
    let description = describe(&described, &args.name)?;
    output::print(&match args.output {
        Output::Json => output::json(&description)?,
        Output::Table => description.render(args.looks.style()),
    })
}

fn describe(described: &Described, name: &str) -> Result<Description, Failure> {
    let (index, problems) = described.analyse();
    let service = service_called(&index, name);
    let workload = index.find_workload(name);
    let (service, workload) = match (service, workload) {
        (Some(service), workload) => (Some(service), workload.ok()),
        (None, Ok(workload)) => (None, Some(workload)),
        (None, Err(error)) => {
            let hosts = index.services().map(|service| service.host.as_str());
            let hosts: Vec<_> = hosts.collect();
            return Err(Failure::Nothing(format!(
                "there is no service `{name}`, of {}; {error}",
                hosts.join(", ")
            )));
        }
    };
    let about = |problem: &&Problem| {
        let is_about = |meta: &Meta| {
            let about = problem.about.as_ref();
            about.is_some_and(|it| {
                it.kind == meta.kind && it.namespace == meta.namespace && it.name == meta.name
            })
        };
        let of_service = service.is_some_and(|service| {
            is_about(&service.meta) || problem.diagnostic.message.contains(service.host.as_str())
        });
        of_service
            || workload
                .as_ref()
                .is_some_and(|workload| is_about(&workload.meta))
    };
    Ok(Description {
        findings: problems.iter().filter(about).map(Finding::of).collect(),
        service: service.map(|service| service_text(&index, service)),
        workload: workload
            .as_ref()
            .map(|workload| workload_text(&index, workload)),
    })
}

/// The service of a host, or the only one whose host begins so.
fn service_called<'a>(index: &'a Index, name: &str) -> Option<&'a Service> {
    let exact = Host::parse(name).ok();
    if let Some(service) = exact.and_then(|host| index.service(&host)) {
        return Some(service);
    }
    let prefix = format!("{name}.");
    let mut found = index
        .services()
        .filter(|service| service.host.as_str().starts_with(&prefix));
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

fn at(meta: &Meta) -> String {
    format!("{meta} ({})", meta.source)
}

fn service_text(index: &Index, service: &Service) -> ServiceText {
    let namespace = &service.meta.namespace;
    let rules = index.connection_rules((namespace, None), service);
    let covering = index.destination_rules().iter();
    let covering = covering.filter(|rule| rule.spec.host.covers(&service.host));
    let subsets = rules.subsets.iter().map(|subset| {
        let has = |endpoint: &&periplus_resources::WorkloadEntry| {
            let mut labels = subset.labels.iter();
            labels.all(|(key, value)| endpoint.labels.get(key) == Some(value))
        };
        let count = service.endpoints.iter().filter(has).count();
        let labels: Vec<_> = subset
            .labels
            .iter()
            .map(|(k, v)| format!("{k}: {v}"))
            .collect();
        let labels = labels.join(", ");
        match count {
            0 => format!("{} {{{labels}}}: no workload", subset.name),
            1 => format!("{} {{{labels}}}: 1 workload", subset.name),
            n => format!("{} {{{labels}}}: {n} workloads", subset.name),
        }
    });
    ServiceText {
        host: service.host.to_string(),
        source: at(&service.meta),
        ports: (service.ports().iter())
            .map(|port| match port.target_port {
                Some(target) => format!(
                    "{} {} → {target} {:?}",
                    port.number, port.name, port.protocol
                ),
                None => format!("{} {} {:?}", port.number, port.name, port.protocol),
            })
            .collect(),
        endpoints: endpoints(index, service),
        nobody: match service.spec.resolution {
            Resolution::Static => "none: requests get 503",
            Resolution::Dns | Resolution::DnsRoundRobin => "its name, which proxies look up",
            Resolution::OfClient => "those that clients connect to",
            Resolution::DynamicDns => "the hosts that requests name, which proxies look up",
        },
        destination_rules: covering.map(|rule| at(&rule.meta)).collect(),
        subsets: subsets.collect(),
        routes: rules::routes(index, service),
        exposed_by: rules::exposed(index, service),
    }
}

/// Addresses, with the names of those that have some.
fn endpoints(index: &Index, service: &Service) -> Vec<String> {
    let described = index.described();
    let show = |endpoint: &periplus_resources::WorkloadEntry| {
        let port = service
            .ports()
            .first()
            .map(|port| endpoint.target_port(port));
        let address = match port {
            Some(port) => format!("{}:{port}", endpoint.address),
            None => endpoint.address.to_string(),
        };
        let mut named = described.iter().filter(|one| {
            Some(one.proxy.ip) == endpoint.address.ip()
                && one.proxy.labels == endpoint.labels
                && one.ports == endpoint.ports
        });
        match named.next() {
            Some(workload) => format!("{address} {}", workload.name()),
            None => address,
        }
    };
    service.endpoints.iter().map(show).collect()
}

fn workload_text(index: &Index, workload: &Workload) -> WorkloadText {
    let proxy = &workload.proxy;
    let serves = |service: &&Service| {
        service.endpoints.iter().any(|endpoint| {
            endpoint.address.ip() == Some(proxy.ip)
                && endpoint.labels == proxy.labels
                && endpoint.ports == workload.ports
        })
    };
    let asked = |port| {
        let (mutual_tls, by) = index.mutual_tls(proxy, port);
        match by {
            Some(meta) => format!("{} by {}", mode(mutual_tls), at(meta)),
            None => mode(mutual_tls).to_owned(),
        }
    };
    let mut mutual_tls: Vec<String> = (workload.ports.iter())
        .map(|(name, port)| format!("{port} {name}: {}", asked(*port)))
        .collect();
    if mutual_tls.is_empty() {
        mutual_tls.push(asked(0));
    }
    WorkloadText {
        name: workload.name(),
        source: at(&workload.meta),
        address: proxy.ip.to_string(),
        labels: proxy.labels.clone(),
        service_account: workload.service_account.clone(),
        services: index
            .services()
            .filter(serves)
            .map(|service| service.host.to_string())
            .collect(),
        sidecar: index.sidecar_for(proxy).map(|entry| at(&entry.meta)),
        mutual_tls,
        request_authentications: (index.request_authentications_of(proxy))
            .map(issuers)
            .collect(),
        policies: policies(index, proxy),
        tracing: match index.traced(proxy) {
            Some((provider, percent)) => {
                format!("{percent} % to `{}` ({})", provider.name, provider.service)
            }
            None => "off: periplus doctor tracing tells why".to_owned(),
        },
    }
}

/// Whose tokens are checked.
fn issuers(entry: &Entry<RequestAuthentication>) -> String {
    let rules = entry.spec.rules.iter();
    let issuers: Vec<_> = rules.map(|rule| rule.issuer.as_str()).collect();
    match issuers.is_empty() {
        true => at(&entry.meta),
        false => format!("{} by {}", issuers.join(", "), at(&entry.meta)),
    }
}

impl Description {
    fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<16} {value}");
        };
        let mut list = |name: &str, values: &[String]| {
            for (at, value) in values.iter().enumerate() {
                line(if at == 0 { name } else { "" }, value);
            }
        };
        let one = |text: &str| [text.to_owned()];
        if let Some(service) = &self.service {
            list("Service", &one(&service.host));
            list("written in", &one(&service.source));
            list("ports", &service.ports);
            match service.endpoints.is_empty() {
                true => list("endpoints", &one(service.nobody)),
                false => list("endpoints", &service.endpoints),
            }
            list("DestinationRule", &service.destination_rules);
            list("subsets", &service.subsets);
            list("routes", &service.routes);
            list("exposed by", &service.exposed_by);
        }
        if let Some(workload) = &self.workload {
            list("Workload", &one(&workload.name));
            list("written in", &one(&workload.source));
            list("address", &one(&workload.address));
            let labels: Vec<_> = workload
                .labels
                .iter()
                .map(|(k, v)| format!("{k}: {v}"))
                .collect();
            list("labels", &one(&labels.join(", ")));
            list("account", &one(&workload.service_account));
            list("services", &workload.services);
            list("Sidecar", workload.sidecar.as_slice());
            list("mutual TLS", &workload.mutual_tls);
            list("tokens", &workload.request_authentications);
            let policies = workload.policies.iter();
            let policies =
                policies.map(|one| format!("{} {} ({})", one.action, one.policy, one.source));
            list("policies", &policies.collect::<Vec<_>>());
            list("tracing", &one(&workload.tracing));
        }
        let findings = self.findings.iter().map(|finding| finding.line(style));
        let findings: String = findings.collect();
        if findings.is_empty() {
            return text;
        }
        format!(
            "{text}{}\n{findings}",
            style.paint(Tone::Strong, "Findings")
        )
    }
}
