//! Access logs that nobody says the place of, and those that do not get there.

use periplus_resources::{LoggingRule, OpenTelemetryLog, Protocol, ProvidedLog, Source, Telemetry};

use super::super::analysis::missing;
use super::super::code;
use super::super::{Entry, Index, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for provider in &index.mesh().log_providers {
        if let ProvidedLog::OpenTelemetry(log) = &provider.log
            && let Some(message) = lack(index, &provider.name, log)
        {
            tell_users(index, (&provider.name, log), &message, problems);
        }
    }
    check_places(index, problems);
}

/// Why nothing gets to the collector of a log.
fn lack(index: &Index, name: &str, log: &OpenTelemetryLog) -> Option<String> {
    let host = &log.service;
    match index.service(host).and_then(|one| one.port(log.port)) {
        Some(port) if port.protocol == Protocol::Http2 => None,
        Some(port) => Some(format!(
            "port {} of `{host}` is not one of gRPC: no access log that provider `{name}` reports gets there; call \
             the port `grpc-{}`",
            port.number, port.name
        )),
        None => {
            let (what, hint) = missing(index, host, log.port);
            Some(format!(
                "{what}: provider `{name}` cannot be reached and its access logs are left out; describe the collector \
                 by a ServiceEntry{hint}"
            ))
        }
    }
}

/// A problem for each resource that has logs go there.
fn tell_users(
    index: &Index,
    (name, log): (&str, &OpenTelemetryLog),
    message: &str,
    problems: &mut Vec<Problem>,
) {
    let mesh = index.mesh();
    if mesh.default_logging.iter().any(|one| one == name) {
        let file = mesh.file.clone();
        let position = log.at.0;
        let source = Source { file, position };
        let problem = Problem::error(&source, position, message.to_owned());
        problems.push(problem.code(code::LOGS_UNREACHABLE));
    }
    for Entry { meta, spec } in &index.telemetries {
        let rules = spec.access_logging.iter().filter(|rule| !rule.is_disabled);
        let named = rules.flat_map(|rule| &rule.providers);
        for (_, at) in named.filter(|(one, _)| one == name) {
            let problem = Problem::error(&meta.source, at.0, format!("{meta}: {message}"));
            problems.push(problem.code(code::LOGS_UNREACHABLE));
        }
    }
}

fn check_places(index: &Index, problems: &mut Vec<Problem>) {
    let mesh = index.mesh();
    // Those of a wider Telemetry hold too.
    let names = |other: &Entry<Telemetry>| {
        let mut rules = other.spec.access_logging.iter();
        rules.any(|rule| !rule.providers.is_empty())
    };
    if mesh.access_log.is_some()
        || !mesh.default_logging.is_empty()
        || index.telemetries.iter().any(names)
    {
        return;
    }
    let asks = |rule: &LoggingRule| !rule.is_disabled && rule.providers.is_empty();
    for Entry { meta, spec } in &index.telemetries {
        if spec.access_logging.iter().any(asks) {
            let message = format!(
                "{meta} asks for access logs, and neither it nor the mesh says where they go: name one of \
                 `extensionProviders` in `providers`, such as `envoy`"
            );
            let problem = Problem::warning(&meta.source, meta.source.position, message);
            problems.push(problem.code(code::TELEMETRY_WITHOUT_PROVIDER));
        }
    }
}
