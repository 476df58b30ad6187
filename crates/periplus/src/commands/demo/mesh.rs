//! Bookinfo as a mesh.

use std::collections::BTreeMap;

use periplus_bookinfo::Role;
use periplus_local::{Mesh, PlanError, PortPlan, Workload};

/// The port that callers use, of every service.
const SERVICE_PORT: u16 = 9080;

/// Six workloads: one of each service, and three versions of reviews.
pub(crate) fn bookinfo(port_base: Option<u16>) -> Result<Mesh, PlanError> {
    let workloads: Vec<Workload> = [
        (Role::Productpage, "v1"),
        (Role::Details, "v1"),
        (Role::Reviews, "v1"),
        (Role::Reviews, "v2"),
        (Role::Reviews, "v3"),
        (Role::Ratings, "v1"),
    ]
    .into_iter()
    .map(|(role, version)| Workload {
        name: format!("{role}-{version}"),
        app: role.name().to_owned(),
        version: version.to_owned(),
        service_account: format!("bookinfo-{role}"),
        service_port: SERVICE_PORT,
        instance: None,
        annotations: BTreeMap::new(),
    })
    .collect();
    let names = workloads.iter().map(|workload| workload.name.as_str());
    Ok(Mesh {
        namespace: "default".to_owned(),
        ports: PortPlan::new(port_base, names)?,
        workloads,
    })
}
