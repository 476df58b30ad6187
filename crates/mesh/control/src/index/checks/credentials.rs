//! Secrets that are referred to: whether those who need them can have them.

use std::collections::BTreeSet;

use periplus_resources::{
    At, Authorities, ClientTls, Credential, Gateway, Labels, Meta, SecretRef, ServerIdentity,
    ServerTls, TlsFiles,
};

use super::super::code;
use super::super::secrets::Secrets;
use super::super::{Index, Problem};
use super::selectors::workloads;
use crate::proxy::is_subset;

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    index.secrets().check(problems);
    for entry in index.gateways() {
        check_gateway(index, &entry.meta, &entry.spec, problems);
    }
    for entry in index.destination_rules() {
        let spec = &entry.spec;
        let subsets = spec.subsets.iter().map(|subset| &subset.policy);
        let policies = subsets.chain([&spec.policy]);
        let all = policies.flat_map(|policy| {
            let ports = policy.ports.values();
            ports.map(|port| &port.tls).chain([&policy.tls])
        });
        for tls in all.flatten() {
            if let ClientTls::Files(files) = tls {
                check_client(index.secrets(), &entry.meta, files, problems);
            }
        }
    }
}

/// The Secrets of a Gateway's servers: they must be in the namespaces of its proxies, as far as those are known.
pub(in crate::index) fn check_gateway(
    index: &Index,
    meta: &Meta,
    spec: &Gateway,
    problems: &mut Vec<Problem>,
) {
    let secrets = index.secrets();
    for server in &spec.servers {
        let Some(ServerTls::Terminate(how)) = &server.tls else {
            continue;
        };
        let mut missing: Vec<(&SecretRef, String)> = Vec::new();
        let mut require = |secret, found: &dyn Fn(&str) -> Result<(), String>| {
            let reason = missing_in(&places(index, &spec.selector, secret), secret, found);
            missing.extend(reason.map(|reason| (secret, reason)));
        };
        if let ServerIdentity::Own(certificates) = &how.identity {
            for certificate in certificates {
                if let Credential::Secret(secret) = certificate {
                    let name = &secret.name;
                    require(secret, &|place| {
                        secrets.certificate(place, name).map(|_| ())
                    });
                }
            }
        }
        let clients = how.clients.as_ref();
        if let Some(Authorities::Secret(secret)) = clients.map(|clients| &clients.authorities) {
            let name = &secret.name;
            require(secret, &|place| {
                secrets.authorities(place, name).map(|_| ())
            });
        }
        for (secret, reason) in missing {
            let message = format!(
                "{meta}: server {} lets nobody in: {reason}",
                server.port.name
            );
            let problem = problem(meta, secret, message);
            problems.push(
                match secrets.places(&secret.name).is_disjoint(&places(
                    index,
                    &spec.selector,
                    secret,
                )) {
                    true => problem,
                    false => problem.code(code::INVALID_CREDENTIAL),
                },
            );
        }
    }
}

/// The Secrets of a DestinationRule: any gateway may need them, and has those of its own namespace.
fn check_client(secrets: &Secrets, meta: &Meta, files: &TlsFiles, problems: &mut Vec<Problem>) {
    let mut require = |secret: &SecretRef, found: &dyn Fn(&str) -> Result<(), String>| {
        let places = secrets.places(&secret.name);
        if places.iter().any(|place| found(place).is_ok()) {
            return;
        }
        if let Some(reason) = missing_in(&places, secret, found) {
            let message = format!("{meta}: requests of gateways get 503: {reason}");
            problems.push(problem(meta, secret, message));
        }
    };
    if let Some(Credential::Secret(secret)) = &files.own {
        let name = &secret.name;
        require(secret, &|place| {
            secrets.certificate(place, name).map(|_| ())
        });
    }
    if let (Some(Authorities::Secret(secret)), false) = (&files.authorities, files.believes_all) {
        let name = &secret.name;
        require(secret, &|place| {
            secrets.authorities(place, name).map(|_| ())
        });
    }
}

/// Where proxies with some labels look for a Secret; where nobody knows of such proxies, wherever it is.
fn places(index: &Index, selector: &Labels, secret: &SecretRef) -> BTreeSet<String> {
    let workloads = workloads(index).into_iter();
    let selected = workloads.filter(|one| !selector.is_empty() && is_subset(selector, one.labels));
    let places: BTreeSet<_> = selected.map(|one| one.namespace.to_owned()).collect();
    match places.is_empty() {
        true => index.secrets().places(&secret.name),
        false => places,
    }
}

/// Why something is missing in one of these namespaces.
fn missing_in(
    places: &BTreeSet<String>,
    secret: &SecretRef,
    found: &dyn Fn(&str) -> Result<(), String>,
) -> Option<String> {
    if places.is_empty() {
        return Some(format!(
            "there is no Secret {} in any namespace",
            secret.name
        ));
    }
    places.iter().find_map(|place| found(place).err())
}

fn problem(meta: &Meta, secret: &SecretRef, message: String) -> Problem {
    let At(position) = secret.at;
    Problem::error(&meta.source, position, message).code(code::NOT_FOUND)
}
