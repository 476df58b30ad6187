use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

/// Who may open streams, where that is asked.
pub trait Gate: Send + Sync + 'static {
    /// Takes a stream by what came with the request for it; the node that it names then is asked about too.
    fn open(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Admission, Status>;
}

/// Whether a stream may be that of a node.
pub type Admission = Box<dyn Fn(&Node) -> Result<(), Status> + Send + Sync>;

/// What came with the request for a stream, judged.
pub(super) fn admission(
    gate: Option<&Arc<dyn Gate>>,
    metadata: &MetadataMap,
    extensions: &Extensions,
) -> Result<Option<Admission>, Status> {
    gate.map(|gate| gate.open(metadata, extensions)).transpose()
}
