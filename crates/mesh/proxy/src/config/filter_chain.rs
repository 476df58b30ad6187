//! `FilterChain`: which connections it serves, and the filter that ends it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as TcpProxyConfig;
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::check::{At, Refused, decode, ignored, must_be, nothing_else, short_type, timeout};
use super::manager::{self, ManagerSpec};
use super::tls::{DownstreamTls, Names};
use super::transport;
use super::{filters, istio, metrics, names, policies, tcp_proxy};
use crate::snapshot::{ChainMatch, Cidr, ConnectionRules, SourceType, TcpProxy};

/// A checked filter chain.
#[derive(Clone, Debug)]
pub(crate) struct ChainSpec {
    pub(crate) name: String,
    pub(crate) conditions: ChainMatch,
    pub(crate) tls: Option<Arc<DownstreamTls>>,
    /// How long a handshake may take.
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) service: ServiceSpec,
}

/// What ends a filter chain.
#[derive(Clone, Debug)]
pub(crate) enum ServiceSpec {
    Http(Box<ManagerSpec>),
    Tcp(Arc<TcpProxy>),
}

impl ServiceSpec {
    /// Whether both ends of a connection say who they are. Those of HTTP say it in headers.
    fn exchanges_peers(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Tcp(proxy) => proxy.exchanges_peers,
        }
    }
}

pub(super) fn compile(
    mut chain: pb::FilterChain,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<ChainSpec, Refused> {
    let conditions = match chain.filter_chain_match.take() {
        Some(conditions) => self::conditions(conditions, &at.field("filter_chain_match"))?,
        None => ChainMatch::default(),
    };
    let service = service(std::mem::take(&mut chain.filters), &at.field("filters"))?;
    let tls = match chain.transport_socket.take() {
        Some(socket) => {
            let exchanges_peers = service.exchanges_peers();
            let at = &at.field("transport_socket");
            transport::of_chain(&socket, names, exchanges_peers, at)?
        }
        None => None,
    };
    let handshake_timeout = timeout(
        chain.transport_socket_connect_timeout.take(),
        None,
        &at.field("transport_socket_connect_timeout"),
    )?;
    ignored!(chain: metadata);
    let name = std::mem::take(&mut chain.name);
    nothing_else(&chain, at)?;
    Ok(ChainSpec {
        name,
        conditions,
        tls,
        handshake_timeout,
        service,
    })
}

fn service(mut filters: Vec<pb::Filter>, at: &At<'_>) -> Result<ServiceSpec, Refused> {
    let Some(last) = filters.pop() else {
        return Err(at.refuse("there is none, the last one must be given"));
    };
    let before = filters.len();
    let mut metrics = None;
    let mut exchanges_peers = false;
    let mut looks_up = None;
    let mut checked = Vec::new();
    for (index, filter) in filters.into_iter().enumerate() {
        let at = &at.index(index);
        match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) if metrics::is_one(config) => {
                metrics = metrics::compile(config, &at.field("typed_config"))?;
            }
            Some(ConfigType::TypedConfig(config))
                if let Some(known) = istio::on_connection(config, &at.field("typed_config"))? =>
            {
                exchanges_peers |= known == istio::OnConnection::PeerExchange;
            }
            Some(ConfigType::TypedConfig(config)) if names::is_of_connections(config) => {
                let at = &at.field("typed_config");
                looks_up = Some(names::of_connections(decode(config, at)?, at)?);
            }
            _ => checked.push(rules(filter, at)?),
        }
    }
    let rules = checked;
    let at = &at.index(before);
    let config = typed_config(last.config_type, at)?;
    let kind = short_type(&config.type_url);
    if kind == HttpConnectionManager::full_name() {
        if !rules.is_empty() || looks_up.is_some() {
            let reason = "filters of connections are not supported before it, \
                          those of its http_filters are";
            return Err(at.refuse(reason));
        }
        let manager = manager::compile(decode(&config, at)?, at)?;
        return Ok(ServiceSpec::Http(Box::new(manager)));
    }
    if kind == TcpProxyConfig::full_name() {
        let mut proxy = tcp_proxy::compile(decode(&config, at)?, at)?;
        proxy.rules = rules;
        proxy.metrics = metrics;
        proxy.exchanges_peers = exchanges_peers;
        proxy.looks_up = looks_up;
        return Ok(ServiceSpec::Tcp(Arc::new(proxy)));
    }
    Err(at.refuse(format!(
        "filter {:?} ({kind}) is not supported as the last one, only the HTTP connection manager and \
         the TCP proxy are",
        last.name
    )))
}

