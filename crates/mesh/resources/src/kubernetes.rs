//! Kubernetes' own objects, as far as a mesh goes by them. Whatever else they say is for Kubernetes, whose API server
//! has checked it: other fields are passed over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::Host;
use crate::meta::{ExportTo, Labels, Meta};
use crate::port::{Port, Protocol};
use crate::view::{Ignored, View};

/// `v1` Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesService {
    /// Its virtual addresses; none if it is headless.
    pub addresses: Vec<IpAddr>,
    /// Its ports of TCP; others are not the mesh's.
    pub ports: Vec<Port>,
    /// The names of workloads' ports behind its own ports, by these ports' names.
    pub target_names: BTreeMap<String, String>,
    /// The labels of its workloads; without them EndpointSlices tell.
    pub selector: Option<Labels>,
    /// `clusterIP: None`: clients choose a workload themselves.
    pub is_headless: bool,
    /// `type: ExternalName`: the name that it stands for.
    pub external_name: Option<Host>,
    /// Workloads that are not ready are among its endpoints too.
    pub publishes_unready: bool,
    /// The annotation `networking.istio.io/exportTo`.
    pub export_to: ExportTo,
    /// `trafficDistribution`: which endpoints are preferred.
    pub traffic_distribution: Option<String>,
    /// `internalTrafficPolicy: Local`: only workloads on the client's machine serve it.
    pub is_of_machine: bool,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The service that it belongs to (`kubernetes.io/service-name`); none without the label.
    pub service: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Their ports, by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its first address: the others stand for the same pod.
    pub address: IpAddr,
    /// `conditions.ready`, which is true unless it is said.
    pub is_ready: bool,
    /// `conditions.terminating`: if it is not ready, that is for good.
    pub is_ending: bool,
    /// The pod that it is, if it is one.
    pub pod: Option<String>,
    /// `nodeName`: the machine that it runs on.
    pub node: Option<String>,
    /// `zone`: where that is.
    pub zone: Option<String>,
}

/// `v1` Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `status.podIP`: none before it runs.
    pub address: Option<IpAddr>,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// The numbers of its containers' ports that have names.
    pub ports: BTreeMap<String, u16>,
    /// `spec.nodeName`: the machine that it runs on.
    pub node: Option<String>,
    /// Its condition `Ready`; a pod without conditions that has an address is ready.
    pub is_ready: bool,
}

/// `v1` ConfigMap, of which certificates are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// The key `ca.crt`: certificates of authorities in PEM.
    pub authorities: Option<String>,
}

impl ConfigMap {
    pub(crate) fn read(document: &View<'_>) -> Self {
        let data = document.loose("data");
        let authorities = data.and_then(|data| data.loose("ca.crt")?.text());
        Self { authorities }
    }
}

impl KubernetesService {
    pub(crate) fn read(spec: &View<'_>, meta: &Meta, ignored: &mut Vec<Ignored>) -> Option<Self> {
        let items = spec.loose("ports").map(|view| view.items());
        let mut ports = Vec::new();
        let mut target_names = BTreeMap::new();
        for port in items.unwrap_or_default() {
            let Some((port, target)) = read_port(&port)? else {
                continue;
            };
            if let Some(target) = target {
                target_names.insert(port.name.clone(), target);
            }
            ports.push(port);
        }
        let kind = spec.loose("type").and_then(|view| view.text());
        let external = match kind.as_deref() {
            Some("ExternalName") => Some(spec.loose("externalName")),
            _ => None,
        };
        let external_name = match external {
            None => None,
            Some(Some(name)) => Some(name.host()?),
            Some(None) => {
                spec.fail("missing field `externalName`, which `type: ExternalName` needs");
                return None;
            }
        };
        let first = spec.loose("clusterIP");
        let several = spec.loose("clusterIPs").map(|view| view.items());
        let mut texts: Vec<View<'_>> = several.unwrap_or_default();
        if texts.is_empty() {
            texts.extend(first);
        }
        let is_headless = texts
            .iter()
            .any(|view| view.text().as_deref() == Some("None"));
        let addresses = match is_headless {
            true => Vec::new(),
            false => texts
                .iter()
                .filter(|view| !view.is_empty_text())
                .filter_map(View::ip)
                .collect(),
        };
        let selector = spec.loose("selector").map(|view| view.text_map());
        let says = |name, value: &str| {
            let view = spec.loose(name)?;
            view.text()
                .is_some_and(|text| text == value)
                .then_some(view)
        };
        let affinity = says("sessionAffinity", "ClientIP");
        ignored.extend(affinity.map(|view| {
            view.ignored(
                "as in Istio, clients do not stay with an endpoint by it: use `consistentHash.useSourceIp` of a \
                 DestinationRule, or the label `istio.io/persistent-session`",
            )
        }));
        Some(Self {
            addresses,
            ports,
            target_names,
            selector: selector.filter(|selector| !selector.is_empty()),
            is_headless,
            external_name,
            publishes_unready: spec
                .loose("publishNotReadyAddresses")
                .is_some_and(|view| view.bool() == Some(true)),
            export_to: export_to(meta),
            traffic_distribution: spec
                .loose("trafficDistribution")
                .and_then(|view| view.text()),
            is_of_machine: says("internalTrafficPolicy", "Local").is_some(),
        })
    }
}

