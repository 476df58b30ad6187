//! The mesh configuration: what changes nothing, services that count and do not exist, and limits of nothing.

use periplus_resources::{Source, did_you_mean};

use super::super::code;
use super::super::{Index, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    check_idle(index, problems);
    check_quotas(index, problems);
    check_limits(index, problems);
}

/// What the mesh configuration says, and changes nothing.
fn check_idle(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    for ignored in &mesh.ignored {
        let (file, position) = (mesh.file.clone(), ignored.at.0);
        let message = format!(
            "`{}` of the mesh configuration has no effect: {}",
            ignored.field, ignored.reason
        );
        let problem = Problem::warning(&Source { file, position }, position, message);
        problems.push(problem.code(code::WITHOUT_EFFECT));
    }
}

/// What cannot be counted is let through, or refused.
fn check_quotas(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    for provider in &mesh.quotas {
        let (name, host, port) = (&provider.name, &provider.service, provider.port);
        let service = index.service(host);
        if service.is_some_and(|service| service.port(port).is_some()) {
            continue;
        }
        let what_then = match provider.fails_open {
            true => "requests are not limited",
            false => "requests that it is to count are refused",
        };
        let (file, position) = (mesh.file.clone(), provider.at.0);
        let source = Source { file, position };
        let message = format!(
            "there is no service `{host}` with port {port}: provider `{name}` cannot be asked, and {what_then}; describe \
             it by a ServiceEntry"
        );
        let problem = Problem::error(&source, source.position, message);
        problems.push(problem.code(code::NOT_FOUND));
    }
}

/// Limits of routes by names that no rule has.
fn check_limits(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    for (provider, limit) in (mesh.limits.iter())
        .flat_map(|provider| provider.limits.iter().map(move |limit| (provider, limit)))
    {
        for name in limit.routes.iter().filter(|name| !index.has_rule(name)) {
            let hint = did_you_mean(name, index.rule_names());
            let message = format!(
                "provider `{}` limits route `{name}`, and no rule of a VirtualService or HTTPRoute has this \
                 name{hint}",
                provider.name
            );
            let (file, position) = (mesh.file.clone(), limit.at.0);
            let problem = Problem::warning(&Source { file, position }, position, message);
            problems.push(problem.code(code::LIMITED_ROUTE_UNKNOWN));
        }
    }
}
