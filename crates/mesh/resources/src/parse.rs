use std::sync::Arc;

use crate::authentication::RequestAuthentication;
use crate::authorization::AuthorizationPolicy;
use crate::destination_rule::DestinationRule;
use crate::diagnostic::{Diagnostic, Position};
use crate::gateway::Gateway;
use crate::gateway_api;
use crate::ingress::KubernetesIngress;
use crate::kind::Kind;
use crate::kubernetes::{ConfigMap, EndpointSlice, KubernetesService, Pod};
use crate::mesh_config::{MeshConfig, ProxyConfig, ProxyTracing, read_proxy_config};
use crate::meta::{Labels, Meta, Source, read_meta};
use crate::node::{Node, read_documents};
use crate::peer_authentication::PeerAuthentication;
use crate::refused::Refused;
use crate::secret::Secret;
use crate::service_entry::ServiceEntry;
use crate::sidecar::Sidecar;
use crate::suggest::{hint, list};
use crate::telemetry::Telemetry;
use crate::view::{Ignored, Log, Object, Shape, View};
use crate::virtual_service::VirtualService;
use crate::workload::WorkloadEntry;

/// A file longer than this is refused unread.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Why the addresses that Istio allots to services without any are of no use.
const ALLOTTED: &str =
    "proxies answer no questions about names, so that no client learns it: write `addresses`";

/// A typed and valid resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name and origin.
    pub meta: Meta,
    /// What it says.
    pub spec: Spec,
    /// What it says that changes nothing.
    pub ignored: Vec<Ignored>,
}

/// What a resource says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is named for the type that it holds"
)]
pub enum Spec {
    ServiceEntry(ServiceEntry),
    WorkloadEntry(WorkloadEntry),
    Sidecar(Sidecar),
    VirtualService(VirtualService),
    DestinationRule(Box<DestinationRule>),
    Gateway(Gateway),
    AuthorizationPolicy(AuthorizationPolicy),
    PeerAuthentication(PeerAuthentication),
    RequestAuthentication(RequestAuthentication),
    Telemetry(Telemetry),
    ProxyConfig,
    Service(KubernetesService),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    Namespace,
    Node,
    ServiceAccount,
    Deployment,
    GatewayClass(gateway_api::GatewayClass),
    ApiGateway(gateway_api::Gateway),
    Route(gateway_api::Route),
    ReferenceGrant(gateway_api::ReferenceGrant),
    BackendTlsPolicy(gateway_api::BackendTlsPolicy),
    Ingress(KubernetesIngress),
    ConfigMap(ConfigMap),
    Secret(Secret),
    /// Its kind, as it is written.
    Other(String),
}

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The valid resources, in the order of the file.
    pub resources: Vec<Resource>,
    /// What is wrong; empty when the whole file is good.
    pub errors: Vec<Diagnostic>,
    /// The documents that are wrong, in the order of the file; none if nothing could be read.
    pub refused: Vec<Refused>,
}

impl Parsed {
    /// Whether the file could not be told apart into documents.
    pub fn is_unreadable(&self) -> bool {
        !self.errors.is_empty() && self.refused.is_empty()
    }
}

/// Reads the YAML or JSON documents of a file.
///
/// Reading goes on after an error, so that all of them are reported at once.
pub fn parse_resources(file: &str, text: &str) -> Parsed {
    let log = Log::new(Arc::from(file));
    let mut resources = Vec::new();
    let mut refused = Vec::new();
    for document in read_text(text, &log) {
        let document = View::root(&document, &log);
        let errors = log.count();
        let listed = listed(&document);
        if log.count() > errors {
            refused.push(Refused::of(&document));
        }
        for view in listed.as_deref().unwrap_or(&[document]) {
            let errors = log.count();
            let resource = read_resource(view);
            match log.count() == errors {
                true => resources.extend(resource),
                false => refused.push(Refused::of(view)),
            }
        }
    }
    Parsed {
        resources,
        errors: log.into_diagnostics(),
        refused,
    }
}

/// Reads a file that holds Istio's `MeshConfig`, as in the key `mesh` of its ConfigMap.
///
/// # Errors
///
/// All that is wrong with the file.
pub fn parse_mesh_config(file: &str, text: &str) -> Result<MeshConfig, Vec<Diagnostic>> {
    let log = Log::new(Arc::from(file));
    let documents = read_text(text, &log);
    if let [_, second, ..] = documents.as_slice() {
        View::root(second, &log).fail("the mesh has one configuration, remove this document");
    }
    let config = match documents.first() {
        Some(document) => MeshConfig::read(&View::root(document, &log)),
        None => Some(MeshConfig::default()),
    };
    match (config, log.into_diagnostics()) {
        (Some(config), errors) if errors.is_empty() => Ok(config),
        (_, errors) => Err(errors),
    }
}

