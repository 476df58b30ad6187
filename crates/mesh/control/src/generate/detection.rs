//! What listeners look for in the first bytes of connections, and the conditions on what they find.

use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChainMatch, ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::proto::any;

/// The mark of inbound connections with TPROXY (`ISTIO_INBOUND_TPROXY_MARK`).
const TPROXY_MARK: u32 = 1337;
/// What the HTTP inspector finds in plaintext.
const HTTP_FOUND: [&str; 2] = ["http/1.1", "h2c"];

/// What a listener looks for in the first bytes of a connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Inspectors {
    pub(super) tls: bool,
    pub(super) http: bool,
}

impl Inspectors {
    pub(super) const BOTH: Self = Self {
        tls: true,
        http: true,
    };
}

/// Asks the kernel where a connection was to go.
pub(super) fn original_destination() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.original_dst".into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(
            &OriginalDst::default(),
        ))),
        ..ListenerFilter::default()
    }
}

/// Has the application see the addresses of clients, in packets that the rules of the kernel know by their mark.
pub(super) fn original_source() -> ListenerFilter {
    let config = OriginalSrc {
        mark: TPROXY_MARK,
        ..OriginalSrc::default()
    };
    ListenerFilter {
        name: "envoy.filters.listener.original_src".into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&config))),
        ..ListenerFilter::default()
    }
}

/// Plaintext in which HTTP was found.
pub(super) fn looks_like_http() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".into(),
        application_protocols: HTTP_FOUND.map(str::to_owned).to_vec(),
        ..FilterChainMatch::default()
    }
}

/// Plaintext, whatever was found in it: where one chain wants it, the others are not asked.
pub(super) fn plaintext() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".into(),
        ..FilterChainMatch::default()
    }
}

/// Looks for the handshake of TLS, unless it is disabled for a connection.
pub(super) fn tls_inspector(disabled: Option<ListenerFilterChainMatchPredicate>) -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".into(),
        filter_disabled: disabled,
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(
            &TlsInspector::default(),
        ))),
    }
}

/// Looks for HTTP in plaintext, unless it is disabled for a connection.
pub(super) fn http_inspector(
    disabled: Option<ListenerFilterChainMatchPredicate>,
) -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.http_inspector".into(),
        filter_disabled: disabled,
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(
            &HttpInspector::default(),
        ))),
    }
}

/// That the destination is one of these ports; `None` if there are none.
pub(super) fn any_of_ports(ports: &[u16]) -> Option<ListenerFilterChainMatchPredicate> {
    let is = |port: &u16| ListenerFilterChainMatchPredicate {
        rule: Some(Rule::DestinationPortRange(Int32Range {
            start: i32::from(*port),
            end: i32::from(*port) + 1,
        })),
    };
    match ports {
        [] => None,
        [one] => Some(is(one)),
        several => Some(ListenerFilterChainMatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet {
                rules: several.iter().map(is).collect(),
            })),
        }),
    }
}
