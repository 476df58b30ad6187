use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::host::Host;
use crate::locality::Locality;
use crate::meta::Labels;
use crate::port::Port;
use crate::view::{Shape, View};

/// Where a workload runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// There.
    Ip(IpAddr),
    /// Where DNS says.
    Name(Host),
}

/// A workload: one address that serves the ports of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// The workload's name; empty if nobody says it.
    pub name: String,
    /// Where it runs.
    pub address: Address,
    /// Its ports, by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    /// Its labels: what services select and subsets tell apart.
    pub labels: Labels,
    /// Its weight in load balancing; 1 when it does not say.
    pub weight: u32,
    /// The account that it runs as.
    pub service_account: String,
    /// `locality`, if it is said.
    pub locality: Option<Locality>,
    /// The machine that it runs on, if it is Kubernetes'.
    pub machine: Option<String>,
}

const WORKLOAD: Shape = Shape {
    known: &[
        "address",
        "ports",
        "labels",
        "weight",
        "serviceAccount",
        "locality",
    ],
    refused: &[("network", "there is one network only, remove it")],
};

impl Address {
    /// The address, if it is known.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

fn read_address(view: &View<'_>) -> Option<Address> {
    let text = view.text()?;
    if let Ok(ip) = text.parse() {
        return Some(Address::Ip(ip));
    }
    if text.starts_with("unix:") {
        view.fail("proxies do not connect to sockets of Unix, give an IP address or a name");
        return None;
    }
    match Host::parse(&text) {
        Ok(name) if !name.is_wildcard() && !looks_like_ip(&text) => Some(Address::Name(name)),
        _ => {
            view.fail(format!("`{text}` is neither an IP address nor a name"));
            None
        }
    }
}

/// Names end in a label that is no number.
fn looks_like_ip(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
}

impl WorkloadEntry {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&WORKLOAD)?;
        let address = object.require("address").and_then(read_address);
        let mut ports = BTreeMap::new();
        if let Some(view) = object.get("ports") {
            for (key, port) in view.entries() {
                ports.insert(key.text.clone(), port.port()?);
            }
        }
        let weight = match object.get("weight") {
            Some(weight) => weight.number(0, 1 << 24)?,
            None => 1,
        };
        let service_account = object
            .optional("serviceAccount", View::text)?
            .unwrap_or_default();
        Some(Self {
            name: String::new(),
            address: address?,
            ports,
            labels: object.get("labels").map(View::text_map).unwrap_or_default(),
            // As in Istio, where 0 cannot be told from not saying.
            weight: u32::try_from(weight).ok()?.max(1),
            service_account,
            locality: object
                .optional("locality", |view| Some(Locality::parse(&view.some_text()?)))?,
            machine: None,
        })
    }

    /// Where it runs, as far as that is known.
    pub fn locality(&self) -> Locality {
        let of_labels = || Locality::of_labels(&self.labels);
        self.locality.clone().unwrap_or_else(of_labels)
    }

    /// The port on which it serves a service's port.
    pub fn target_port(&self, port: &Port) -> u16 {
        let own = self.ports.get(&port.name).copied();
        own.or(port.target_port).unwrap_or(port.number)
    }
}
