use std::net::IpAddr;

use crate::host::Host;
use crate::meta::{ExportTo, Labels, read_selector};
use crate::port::{Port, Protocol};
use crate::view::{Shape, View, first_duplicate};
use crate::workload::WorkloadEntry;

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its names; each is a service of its own.
    pub hosts: Vec<Host>,
    /// Virtual addresses that are routed like its names.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it is part of the mesh.
    pub location: Location,
    /// Who serves it.
    pub endpoints: Endpoints,
    /// Who sees it.
    pub export_to: ExportTo,
}

/// `location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// `MESH_EXTERNAL`: no sidecars there.
    External,
    /// `MESH_INTERNAL`.
    Internal,
}

/// Who serves a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// The workloads of its namespace with these labels.
    Selected(Labels),
    /// These.
    Listed(Vec<WorkloadEntry>),
}

const SERVICE_ENTRY: Shape = Shape {
    known: &[
        "hosts",
        "addresses",
        "ports",
        "location",
        "resolution",
        "endpoints",
        "workloadSelector",
        "exportTo",
    ],
    refused: &[(
        "subjectAltNames",
        "there is no TLS between proxies yet, remove it",
    )],
};

impl ServiceEntry {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&SERVICE_ENTRY)?;

        let host_views = object.require("hosts").map(View::items).unwrap_or_default();
        let hosts: Vec<_> = host_views.iter().filter_map(View::host).collect();
        if let Some(wildcard) = hosts.iter().find(|host| host.is_wildcard()) {
            object.fail(format!(
                "`{wildcard}`: a service with STATIC endpoints needs a full name, not a wildcard"
            ));
        }
        if object.get("hosts").is_some() && host_views.is_empty() {
            object.fail("`hosts` must name at least one host");
        }
        if let Some(host) = first_duplicate(&hosts, Clone::clone) {
            object.fail(format!("host `{host}` is listed twice"));
        }

        let ports = object.require("ports").map(View::items).unwrap_or_default();
        let ports: Vec<_> = ports
            .iter()
            .filter_map(|view| Port::read(view, &Protocol::OF_SERVERS))
            .collect();
        if let Some(port) = first_duplicate(&ports, |port| port.number) {
            object.fail(format!("port {} is listed twice", port.number));
        }
        if let Some(port) = first_duplicate(&ports, |port| port.name.clone()) {
            object.fail(format!("two ports are named `{}`", port.name));
        }

        read_resolution(object.require("resolution")?);
        let location = match object.get("location") {
            Some(location) => location.choice(&[
                ("MESH_EXTERNAL", Location::External),
                ("MESH_INTERNAL", Location::Internal),
            ])?,
            None => Location::External,
        };
        let addresses = object.items("addresses");

        let endpoints = match (object.get("endpoints"), object.get("workloadSelector")) {
            (Some(_), Some(_)) => {
                object.fail("`endpoints` and `workloadSelector` exclude each other");
                return None;
            }
            (Some(endpoints), None) => {
                let items = endpoints.items();
                let items: Vec<_> = items.iter().filter_map(WorkloadEntry::read).collect();
                check_port_names(endpoints, &items, &ports);
                Endpoints::Listed(items)
            }
            (None, Some(selector)) => Endpoints::Selected(read_selector(selector)?),
            (None, None) => Endpoints::Listed(Vec::new()),
        };
        Some(Self {
            hosts,
            addresses: addresses.iter().filter_map(View::ip).collect(),
            ports,
            location,
            endpoints,
            export_to: ExportTo::read(&object),
        })
    }
}

fn read_resolution(view: &View<'_>) {
    let refuse = |what| {
        Some(format!(
            "resolution {what}, use STATIC with `endpoints` or `workloadSelector`"
        ))
    };
    let refusal = view.choice(&[
        ("STATIC", None),
        (
            "NONE",
            Some("NONE needs traffic interception, which is not supported yet"),
        ),
        ("DNS", Some("DNS is not supported yet")),
        (
            "DNS_ROUND_ROBIN",
            Some("DNS_ROUND_ROBIN is not supported yet"),
        ),
        ("DYNAMIC_DNS", Some("DYNAMIC_DNS is not supported yet")),
    ]);
    if let Some(message) = refusal.flatten().and_then(refuse) {
        view.fail(message);
    }
}

fn check_port_names(view: &View<'_>, endpoints: &[WorkloadEntry], ports: &[Port]) {
    for name in endpoints.iter().flat_map(|endpoint| endpoint.ports.keys()) {
        if !ports.iter().any(|port| port.name == *name) {
            let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            view.fail(format!(
                "an endpoint gives port `{name}`, which the service does not have{}",
                crate::suggest::hint(name, &names)
            ));
        }
    }
}