/// Reads the annotation `proxy.istio.io/config`: what holds for one proxy where another thing holds for all.
///
/// # Errors
///
/// All that is wrong with the text.
pub fn parse_proxy_config(
    text: &str,
    of_all: &ProxyTracing,
) -> Result<ProxyConfig, Vec<Diagnostic>> {
    let log = Log::new(Arc::from(""));
    let documents = read_text(text, &log);
    let of_all = of_all.clone();
    let config = match documents.first() {
        Some(document) => ProxyConfig::read(&View::root(document, &log), of_all),
        None => Some(ProxyConfig {
            tracing: of_all,
            ..ProxyConfig::default()
        }),
    };
    match (config, log.into_diagnostics()) {
        (Some(config), errors) if errors.is_empty() => Ok(config),
        (_, errors) => Err(errors),
    }
}

fn read_text(text: &str, log: &Log) -> Vec<Node> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        log.add(
            start,
            "",
            format!("the file is longer than {MAX_FILE_BYTES} bytes"),
        );
        return Vec::new();
    }
    match read_documents(text) {
        Ok(documents) => documents,
        Err((at, message)) => {
            log.add(at, "", message);
            Vec::new()
        }
    }
}

/// What stands in a `List`, as `kubectl get -o yaml` writes several resources.
fn listed<'a>(document: &View<'a>) -> Option<Vec<View<'a>>> {
    let is = |name, wanted: &str| {
        let view = document.loose(name).filter(View::is_text);
        view.and_then(|view| view.text())
            .is_some_and(|text| text == wanted)
    };
    let items = document.loose("items")?;
    (is("kind", "List") && is("apiVersion", "v1")).then(|| items.items())
}

/// What the mesh makes nothing of, whatever it says.
fn read_other(kind: String, view: &View<'_>) -> Option<Resource> {
    let metadata = view.loose("metadata")?;
    let text = |name| metadata.loose(name).filter(View::is_text)?.text();
    let meta = Meta {
        kind: Kind::Other,
        name: text("name")?,
        namespace: text("namespace").unwrap_or_else(|| "default".to_owned()),
        labels: Labels::new(),
        annotations: Labels::new(),
        created: None,
        generation: 0,
        source: Source {
            file: view.log().file(),
            position: view.at(),
        },
    };
    Some(Resource {
        meta,
        spec: Spec::Other(kind),
        ignored: Vec::new(),
    })
}

fn read_resource(view: &View<'_>) -> Option<Resource> {
    const DOCUMENT: Shape = Shape {
        known: &["apiVersion", "kind", "metadata", "spec", "status"],
        refused: &[],
    };
    let written = view.loose("kind").and_then(|kind| match kind.is_text() {
        true => kind.text(),
        false => None,
    });
    let version = view.loose("apiVersion").filter(View::is_text);
    let version = version
        .and_then(|version| version.text())
        .unwrap_or_default();
    if let Some(name) = &written {
        if Kind::is_other(name, &version) {
            return read_other(name.clone(), view);
        }
        if let Some(kind) = Kind::of(name, &version).filter(|kind| kind.is_of_kubernetes()) {
            return read_kubernetes(kind, view);
        }
    }
    let document = view.object(&DOCUMENT)?;
    let kind = document
        .require("kind")
        .and_then(|kind| read_kind(kind, &version))?;
    let version = document.require("apiVersion");
    version.and_then(|version| read_api_version(kind, version))?;
    let meta = read_meta(kind, &document)?;
    let mut ignored = Vec::new();
    let spec = read_spec(&meta, &document, &mut ignored)?;
    Some(Resource {
        meta,
        spec,
        ignored,
    })
}

/// An object of Kubernetes, whose fields are not all known here.
fn read_kubernetes(kind: Kind, view: &View<'_>) -> Option<Resource> {
    let document = view.loose_object(&["apiVersion", "metadata", "spec", "status"])?;
    let version = document.require("apiVersion");
    version.and_then(|version| read_api_version(kind, version))?;
    let meta = read_meta(kind, &document)?;
    let mut ignored = Vec::new();
    let spec = match kind {
        Kind::Service => {
            let spec = document.require("spec")?;
            Spec::Service(KubernetesService::read(spec, &meta, &mut ignored)?)
        }
        Kind::EndpointSlice => Spec::EndpointSlice(EndpointSlice::read(view, &meta, &mut ignored)?),
        Kind::Pod => {
            let mut pod = Pod::read(document.require("spec")?, document.get("status"))?;
            // One that is being deleted gets no new requests.
            let metadata = document.get("metadata");
            let deleted = metadata.and_then(|it| it.loose("deletionTimestamp"));
            pod.is_ready &= deleted.is_none();
            Spec::Pod(pod)
        }
        Kind::Namespace => Spec::Namespace,
        Kind::Node => Spec::Node,
        Kind::ServiceAccount => Spec::ServiceAccount,
        Kind::ConfigMap => Spec::ConfigMap(ConfigMap::read(view)),
        Kind::Secret => Spec::Secret(Secret::read(view)?),
        _ => Spec::Deployment,
    };
    Some(Resource {
        meta,
        spec,
        ignored,
    })
}

