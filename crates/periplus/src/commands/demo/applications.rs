//! The services of Bookinfo.

use periplus_bookinfo::{Environment, Role};
use periplus_local::{Mesh, Part, Probe, Workload};

use crate::commands::local::parts::Maker;
use crate::commands::local::state::local;

/// Variables that Bookinfo heeds: those of whoever runs the demo are not meant for it.
const FOREIGN: [&str; 14] = [
    "SERVICES_DOMAIN",
    "DETAILS_HOSTNAME",
    "DETAILS_SERVICE_PORT",
    "REVIEWS_HOSTNAME",
    "REVIEWS_SERVICE_PORT",
    "RATINGS_HOSTNAME",
    "RATINGS_SERVICE_PORT",
    "FLOOD_FACTOR",
    "ENABLE_EXTERNAL_BOOK_SERVICE",
    "ENABLE_RATINGS",
    "STAR_COLOR",
    "CLUSTER_NAME",
    "BOOKINFO_DROP_HEADERS",
    "no_proxy",
];

/// One for each workload; those of these roles forget the tracing headers.
pub(super) fn all(maker: &Maker<'_>, mesh: &Mesh, forgetful: &[Role]) -> anyhow::Result<Vec<Part>> {
    let one = |workload| application(maker, mesh, workload, forgetful);
    mesh.workloads.iter().map(one).collect()
}

fn application(
    maker: &Maker<'_>,
    mesh: &Mesh,
    workload: &Workload,
    forgetful: &[Role],
) -> anyhow::Result<Part> {
    let role: Role = workload.app.parse()?;
    let ports = mesh.ports.workloads[&workload.name];
    let arguments = [
        "bookinfo",
        role.name(),
        "--port",
        &ports.app.to_string(),
        "--version",
        &workload.version,
    ];
    let ready = Probe::Http {
        address: local(ports.app),
        path: "/health".to_owned(),
    };
    let arguments = arguments.map(str::to_owned).to_vec();
    let mut part = maker.part(&workload.name, arguments, ready, &[]);

    let own = role.with_version(&workload.version, Environment::default())?;
    let foreign = FOREIGN.iter().map(|&name| (name, ""));
    part.environment = foreign
        .chain(own.iter())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let proxy = format!("http://127.0.0.1:{}", ports.outbound);
    part.environment.push(("http_proxy".to_owned(), proxy));
    if forgetful.contains(&role) {
        let switch = ("BOOKINFO_DROP_HEADERS".to_owned(), "1".to_owned());
        part.environment.push(switch);
    }
    Ok(part)
}