/// A filter before the last one.
fn rules(filter: pb::Filter, at: &At<'_>) -> Result<ConnectionRules, Refused> {
    let config = typed_config(filter.config_type, at)?;
    let kind = istio::type_of(&config);
    let at_config = &at.field("typed_config");
    if kind == Rbac::full_name() {
        let (rbac, stat_prefix) = policies::connections(decode(&config, at_config)?, at_config)?;
        return Ok(ConnectionRules::Rbac(Arc::new(rbac), stat_prefix));
    }
    if kind == LocalRateLimit::full_name() {
        return limit(decode(&config, at_config)?, at_config);
    }
    if kind == ExtAuthz::full_name() {
        let authz = policies::connection_authorizer(decode(&config, at_config)?, at_config)?;
        return Ok(ConnectionRules::Ask(Arc::new(authz)));
    }
    Err(at.refuse(format!(
        "filter {:?} ({kind}) is not supported before the last one, only rbac, local_ratelimit, ext_authz, sni_dynamic_forward_proxy and \
         istio.stats are",
        filter.name
    )))
}

fn limit(mut limit: LocalRateLimit, at: &At<'_>) -> Result<ConnectionRules, Refused> {
    let at_bucket = at.field("token_bucket");
    let Some(bucket) = limit.token_bucket.take() else {
        return Err(at_bucket.refuse("it must be given"));
    };
    let bucket = filters::bucket(bucket, &at_bucket)?;
    let stat_prefix = std::mem::take(&mut limit.stat_prefix);
    if let Some(mut enabled) = limit.runtime_enabled.take() {
        // There is no runtime that could say anything else than the default.
        ignored!(enabled: runtime_key);
        let at = &at.field("runtime_enabled");
        must_be(
            enabled.default_value.take(),
            true,
            &at.field("default_value"),
        )?;
        nothing_else(&enabled, at)?;
    }
    nothing_else(&limit, at)?;
    Ok(ConnectionRules::Limit(Arc::new(bucket), stat_prefix))
}

fn typed_config(config: Option<ConfigType>, at: &At<'_>) -> Result<Any, Refused> {
    match config {
        Some(ConfigType::TypedConfig(config)) => Ok(config),
        _ => Err(at.field("typed_config").refuse("it must be given")),
    }
}

fn conditions(mut given: pb::FilterChainMatch, at: &At<'_>) -> Result<ChainMatch, Refused> {
    let at_port = &at.field("destination_port");
    let destination_port = match given.destination_port.take() {
        Some(number) => Some(port(number.value, at_port)?),
        None => None,
    };
    let at_type = at.field("source_type");
    let source_type = match ConnectionSourceType::try_from(std::mem::take(&mut given.source_type)) {
        Ok(ConnectionSourceType::Any) => SourceType::Any,
        Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
        Ok(ConnectionSourceType::External) => SourceType::External,
        Err(_) => return Err(at_type.refuse("is not known")),
    };
    let at_ports = &at.field("source_ports");
    let at_transport = at.field("transport_protocol");
    let is_tls = match std::mem::take(&mut given.transport_protocol).as_str() {
        "" => None,
        "tls" => Some(true),
        "raw_buffer" => Some(false),
        other => return Err(at_transport.refuse(format!("{other:?} is not supported"))),
    };
    let conditions = ChainMatch {
        destination_port,
        prefix_ranges: blocks(
            std::mem::take(&mut given.prefix_ranges),
            &at.field("prefix_ranges"),
        )?,
        server_names: server_names(
            std::mem::take(&mut given.server_names),
            &at.field("server_names"),
        )?,
        is_tls,
        application_protocols: std::mem::take(&mut given.application_protocols)
            .into_iter()
            .map(String::into_bytes)
            .collect(),
        direct_source_prefix_ranges: blocks(
            std::mem::take(&mut given.direct_source_prefix_ranges),
            &at.field("direct_source_prefix_ranges"),
        )?,
        source_type,
        source_prefix_ranges: blocks(
            std::mem::take(&mut given.source_prefix_ranges),
            &at.field("source_prefix_ranges"),
        )?,
        source_ports: std::mem::take(&mut given.source_ports)
            .into_iter()
            .map(|number| port(number, at_ports))
            .collect::<Result<_, _>>()?,
    };
    nothing_else(&given, at)?;
    Ok(conditions)
}

