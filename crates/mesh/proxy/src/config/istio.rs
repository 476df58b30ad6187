//! Filters of Istio's build of Envoy. What they are for is done in any case; what they ask for beyond that is refused.
//!
//! Their messages are Istio's: most come as a `TypedStruct`, JSON that names the message.

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::Filter;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::Key;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as OfRequests;
use envoy_types::pb::envoy::extensions::filters::network::set_filter_state::v3::Config as OfConnections;
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use periplus_xds::istio_peers::{OF_CONNECTIONS, PROTOCOL, TYPED_STRUCT, TypedStruct};
use prost::{Message, Name};

use super::check::{At, Refused, decode, ignored, nothing_else, short_type};
use crate::snapshot::ServiceName;
use crate::telemetry::istio::text_of;

const HTTP_EXCHANGE: &str = "io.istio.http.peer_metadata.Config";
const ALPN: &str = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";

/// The configuration of `istio.alpn`.
#[derive(Clone, PartialEq, Message)]
struct AlpnConfig {
    #[prost(message, repeated, tag = "1")]
    alpn_override: Vec<AlpnOverride>,
}

#[derive(Clone, PartialEq, Message)]
struct AlpnOverride {
    /// HTTP/1.0, HTTP/1.1, HTTP/2.
    #[prost(int32, tag = "1")]
    upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    alpn_override: Vec<String>,
}

/// What connections of HTTP offer within the mesh, by protocol: the first is what a proxy of the mesh looks at.
const OFFERED: [[&str; 3]; 3] = [
    ["istio-http/1.0", "istio", "http/1.0"],
    ["istio-http/1.1", "istio", "http/1.1"],
    ["istio-h2", "istio", "h2"],
];

