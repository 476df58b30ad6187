//! BackendTLSPolicies: how gateways speak TLS to services.

use std::collections::BTreeMap;

use periplus_resources::gateway_api::{BackendTlsPolicy, ObjectRef, PolicyTarget};
use periplus_resources::{Authorities, ClientTls, ConfigMap, Host, Meta, TlsFiles};

use super::backends::service_host;
use super::status::{Condition, Flaw, ResourceStatus};
use super::termination::ca_of;
use crate::index::{Entry, Index, Problem};

/// By service and port, or for all its ports: how it is spoken to; `None` is not at all, since nobody is believed.
pub(super) type BackendTls = BTreeMap<(Host, Option<u16>), Option<ClientTls>>;

/// What the policies come to, the oldest first: for each target the first one counts.
pub(super) fn lower(
    entries: &[Entry<BackendTlsPolicy>],
    maps: &[Entry<ConfigMap>],
    index: &Index,
    (statuses, problems): (&mut Vec<ResourceStatus>, &mut Vec<Problem>),
) -> BackendTls {
    let mut lowered = BackendTls::new();
    for entry in entries {
        let meta = &entry.meta;
        let authorities = authorities(entry, maps);
        let mut unaccepted: Option<Flaw> = None;
        for target in &entry.spec.targets {
            match find(meta, target, index) {
                Ok(place) if lowered.contains_key(&place) => {
                    let message =
                        format!("another BackendTLSPolicy is for {} already", target.name);
                    let flaw = Flaw::new("Conflicted", target.at.0, message);
                    unaccepted.get_or_insert(flaw);
                }
                Ok(place) => {
                    let tls = authorities
                        .as_ref()
                        .ok()
                        .map(|pem| tls(&entry.spec, pem.clone()));
                    lowered.insert(place, tls);
                }
                Err(flaw) => {
                    unaccepted.get_or_insert(flaw);
                }
            }
        }
        let unresolved = authorities.err();
        let against = unaccepted.or_else(|| {
            unresolved.as_ref().map(|flaw| Flaw {
                reason: "NoValidCACertificate",
                ..flaw.clone()
            })
        });
        problems.extend(against.iter().map(|flaw| flaw.error(meta)));
        statuses.push(ResourceStatus {
            meta: meta.clone(),
            conditions: vec![
                Condition::unless("Accepted", against.as_ref()),
                Condition::unless("ResolvedRefs", unresolved.as_ref()),
            ],
            listeners: Vec::new(),
            parents: Vec::new(),
        });
    }
    lowered
}

fn tls(policy: &BackendTlsPolicy, authorities: Option<Authorities>) -> ClientTls {
    ClientTls::Files(TlsFiles {
        own: None,
        authorities,
        names: match policy.names.is_empty() {
            true => vec![policy.hostname.clone()],
            false => policy.names.clone(),
        },
        sni: Some(policy.hostname.clone()),
        revoked: None,
        believes_all: false,
    })
}

/// The certificates of those that a policy believes; none are the system's.
fn authorities(
    entry: &Entry<BackendTlsPolicy>,
    maps: &[Entry<ConfigMap>],
) -> Result<Option<Authorities>, Flaw> {
    let namespace = &entry.meta.namespace;
    let one = |object: &ObjectRef| {
        let flaw = |reason, message| Err(Flaw::new(reason, object.at.0, message));
        if !object.group.is_empty() || object.kind != "ConfigMap" {
            let message = format!(
                "`{}` of group `{}` holds no certificates: expected a ConfigMap of group `\"\"`",
                object.kind, object.group
            );
            return flaw("InvalidKind", message);
        }
        let pem = ca_of(maps, namespace, &object.name);
        pem.or_else(|message| flaw("InvalidCACertificateRef", message))
    };
    let refs = &entry.spec.authorities;
    if refs.is_empty() {
        return Ok(None);
    }
    let mut flaws = Vec::new();
    let found = refs
        .iter()
        .filter_map(|object| one(object).map_err(|flaw| flaws.push(flaw)).ok());
    let pem: String = found.collect();
    match flaws.into_iter().next() {
        Some(flaw) if pem.is_empty() => Err(flaw),
        _ => Ok(Some(Authorities::Pem(pem))),
    }
}

fn find(meta: &Meta, target: &PolicyTarget, index: &Index) -> Result<(Host, Option<u16>), Flaw> {
    let flaw = |message| Err(Flaw::new("TargetNotFound", target.at.0, message));
    if !target.group.is_empty() || target.kind != "Service" {
        return flaw(format!(
            "`{}` of group `{}` cannot be a target: expected a Service of group `\"\"`",
            target.kind, target.group
        ));
    }
    let host = match service_host(&target.name, &meta.namespace) {
        Ok(host) => host,
        Err(reason) => return flaw(format!("`{}` is no Service: {reason}", target.name)),
    };
    let service = index.service(&host);
    let Some(service) = service else {
        return flaw(format!(
            "there is no Service {}/{}",
            meta.namespace, target.name
        ));
    };
    let Some(name) = &target.section else {
        return Ok((service.host.clone(), None));
    };
    match service.ports().iter().find(|port| port.name == *name) {
        Some(port) => Ok((service.host.clone(), Some(port.number))),
        None => flaw(format!(
            "Service {}/{} has no port `{name}`",
            meta.namespace, target.name
        )),
    }
}

impl Index {
    /// How a gateway speaks TLS to the port of a service, if a policy says it; `Some(None)` is not at all.
    pub(crate) fn backend_tls(&self, host: &Host, port: u16) -> Option<&Option<ClientTls>> {
        let policies = &self.gateway_api.backend_tls;
        let of_port = policies.get(&(host.clone(), Some(port)));
        of_port.or_else(|| policies.get(&(host.clone(), None)))
    }
}