fn read_kind(view: &View<'_>, version: &str) -> Option<Kind> {
    let written = view.text()?;
    let kind = Kind::of(&written, version);
    if kind.is_none() {
        let mut names = Kind::NAMES.map(|(name, _)| name).to_vec();
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        let hint = match hint(&written, &names) {
            hint if hint.starts_with(", did") => hint,
            _ => format!("; supported: {}", list(&names)),
        };
        view.fail(format!("kind `{written}` is not supported{hint}"));
    }
    kind
}

fn read_api_version(kind: Kind, view: &View<'_>) -> Option<()> {
    let written = view.text()?;
    let versions = kind.versions().iter();
    let known = versions.map(|version| match kind.group() {
        "" => (*version).to_owned(),
        group => format!("{group}/{version}"),
    });
    let known: Vec<_> = known.collect();
    if known.contains(&written) {
        return Some(());
    }
    let names: Vec<_> = known.iter().map(String::as_str).collect();
    let names = list(&names);
    view.fail(format!(
        "unknown version `{written}`, expected one of {names}"
    ));
    None
}

fn read_spec(meta: &Meta, document: &Object<'_>, ignored: &mut Vec<Ignored>) -> Option<Spec> {
    let spec = document.require("spec")?;
    let namespace = meta.namespace.as_str();
    Some(match meta.kind {
        Kind::ServiceEntry => {
            let status = document.get("status");
            let allotted = status.and_then(|status| status.loose("addresses"));
            ignored.extend(allotted.map(|addresses| addresses.ignored(ALLOTTED)));
            Spec::ServiceEntry(ServiceEntry::read(spec)?)
        }
        Kind::WorkloadEntry => {
            let mut workload = WorkloadEntry::read(spec)?;
            // Selectors look at the labels of both places; those of `spec` win.
            for (key, value) in &meta.labels {
                let own = workload.labels.entry(key.clone());
                own.or_insert_with(|| value.clone());
            }
            Spec::WorkloadEntry(workload)
        }
        Kind::Sidecar => Spec::Sidecar(Sidecar::read(spec, namespace)?),
        Kind::VirtualService => Spec::VirtualService(VirtualService::read(spec, namespace)?),
        Kind::DestinationRule => {
            Spec::DestinationRule(Box::new(DestinationRule::read(spec, namespace)?))
        }
        Kind::Gateway => Spec::Gateway(Gateway::read(spec, namespace)?),
        Kind::AuthorizationPolicy => {
            Spec::AuthorizationPolicy(AuthorizationPolicy::read(spec, meta)?)
        }
        Kind::PeerAuthentication => Spec::PeerAuthentication(PeerAuthentication::read(spec)?),
        Kind::RequestAuthentication => {
            Spec::RequestAuthentication(RequestAuthentication::read(spec, namespace)?)
        }
        Kind::Telemetry => Spec::Telemetry(Telemetry::read(spec, meta)?),
        Kind::ProxyConfig => {
            ignored.extend(read_proxy_config(spec)?);
            Spec::ProxyConfig
        }
        Kind::GatewayClass => Spec::GatewayClass(gateway_api::GatewayClass::read(spec)?),
        Kind::ApiGateway => Spec::ApiGateway(gateway_api::Gateway::read(spec, namespace)?),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute => {
            Spec::Route(gateway_api::Route::read(spec, meta)?)
        }
        Kind::ReferenceGrant => Spec::ReferenceGrant(gateway_api::ReferenceGrant::read(spec)?),
        Kind::BackendTlsPolicy => {
            Spec::BackendTlsPolicy(gateway_api::BackendTlsPolicy::read(spec, namespace)?)
        }
        Kind::Ingress => Spec::Ingress(KubernetesIngress::read(spec, meta)?),
        // They are read elsewhere.
        Kind::Service
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::Namespace
        | Kind::Node
        | Kind::ServiceAccount
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::Deployment
        | Kind::Other => return None,
    })
}
