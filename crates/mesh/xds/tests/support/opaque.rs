//! Resources whose content is any text: the protocol does not look into them.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Any;
use periplus_xds::{Resource, ResourceSet, Snapshot};

/// A snapshot of opaque resources: type URL to (name, content).
pub(crate) fn snapshot(types: &[(&str, &[(&str, &str)])]) -> Snapshot {
    types
        .iter()
        .fold(Snapshot::default(), |all, (type_url, resources)| {
            let set: ResourceSet = resources
                .iter()
                .map(|(name, content)| {
                    Resource::from_any(
                        *name,
                        Any {
                            type_url: (*type_url).to_owned(),
                            value: content.as_bytes().to_vec(),
                        },
                    )
                })
                .collect();
            all.with(*type_url, set)
        })
}

pub(crate) fn node(id: &str) -> Node {
    Node {
        id: id.to_owned(),
        cluster: "test".to_owned(),
        ..Node::default()
    }
}

/// The contents of a response, sorted.
pub(crate) fn contents(resources: &[Any]) -> Vec<String> {
    let mut texts: Vec<_> = resources
        .iter()
        .map(|any| String::from_utf8_lossy(&any.value).into_owned())
        .collect();
    texts.sort();
    texts
}
