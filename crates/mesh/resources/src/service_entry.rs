use std::net::IpAddr;
use std::sync::Arc;

use crate::authorization::parse_block;
use crate::host::Host;
use crate::meta::{ExportTo, Labels, read_selector};
use crate::port::{Port, Protocol};
use crate::view::{Object, Shape, View, first_duplicate, first_repeated};
use crate::workload::WorkloadEntry;

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its names; each is a service of its own.
    pub hosts: Vec<Host>,
    /// Virtual addresses that are routed like its names.
    pub addresses: Vec<IpAddr>,
    /// Blocks of them, each with how many bits are given: those of connections, as no request names one.
    pub subnets: Vec<(IpAddr, u8)>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it is part of the mesh.
    pub location: Location,
    /// How the addresses of those who serve it are known.
    pub resolution: Resolution,
    /// Who serves it.
    pub endpoints: Endpoints,
    /// Who sees it.
    pub export_to: ExportTo,
    /// Names that its workloads may show, besides those of their accounts.
    pub names: Vec<String>,
    /// What is looked up in place of its own name: `externalName` of Kubernetes.
    pub alias: Option<Host>,
}

/// `location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// `MESH_EXTERNAL`: no sidecars there.
    External,
    /// `MESH_INTERNAL`.
    Internal,
}

/// `resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `STATIC`: its endpoints tell.
    Static,
    /// `DNS`: its endpoints tell, of which names are looked up, or else its own name is.
    Dns,
    /// `DNS_ROUND_ROBIN`: the same, and each new connection goes to the address that was found last.
    DnsRoundRobin,
    /// `NONE`: each client knows where to go, so that only intercepted connections get there.
    OfClient,
    /// `DYNAMIC_DNS`: proxies look the name up that each request or handshake asks for, of those that its wildcard covers.
    DynamicDns,
}

/// Who serves a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// The workloads of its namespace with these labels.
    Selected(Labels),
    /// These.
    Listed(Arc<[WorkloadEntry]>),
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
        "subjectAltNames",
    ],
    refused: &[],
};

impl Resolution {
    /// Whether endpoints may be names, which proxies look up.
    pub fn is_dns(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
}

impl ServiceEntry {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&SERVICE_ENTRY)?;

        let host_views = object.require("hosts").map(View::items).unwrap_or_default();
        let hosts: Vec<_> = host_views.iter().filter_map(View::host).collect();
        if object.get("hosts").is_some() && host_views.is_empty() {
            object.fail("`hosts` must name at least one host");
        }
        if let Some(host) = first_repeated(&hosts) {
            object.fail(format!("host `{host}` is listed twice"));
        }

        let ports = object.require("ports").map(View::items).unwrap_or_default();
        let ports: Vec<_> = ports
            .iter()
            .filter_map(|view| Port::read(view, &Protocol::OF_SERVICES))
            .collect();
        if let Some(port) = first_duplicate(&ports, |port| port.number) {
            object.fail(format!("port {} is listed twice", port.number));
        }
        if let Some(port) = first_duplicate(&ports, |port| port.name.clone()) {
            object.fail(format!("two ports are named `{}`", port.name));
        }

        // As in Istio, where nobody says it.
        let resolution = object.optional("resolution", read_resolution)?;
        let resolution = resolution.unwrap_or(Resolution::OfClient);
        check_hosts(&object, &hosts, resolution);
        let location = match object.get("location") {
            Some(location) => location.choice(&[
                ("MESH_EXTERNAL", Location::External),
                ("MESH_INTERNAL", Location::Internal),
            ])?,
            None => Location::External,
        };
        let mut addresses = Vec::new();
        let mut subnets = Vec::new();
        for view in object.items("addresses") {
            let text = view.text()?;
            match text.contains('/').then(|| parse_block(&text)) {
                None => addresses.extend(view.ip()),
                Some(None) => view.fail(format!("`{text}` is no address, nor ADDRESS/LENGTH")),
                Some(_) if resolution.is_dns() => view.fail(format!(
                    "`{text}`: only a service with resolution NONE or STATIC may have blocks of addresses"
                )),
                Some(Some(block)) => subnets.push(block),
            }
        }