/// Exact names, and those that begin with `*.`.
fn server_names(names: Vec<String>, at: &At<'_>) -> Result<Vec<String>, Refused> {
    let name = |(index, name): (usize, String)| {
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        if rest.is_empty() || rest.contains('*') {
            let reason = format!("{name:?} is not supported, exact names and \"*.suffix\" are");
            return Err(at.index(index).refuse(reason));
        }
        Ok(name.to_ascii_lowercase())
    };
    names.into_iter().enumerate().map(name).collect()
}

/// A port that can be connected to.
pub(super) fn port(number: u32, at: &At<'_>) -> Result<u16, Refused> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(at.refuse(format!("{number} is not a port"))),
    }
}

fn blocks(ranges: Vec<CidrRange>, at: &At<'_>) -> Result<Vec<Cidr>, Refused> {
    let block = |(index, range): (usize, CidrRange)| block(range, &at.index(index));
    ranges.into_iter().enumerate().map(block).collect()
}

/// A block of addresses.
pub(super) fn block(mut range: CidrRange, at: &At<'_>) -> Result<Cidr, Refused> {
    let text = std::mem::take(&mut range.address_prefix);
    let address: IpAddr = text.parse().map_err(|_| {
        at.field("address_prefix")
            .refuse(format!("{text:?} is not an IP address"))
    })?;
    let length = range.prefix_len.take().map_or(0, |length| length.value);
    let most = if address.is_ipv4() { 32 } else { 128 };
    match u8::try_from(length) {
        Ok(length) if length <= most => Ok(Cidr { address, length }),
        _ => Err(at
            .field("prefix_len")
            .refuse(format!("{length} is more than {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::filters::listener::local_ratelimit::v3::LocalRateLimit;
    use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
    use envoy_types::pb::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
    use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
    use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
    use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
    use envoy_types::util::pack_any;
    use pb::listener_filter::ConfigType as ListenerFilterConfig;
    use pb::listener_filter_chain_match_predicate::Rule;

    use super::super::listener::{self, ListenerSpec};
    use super::*;

    fn chain(conditions: pb::FilterChainMatch) -> pb::FilterChain {
        let proxy = TcpProxyConfig {
            stat_prefix: "t".to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())),
            ..Default::default()
        };
        pb::FilterChain {
            filter_chain_match: Some(conditions),
            filters: vec![pb::Filter {
                name: "tcp".to_owned(),
                config_type: Some(ConfigType::TypedConfig(pack_any(proxy))),
            }],
            ..Default::default()
        }
    }

    fn to_port(port: u32) -> pb::FilterChainMatch {
        pb::FilterChainMatch {
            destination_port: Some(UInt32Value { value: port }),
            ..Default::default()
        }
    }

    fn to_block(prefix: &str, length: u32) -> pb::FilterChainMatch {
        pb::FilterChainMatch {
            prefix_ranges: vec![CidrRange {
                address_prefix: prefix.to_owned(),
                prefix_len: Some(UInt32Value { value: length }),
            }],
            ..Default::default()
        }
    }

    fn listener_filter(config: impl prost::Name) -> pb::ListenerFilter {
        pb::ListenerFilter {
            name: "filter".to_owned(),
            config_type: Some(ListenerFilterConfig::TypedConfig(pack_any(config))),
            ..Default::default()
        }
    }

    const YES: Option<BoolValue> = Some(BoolValue { value: true });
    const NO: Option<BoolValue> = Some(BoolValue { value: false });

    /// What Istio calls virtualOutbound.
    fn config(edit: impl FnOnce(&mut pb::Listener)) -> Result<ListenerSpec, String> {
        let mut config = pb::Listener {
            name: "virtualOutbound".to_owned(),
            address: crate::config::tests::address("0.0.0.0", 15001),
            use_original_dst: YES,
            filter_chains: vec![chain(to_port(15001))],
            default_filter_chain: Some(chain(pb::FilterChainMatch::default())),
            ..Default::default()
        };
        edit(&mut config);
        listener::compile(config, &Names::NONE).map_err(|refused| refused.to_string())
    }

    #[test]
    fn what_istio_sends_is_taken() {
        let spec = config(|_| ()).expect("valid");
        assert!(spec.hands_over && spec.original_destination);
        assert_eq!(spec.chains[0].conditions.destination_port, Some(15001));
        assert!(spec.default_chain.is_some());
        let socket = crate::snapshot::SocketKind {
            keepalive: Some(crate::snapshot::TcpKeepalive::UNLESS_TOLD),
            ..Default::default()
        };
        assert_eq!(spec.socket, Some(socket));

        let spec = config(|l| {
            l.use_original_dst = None;
            l.transparent = YES;
            l.freebind = YES;
            let source = OriginalSrc {
                bind_port: false,
                mark: 1337,
            };
            l.listener_filters = vec![
                listener_filter(source),
                listener_filter(OriginalDst::default()),
            ];
            l.filter_chains.push(chain(to_block("10.0.0.0", 8)));
        })
        .expect("valid");
        assert!(!spec.hands_over && spec.original_destination);
        assert_eq!(spec.original_source, Some(1337));
        assert!(spec.socket.is_some_and(|s| s.transparent && s.freebind));
        assert_eq!(spec.chains[1].conditions.prefix_ranges[0].length, 8);

        let spec = config(|l| l.bind_to_port = NO).expect("valid");
        assert_eq!(spec.socket, None);
    }

    #[test]
    fn the_rest_is_refused_by_field() {
        type Change = fn(&mut pb::Listener);
        let cases: Vec<(Change, &str)> = vec![
            (
                |l| {
                    l.filter_chains.clear();
                    l.default_filter_chain = None;
                },
                "filter_chains: there is none",
            ),
            (
                |l| l.filter_chains.push(chain(to_port(15001))),
                "filter_chains[1].filter_chain_match: its conditions are those of filter_chains[0]",
            ),
            (
                |l| l.filter_chains.push(chain(to_port(70_000))),
                "filter_chains[1].filter_chain_match.destination_port: 70000 is not a port",
            ),
            (
                |l| l.filter_chains.push(chain(to_block("10.0.0.0", 33))),
                "filter_chains[1].filter_chain_match.prefix_ranges[0].prefix_len: 33 is more than 32",
            ),
            (
                |l| l.filter_chains.push(chain(to_block("here", 8))),
                "filter_chains[1].filter_chain_match.prefix_ranges[0].address_prefix: \"here\" is not an IP address",
            ),
            (
                |l| {
                    l.filter_chains.push(chain(pb::FilterChainMatch {
                        server_names: vec!["a".to_owned(), "a*.b".to_owned()],
                        ..Default::default()
                    }));
                },
                "filter_chains[1].filter_chain_match.server_names[1]: \"a*.b\" is not supported, \
                 exact names and \"*.suffix\" are",
            ),
            (
                |l| l.listener_filters = vec![listener_filter(LocalRateLimit::default())],
                "listener_filters[0]: filter \"filter\" \
                 (envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit) \
                 is not supported, only original_dst, original_src, tls_inspector, http_inspector and \
                 proxy_protocol are",
            ),
            (
                |l| {
                    let mut filter = listener_filter(OriginalDst::default());
                    filter.filter_disabled = Some(pb::ListenerFilterChainMatchPredicate {
                        rule: Some(Rule::AnyMatch(true)),
                    });
                    l.listener_filters = vec![filter];
                },
                "listener_filters[0].filter_disabled: is not supported for original_dst and original_src",
            ),
            (
                |l| {
                    let filter = OriginalSrc {
                        bind_port: true,
                        mark: 1337,
                    };
                    l.listener_filters = vec![listener_filter(filter)];
                },
                "listener_filters[0].bind_port: is not supported",
            ),
            (
                |l| {
                    let mut filter = listener_filter(TlsInspector::default());
                    filter.filter_disabled = Some(Default::default());
                    l.listener_filters = vec![filter];
                },
                "listener_filters[0].filter_disabled: a rule must be given",
            ),
            (
                |l| {
                    let inspector = TlsInspector {
                        enable_ja3_fingerprinting: YES,
                        ..Default::default()
                    };
                    l.listener_filters = vec![listener_filter(inspector)];
                },
                "listener_filters[0].enable_ja3_fingerprinting: is not supported",
            ),
            (
                |l| l.filter_chains[0].filters.clear(),
                "filter_chains[0].filters: there is none, the last one must be given",
            ),
            (
                |l| {
                    let filter = l.filter_chains[0].filters[0].clone();
                    l.filter_chains[0].filters.push(filter);
                },
                "filter_chains[0].filters[0]: filter \"tcp\" \
                 (envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy) is not supported before \
                 the last one, only rbac, local_ratelimit, ext_authz, sni_dynamic_forward_proxy and istio.stats are",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(config(change).expect_err("refused"), expected);
        }
    }
}
