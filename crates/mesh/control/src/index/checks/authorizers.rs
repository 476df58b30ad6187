//! Providers of AuthorizationPolicies of `CUSTOM`: that they are there, and are asked about all that is meant.

use periplus_resources::{
    AuthorizationPolicy, Host, Operation, PolicyAction, Protocol, did_you_mean,
};

use super::super::code;
use super::super::{Entry, Index, Problem};
use crate::proxy::is_subset;

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    for entry in &index.authorization_policies {
        let PolicyAction::Custom(name) = &entry.spec.action else {
            continue;
        };
        let source = &entry.meta.source;
        let mut fail = |message: String| {
            let problem = Problem::error(source, source.position, message);
            problems.push(problem.code(code::NOT_FOUND));
        };
        let Some(authorizer) = mesh.authorizer(name) else {
            let names = mesh.authorizers.iter().map(|one| one.name.as_str());
            fail(format!(
                "{}: there is no provider `{name}` of `envoyExtAuthzGrpc` or `envoyExtAuthzHttp` among \
                 `extensionProviders`{}: what its rules match is denied",
                entry.meta,
                did_you_mean(name, names)
            ));
            continue;
        };
        let (host, port) = (&authorizer.service, authorizer.port);
        let service = index.service(host);
        if service.is_none_or(|service| service.port(port).is_none()) {
            fail(format!(
                "{}: there is no service `{host}` with port {port}: provider `{name}` cannot be asked; describe it \
                 by a ServiceEntry",
                entry.meta
            ));
        }
        if authorizer.http.is_some()
            && let Some((port, host)) = passed_over(index, entry)
        {
            let message = format!(
                "{}: provider `{name}` is one of HTTP, which is not asked about connections: those to port {port} of \
                 `{host}` pass; ask one of `envoyExtAuthzGrpc`, or deny them",
                entry.meta
            );
            let problem = Problem::warning(source, source.position, message);
            problems.push(problem.code(code::INEFFECTIVE_POLICY));
        }
    }
}

/// The first port of a selected workload that the rules are for, and whose protocol is not HTTP.
fn passed_over<'a>(
    index: &'a Index,
    entry: &Entry<AuthorizationPolicy>,
) -> Option<(u16, &'a Host)> {
    let Entry { meta, spec } = entry;
    let is_of_all = meta.namespace == index.mesh().root_namespace;
    let is_for = |operation: &Operation, port: u16| {
        let ports = &operation.ports.one_of;
        ports.is_empty() || ports.contains(&port.to_string())
    };
    let is_meant = |port: u16| {
        let mut rules = spec.rules.iter();
        rules.any(|rule| rule.to.is_empty() || rule.to.iter().any(|to| is_for(to, port)))
    };
    let mut services = index.services().filter(|service| {
        spec.targets.is_empty() && (is_of_all || service.meta.namespace == meta.namespace)
    });
    services.find_map(|service| {
        let endpoints = service.endpoints.iter();
        let mut selected = endpoints.filter(|endpoint| is_subset(&spec.selector, &endpoint.labels));
        selected.find_map(|endpoint| {
            let mut ports = service.ports().iter();
            let port = ports.find(|port| {
                matches!(port.protocol, Protocol::Tcp | Protocol::Tls)
                    && is_meant(endpoint.target_port(port))
            })?;
            Some((port.number, &service.host))
        })
    })
}