/// Whether it is an HTTP filter of Istio's.
pub(super) fn is_http(config: &Any, at: &At<'_>) -> Result<bool, Refused> {
    if short_type(&config.type_url) == ALPN {
        alpn(config, at)?;
        return Ok(true);
    }
    if config.type_url == OfRequests::type_url() {
        let mut states: OfRequests = decode(config, at)?;
        let values = std::mem::take(&mut states.on_request_headers);
        filter_state(&values, &at.field("on_request_headers"))?;
        // Nothing that routes ask about changes.
        ignored!(states: clear_route_cache);
        nothing_else(&states, at)?;
        return Ok(true);
    }
    match typed_struct(config, at)? {
        Some((of_type, value)) if of_type == HTTP_EXCHANGE => {
            peer_metadata(&value, &at.field("value")).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// A filter of connections of Istio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnConnection {
    /// Both ends say who they are.
    PeerExchange,
    /// What only Istio's own filters would read.
    FilterState,
}

/// The filter of connections of Istio's that it is, if it is one.
pub(super) fn on_connection(config: &Any, at: &At<'_>) -> Result<Option<OnConnection>, Refused> {
    if config.type_url == OfConnections::type_url() {
        let mut states: OfConnections = decode(config, at)?;
        let values = std::mem::take(&mut states.on_new_connection);
        filter_state(&values, &at.field("on_new_connection"))?;
        nothing_else(&states, at)?;
        return Ok(Some(OnConnection::FilterState));
    }
    let Some((of_type, value)) = typed_struct(config, at)? else {
        return Ok(None);
    };
    if of_type != OF_CONNECTIONS {
        return Ok(None);
    }
    let at = &at.field("value");
    // Who is at an address that says nothing of itself is known of endpoints, as far as their metadata tell it.
    only(
        &value,
        &["protocol", "enable_discovery", "additional_labels"],
        at,
    )?;
    match text_of(&value, "protocol") {
        Some(PROTOCOL) => Ok(Some(OnConnection::PeerExchange)),
        _ => Err(at
            .field("protocol")
            .refuse(format!("only {PROTOCOL:?} is supported"))),
    }
}

/// Takes a filter of the connections to a cluster: whether it has both ends say who they are.
pub(super) fn of_cluster(filter: &Filter, at: &At<'_>) -> Result<bool, Refused> {
    let config = filter.typed_config.clone().unwrap_or_default();
    if let Some(known) = on_connection(&config, &at.field("typed_config"))? {
        return Ok(known == OnConnection::PeerExchange);
    }
    let (name, of_type) = (&filter.name, type_of(&config));
    Err(at.refuse(format!(
        "filter {name:?} ({of_type}) is not supported for clusters, only istio.metadata_exchange is"
    )))
}

fn typed_struct(config: &Any, at: &At<'_>) -> Result<Option<(String, Struct)>, Refused> {
    if !TYPED_STRUCT.contains(&short_type(&config.type_url)) {
        return Ok(None);
    }
    let typed = TypedStruct::decode(config.value.as_slice())
        .map_err(|error| at.refuse(format!("it is not a valid TypedStruct: {error}")))?;
    let of_type = short_type(&typed.type_url).to_owned();
    Ok(Some((of_type, typed.value.unwrap_or_default())))
}

/// Who an endpoint is, as its metadata says it: `istio.workload`.
pub(super) fn workload(metadata: Option<&Metadata>) -> Option<Arc<str>> {
    let said = metadata?.filter_metadata.get("istio")?;
    text_of(said, "workload").map(Arc::from)
}

/// What a cluster's service is called, as its metadata say it: the first of `istio.services`.
pub(super) fn service(metadata: Option<&Metadata>) -> Option<ServiceName> {
    let said = metadata?.filter_metadata.get("istio")?;
    let Kind::ListValue(all) = said.fields.get("services")?.kind.as_ref()? else {
        return None;
    };
    let service = as_struct(all.values.first()?)?;
    let host = text_of(service, "host").unwrap_or_default();
    let first_word = || host.split('.').next().unwrap_or_default();
    let name = text_of(service, "name").unwrap_or_else(first_word);
    let namespace = text_of(service, "namespace").unwrap_or_default();
    Some(ServiceName::new(host, name, namespace))
}

/// The type that a configuration is of, for whoever is told that it is not supported.
pub(super) fn type_of(config: &Any) -> String {
    let named = typed_struct(config, &At::ROOT).ok().flatten();
    named.map_or_else(|| short_type(&config.type_url).to_owned(), |(name, _)| name)
}

fn only(given: &Struct, known: &[&str], at: &At<'_>) -> Result<(), Refused> {
    let mut names: Vec<_> = given.fields.keys().collect();
    names.sort();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(other) => Err(at.field(other).refuse("is not supported")),
        None => Ok(()),
    }
}

/// Peers tell each other about themselves in headers. Of endpoints that do not, their metadata tell it.
fn peer_metadata(given: &Struct, at: &At<'_>) -> Result<(), Refused> {
    let lists = [
        "downstream_discovery",
        "upstream_discovery",
        "downstream_propagation",
        "upstream_propagation",
    ];
    only(given, &lists, at)?;
    for list in lists {
        let Some(Kind::ListValue(methods)) = given.fields.get(list).and_then(|it| it.kind.as_ref())
        else {
            continue;
        };
        let at = &at.field(list);
        for (index, method) in methods.values.iter().enumerate() {
            let at = &at.index(index);
            let method = as_struct(method).ok_or_else(|| at.refuse("it must be an object"))?;
            only(method, &["istio_headers", "workload_discovery"], at)?;
            if let Some(headers) = method.fields.get("istio_headers").and_then(as_struct) {
                only(headers, &[], &at.field("istio_headers"))?;
            }
        }
    }
    Ok(())
}

fn as_struct(value: &Value) -> Option<&Struct> {
    match &value.kind {
        Some(Kind::StructValue(value)) => Some(value),
        _ => None,
    }
}

/// Takes what is offered in any case.
fn alpn(config: &Any, at: &At<'_>) -> Result<(), Refused> {
    let given = AlpnConfig::decode(config.value.as_slice())
        .map_err(|error| at.refuse(format!("it is not a valid {ALPN}: {error}")))?;
    let at = &at.field("alpn_override");
    for (index, one) in given.alpn_override.iter().enumerate() {
        let at = &at.index(index);
        let offered = usize::try_from(one.upstream_protocol).ok();
        let Some(offered) = offered.and_then(|protocol| OFFERED.get(protocol)) else {
            return Err(at.field("upstream_protocol").refuse("is not known"));
        };
        // Istio's older versions end the list before the last.
        if one.alpn_override != offered[..] && one.alpn_override != offered[..2] {
            let reason = format!("only {} is supported", offered.join(", "));
            return Err(at.field("alpn_override").refuse(reason));
        }
    }
    Ok(())
}

/// Takes what only Istio's own filters would read.
fn filter_state(values: &[FilterStateValue], at: &At<'_>) -> Result<(), Refused> {
    for (index, value) in values.iter().enumerate() {
        let at = &at.index(index);
        match &value.key {
            Some(Key::ObjectKey(key)) if key.starts_with("io.istio.") => {}
            Some(Key::ObjectKey(key)) => {
                let reason = format!(
                    "{key:?} is not supported, only names that begin with \"io.istio.\" are"
                );
                return Err(at.field("object_key").refuse(reason));
            }
            None => return Err(at.field("object_key").refuse("it must be given")),
        }
    }
    Ok(())
}
