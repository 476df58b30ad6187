//! `stats.PluginConfig`: what a mesh wants of Istio's metrics. The message is Istio's, not Envoy's, so that
//! nobody generates it; it stands here as far as it says something about metrics: how they are counted is the
//! proxy's own choice.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;

/// The names that its type has.
pub const TYPES: [&str; 2] = ["stats.PluginConfig", "stats.v3.PluginConfig"];

/// `PluginConfig`; its maps are sorted, so that the same rules are the same version of a listener.
#[derive(Clone, PartialEq, Message)]
pub struct PluginConfig {
    /// The `Host` of a request says nothing about the service where its cluster does not.
    #[prost(bool, tag = "6")]
    pub disable_host_header_fallback: bool,
    /// What is wanted of metrics.
    #[prost(message, repeated, tag = "8")]
    pub metrics: Vec<MetricConfig>,
    /// Metrics that are not Istio's.
    #[prost(message, repeated, tag = "9")]
    pub definitions: Vec<MetricDefinition>,
}

/// `MetricConfig`
#[derive(Clone, PartialEq, Message)]
pub struct MetricConfig {
    /// Labels that are set: expressions by name.
    #[prost(btree_map = "string, string", tag = "1")]
    pub dimensions: BTreeMap<String, String>,
    /// The metric without `istio_`; empty is all of them.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Labels that are left out.
    #[prost(string, repeated, tag = "3")]
    pub tags_to_remove: Vec<String>,
    /// The metric itself is left out.
    #[prost(bool, tag = "5")]
    pub drop: bool,
}

/// `MetricDefinition`
#[derive(Clone, PartialEq, Message)]
pub struct MetricDefinition {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

impl PluginConfig {
    /// It as the configuration of a filter.
    pub fn packed(&self) -> Any {
        Any {
            type_url: format!("type.googleapis.com/{}", TYPES[0]),
            value: self.encode_to_vec(),
        }
    }
}
