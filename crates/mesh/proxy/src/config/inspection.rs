//! `ListenerFilter`: what is found out about a connection before it is served.

use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use prost::Name as _;

use super::check::{At, Refused, decode, ignored, nothing_else, short_type};
use crate::snapshot::{FilterKind, ListenerFilter, PortPredicate};

/// How deep predicates may stand in one another.
const MAX_DEPTH: usize = 16;

/// What listener filters do.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Those that look at a connection's bytes.
    pub(super) looking: Vec<ListenerFilter>,
    /// It is found out where a redirected client wanted to go.
    pub(super) restores: bool,
    /// Endpoints see the client's own address, in packets of this mark.
    pub(super) original_source: Option<u32>,
}

/// What a filter does.
enum Kind {
    Looks(FilterKind),
    Restores,
    KeepsSource(u32),
}

pub(super) fn compile(filters: Vec<pb::ListenerFilter>, at: &At<'_>) -> Result<Filters, Refused> {
    let mut all = Filters::default();
    for (index, mut filter) in filters.into_iter().enumerate() {
        let at = &at.index(index);
        let at_disabled = at.field("filter_disabled");
        let disabled = match filter.filter_disabled.take() {
            Some(given) => Some(predicate(given, 0, &at_disabled)?),
            None => None,
        };
        match kind(filter, at)? {
            Kind::Looks(kind) => all.looking.push(ListenerFilter { kind, disabled }),
            Kind::Restores | Kind::KeepsSource(_) if disabled.is_some() => {
                let reason = "is not supported for original_dst and original_src";
                return Err(at_disabled.refuse(reason));
            }
            Kind::Restores => all.restores = true,
            Kind::KeepsSource(mark) => all.original_source = Some(mark),
        }
    }
    Ok(all)
}

fn kind(filter: pb::ListenerFilter, at: &At<'_>) -> Result<Kind, Refused> {
    let Some(ConfigType::TypedConfig(config)) = filter.config_type else {
        return Err(at.field("typed_config").refuse("it must be given"));
    };
    let kind = short_type(&config.type_url);
    if kind == OriginalDst::full_name() {
        let config: OriginalDst = decode(&config, at)?;
        nothing_else(&config, at)?;
        return Ok(Kind::Restores);
    }
    if kind == OriginalSrc::full_name() {
        let mut config: OriginalSrc = decode(&config, at)?;
        let mark = std::mem::take(&mut config.mark);
        nothing_else(&config, at)?;
        return Ok(Kind::KeepsSource(mark));
    }
    if kind == TlsInspector::full_name() {
        let mut config: TlsInspector = decode(&config, at)?;
        ignored!(config: initial_read_buffer_size);
        nothing_else(&config, at)?;
        return Ok(Kind::Looks(FilterKind::Tls));
    }
    if kind == HttpInspector::full_name() {
        let config: HttpInspector = decode(&config, at)?;
        nothing_else(&config, at)?;
        return Ok(Kind::Looks(FilterKind::Http));
    }
    if kind == ProxyProtocol::full_name() {
        return proxy_protocol(decode(&config, at)?, at).map(Kind::Looks);
    }
    Err(at.refuse(format!(
        "filter {:?} ({kind}) is not supported, only original_dst, original_src, tls_inspector, \
         http_inspector and proxy_protocol are",
        filter.name
    )))
}

fn proxy_protocol(mut config: ProxyProtocol, at: &At<'_>) -> Result<FilterKind, Refused> {
    let disallowed = std::mem::take(&mut config.disallowed_versions);
    let allows = |version: Version| !disallowed.contains(&(version as i32));
    let kind = FilterKind::ProxyProtocol {
        optional: std::mem::take(&mut config.allow_requests_without_proxy_protocol),
        v1: allows(Version::V1),
        v2: allows(Version::V2),
    };
    ignored!(config: stat_prefix);
    nothing_else(&config, at)?;
    Ok(kind)
}

fn predicate(
    given: pb::ListenerFilterChainMatchPredicate,
    depth: usize,
    at: &At<'_>,
) -> Result<PortPredicate, Refused> {
    if depth > MAX_DEPTH {
        return Err(at.refuse("it is nested too deeply"));
    }
    let all = |set: pb::listener_filter_chain_match_predicate::MatchSet| {
        let rules = set.rules.into_iter();
        rules
            .map(|rule| predicate(rule, depth + 1, at))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match given.rule {
        Some(Rule::OrMatch(set)) => PortPredicate::Or(all(set)?),
        Some(Rule::AndMatch(set)) => PortPredicate::And(all(set)?),
        Some(Rule::NotMatch(one)) => PortPredicate::Not(Box::new(predicate(*one, depth + 1, at)?)),
        Some(Rule::AnyMatch(true)) => PortPredicate::Any,
        Some(Rule::AnyMatch(false)) => return Err(at.field("any_match").refuse("it must be true")),
        Some(Rule::DestinationPortRange(range)) => {
            match (u32::try_from(range.start), u32::try_from(range.end)) {
                (Ok(from), Ok(to)) => PortPredicate::Range(from, to),
                _ => return Err(at.field("destination_port_range").refuse("is no range")),
            }
        }
        None => return Err(at.refuse("a rule must be given")),
    })
}
