//! What listeners look for in the first bytes of connections, and the conditions on what they find.

use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use envoy_types::pb::envoy::config::listener::v3::{
    FilterChainMatch, ListenerFilter, ListenerFilterChainMatchPredicate, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::proto::any;

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
