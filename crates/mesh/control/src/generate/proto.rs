//! Short forms of protobuf messages.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::address;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Metadata, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, BoolValue, ListValue, Struct, UInt32Value, Value};
use prost::{Message, Name};

use crate::index::Service;

pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn uint32(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn duration(duration: Duration) -> Option<envoy_types::pb::google::protobuf::Duration> {
    Some(envoy_types::pb::google::protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    })
}

pub(super) fn address(place: impl Display, port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: place.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..SocketAddress::default()
        })),
    })
}

/// "Over this same stream."
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(
            ConfigSourceSpecifier::Ads(AggregatedConfigSource::default()),
        ),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    })
}

/// The endpoints of a cluster with their weights.
pub(super) fn load_assignment(
    cluster: &str,
    endpoints: impl IntoIterator<Item = (SocketAddr, u32)>,
) -> ClusterLoadAssignment {
    let endpoint = |(target, weight): (SocketAddr, u32)| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: address(target.ip(), target.port()),
            ..Endpoint::default()
        })),
        load_balancing_weight: uint32(weight),
        ..LbEndpoint::default()
    };
    let lb_endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
    let localities = (!lb_endpoints.is_empty()).then(|| LocalityLbEndpoints {
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: localities.into_iter().collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// A map of few entries that are encoded in the order of their keys, so that the same map is always the same bytes.
///
/// The generated types have maps in no certain order, another one for each map that is made: so it is made until the
/// order is the right one, which takes two entries twice on the average.
pub(super) fn map_in_order<T: Clone>(entries: &[(&str, T)]) -> HashMap<String, T> {
    loop {
        let owned = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        let map: HashMap<_, _> = owned.collect();
        if map.keys().is_sorted() {
            return map;
        }
    }
}

/// Istio's metadata that tells which resource something comes from.
pub(super) fn istio_config(path: &str) -> Option<Metadata> {
    Some(istio(one_text("config", path.to_owned())))
}

/// The same of a cluster, which tells what the service is called as well: metrics say that.
pub(super) fn istio_service(config: Option<&str>, service: &Service) -> Metadata {
    let names = [
        ("host", service.host.as_str()),
        ("name", service.name()),
        ("namespace", &service.meta.namespace),
    ]
    .map(|(key, name)| (key, text(name.to_owned())));
    let names = Struct {
        fields: map_in_order(&names),
    };
    let services = ListValue {
        values: vec![Value {
            kind: Some(Kind::StructValue(names)),
        }],
    };
    let services = Value {
        kind: Some(Kind::ListValue(services)),
    };
    let config = config.map(|config| ("config", text(config.to_owned())));
    let all: Vec<_> = config.into_iter().chain([("services", services)]).collect();
    istio(Struct {
        fields: map_in_order(&all),
    })
}

fn istio(said: Struct) -> Metadata {
    Metadata {
        filter_metadata: HashMap::from([("istio".to_owned(), said)]),
        ..Metadata::default()
    }
}

fn text(text: String) -> Value {
    Value {
        kind: Some(Kind::StringValue(text)),
    }
}

/// A text by its name.
pub(super) fn one_text(name: &str, value: String) -> Struct {
    Struct {
        fields: HashMap::from([(name.to_owned(), text(value))]),
    }
}