        let endpoints = match (object.get("endpoints"), object.get("workloadSelector")) {
            (Some(_), Some(_)) => {
                object.fail("`endpoints` and `workloadSelector` exclude each other");
                return None;
            }
            (Some(endpoints), None) => {
                let items = endpoints.items();
                let items: Vec<_> = items.iter().filter_map(WorkloadEntry::read).collect();
                check_port_names(endpoints, &items, &ports);
                check_addresses(endpoints, &items, resolution);
                Endpoints::Listed(items.into())
            }
            (None, Some(selector)) => Endpoints::Selected(read_selector(selector)?),
            (None, None) => Endpoints::Listed([].into()),
        };
        let has_endpoints =
            object.get("endpoints").is_some() || object.get("workloadSelector").is_some();
        if resolution == Resolution::OfClient && has_endpoints {
            object.fail("with resolution NONE nobody chooses an endpoint, remove them");
        }
        if resolution == Resolution::DynamicDns {
            check_looked_up(&object, &ports, has_endpoints);
        }
        let names = object.items("subjectAltNames");
        Some(Self {
            alias: None,
            names: names.iter().map(View::some_text).collect::<Option<_>>()?,
            hosts,
            resolution,
            addresses,
            subnets,
            ports,
            location,
            endpoints,
            export_to: ExportTo::read(&object),
        })
    }
}

fn read_resolution(view: &View<'_>) -> Option<Resolution> {
    view.choice(&[
        ("STATIC", Resolution::Static),
        ("NONE", Resolution::OfClient),
        ("DNS", Resolution::Dns),
        ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
        ("DYNAMIC_DNS", Resolution::DynamicDns),
    ])
}

fn check_hosts(object: &Object<'_>, hosts: &[Host], resolution: Resolution) {
    let wildcard = hosts.iter().find(|host| host.is_wildcard());
    match resolution {
        Resolution::OfClient => {}
        Resolution::DynamicDns => {
            if let Some(host) = hosts.iter().find(|host| !host.is_wildcard()) {
                object.fail(format!(
                    "`{host}`: a service with resolution DYNAMIC_DNS has wildcards for names, use DNS"
                ));
            }
            if hosts.iter().any(|host| host.as_str() == "*") {
                object.fail(
                    "`*`: all names are for `outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}` of the mesh \
                     configuration, write a wildcard such as `*.example.org`",
                );
            }
        }
        Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => {
            if let Some(wildcard) = wildcard {
                object.fail(format!(
                    "`{wildcard}`: only a service with resolution NONE or DYNAMIC_DNS may have a wildcard for a name"
                ));
            }
        }
    }
}

/// Connections go to the name and the port that they ask for, and to nothing that a resource gives.
fn check_looked_up(object: &Object<'_>, ports: &[Port], has_endpoints: bool) {
    if object.get("addresses").is_some() {
        object.fail(
            "with resolution DYNAMIC_DNS requests are told by their names, remove `addresses`",
        );
    }
    if has_endpoints {
        object.fail("with resolution DYNAMIC_DNS names are the endpoints, remove those given");
    }
    for port in ports {
        let name = &port.name;
        if matches!(port.protocol, Protocol::Tcp | Protocol::Detected) {
            object.fail(format!(
                "port `{name}`: with resolution DYNAMIC_DNS the protocol is one that says the name, which are `HTTP`, \
                 `HTTP2`, `GRPC` and `TLS`"
            ));
        }
        if port.target_port.is_some() {
            object.fail(format!(
                "port `{name}`: with resolution DYNAMIC_DNS connections go to the port that is asked for, remove \
                 `targetPort`"
            ));
        }
    }
}

fn check_addresses(view: &View<'_>, endpoints: &[WorkloadEntry], resolution: Resolution) {
    let name = endpoints.iter().find(|one| one.address.ip().is_none());
    match resolution {
        Resolution::Static => {
            if let Some(one) = name {
                view.fail(format!(
                    "`{}` is no IP address: names are looked up with resolution DNS",
                    one.address
                ));
            }
        }
        Resolution::DnsRoundRobin if endpoints.len() > 1 => {
            view.fail("with resolution DNS_ROUND_ROBIN there is one endpoint at most, use DNS");
        }
        // The last two have none at all.
        Resolution::Dns
        | Resolution::DnsRoundRobin
        | Resolution::OfClient
        | Resolution::DynamicDns => {}
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
