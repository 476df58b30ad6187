//! Access logs that nobody says the place of.

use periplus_resources::{LoggingRule, Telemetry};

use super::super::code;
use super::super::{Entry, Index, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
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