/// A port, and the name of the workloads' port; nothing if it is not of TCP.
fn read_port(view: &View<'_>) -> Option<Option<(Port, Option<String>)>> {
    let transport = view.loose("protocol").and_then(|view| view.text());
    if transport.is_some_and(|transport| transport != "TCP") {
        return Some(None);
    }
    let Some(number) = view.loose("port") else {
        view.fail("missing field `port`");
        return None;
    };
    let number = number.port()?;
    let name = view.loose("name").and_then(|view| view.text());
    let application = view.loose("appProtocol").and_then(|view| view.text());
    let protocol = Protocol::of_service(application.as_deref(), name.as_deref(), number);
    let (mut target_port, mut target_name) = (None, None);
    if let Some(target) = view.loose("targetPort") {
        match target.is_number() {
            true => target_port = Some(target.port()?),
            false => target_name = Some(target.some_text()?),
        }
    }
    let port = Port {
        number,
        name: name.unwrap_or_else(|| number.to_string()),
        protocol,
        target_port: target_port.filter(|target| *target != number),
    };
    Some(Some((port, target_name)))
}

fn export_to(meta: &Meta) -> ExportTo {
    let Some(text) = meta.annotations.get("networking.istio.io/exportTo") else {
        return ExportTo::Unsaid;
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().any(|name| name == "*") {
        true => ExportTo::All,
        false => ExportTo::Namespaces(names.into_iter().filter(|name| name != "~").collect()),
    }
}

impl EndpointSlice {
    pub(crate) fn read(
        document: &View<'_>,
        meta: &Meta,
        ignored: &mut Vec<Ignored>,
    ) -> Option<Self> {
        let kind = document.loose("addressType");
        let is_name = |view: &View<'_>| view.text().is_some_and(|kind| kind == "FQDN");
        let of_names = kind.filter(is_name);
        ignored.extend(of_names.iter().map(|kind| {
            kind.ignored("as in Istio, endpoints that are names are those of ServiceEntries")
        }));
        let items = |name| document.loose(name).map(|view| view.items());
        let endpoints = items("endpoints").unwrap_or_default();
        let hints = endpoints.iter().find_map(|view| view.loose("hints"));
        ignored.extend(hints.map(|hints| {
            hints.ignored(
                "as in Istio, who is near is told by where endpoints run: `trafficDistribution` of their Service, or \
                 `localityLbSetting`",
            )
        }));
        let endpoint = |view: &View<'_>| {
            let addresses = view.loose("addresses").map(|view| view.items())?;
            let conditions = view.loose("conditions");
            let is = |name| conditions.as_ref()?.loose(name)?.bool();
            let target = view.loose("targetRef");
            let is_pod = target
                .as_ref()
                .and_then(|view| view.loose("kind")?.text())
                .is_some_and(|kind| kind == "Pod");
            let name = target.and_then(|view| view.loose("name")?.text());
            Some(SliceEndpoint {
                address: addresses.first()?.ip()?,
                is_ready: is("ready") != Some(false),
                is_ending: is("terminating") == Some(true),
                pod: name.filter(|_| is_pod),
                node: view.loose("nodeName").and_then(|view| view.text()),
                zone: view.loose("zone").and_then(|view| view.text()),
            })
        };
        let ports = items("ports").unwrap_or_default();
        let port = |view: &View<'_>| {
            let name = view.loose("name").and_then(|view| view.text());
            let number = view.loose("port")?.port()?;
            Some((name.filter(|name| !name.is_empty()), number))
        };
        let ports = ports.iter().filter_map(port);
        Some(Self {
            service: meta.labels.get("kubernetes.io/service-name").cloned(),
            endpoints: match of_names {
                None => endpoints.iter().filter_map(endpoint).collect(),
                Some(_) => Vec::new(),
            },
            ports: ports
                .map(|(name, number)| (name.unwrap_or_default(), number))
                .collect(),
        })
    }
}

impl Pod {
    pub(crate) fn read(spec: &View<'_>, status: Option<&View<'_>>) -> Option<Self> {
        let address = status.and_then(|status| status.loose("podIP"));
        let items = |name| {
            spec.loose(name)
                .map(|view| view.items())
                .unwrap_or_default()
        };
        // Those that come first stay if they are sidecars.
        let stays = |view: &View<'_>| {
            let policy = view.loose("restartPolicy").and_then(|view| view.text());
            policy.as_deref() == Some("Always")
        };
        let first = items("initContainers").into_iter().filter(stays);
        let mut ports = BTreeMap::new();
        for container in items("containers").into_iter().chain(first) {
            let items = container.loose("ports").map(|view| view.items());
            for port in items.unwrap_or_default() {
                let name = port.loose("name").and_then(|view| view.text());
                let number = port.loose("containerPort").and_then(|view| view.port());
                ports.extend(name.zip(number));
            }
        }
        let conditions = status.and_then(|status| status.loose("conditions"));
        let conditions = conditions.map(|view| view.items()).unwrap_or_default();
        let text = |view: &View<'_>, name| view.loose(name).and_then(|view| view.text());
        let ready = conditions
            .iter()
            .find(|view| text(view, "type").as_deref() == Some("Ready"));
        Some(Self {
            address: match address {
                Some(address) => Some(address.ip()?),
                None => None,
            },
            service_account: text(spec, "serviceAccountName")
                .or_else(|| text(spec, "serviceAccount"))
                .unwrap_or_else(|| "default".to_owned()),
            ports,
            node: text(spec, "nodeName"),
            is_ready: ready.is_none_or(|view| text(view, "status").as_deref() == Some("True")),
        })
    }
}
