//! Who is on the other side: the headers `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
//!
//! Istio's proxies send a `google.protobuf.Struct` in Base64: `NAME`, `NAMESPACE`, `WORKLOAD_NAME`, `OWNER`,
//! `CLUSTER_ID`, and in `LABELS` the four labels that telemetry names things by.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message as _;

use super::id_of;

/// The largest header that is looked at.
const MOST_BYTES: usize = 8 * 1024;

/// A workload as telemetry names it. Whatever is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub(crate) instance: String,
    pub(crate) workload: String,
    pub(crate) namespace: String,
    pub(crate) cluster: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) canonical_service: String,
    pub(crate) canonical_revision: String,
    /// The header that told it.
    text: Box<[u8]>,
    /// What stands for that.
    id: u64,
}

/// The peer at one end of a connection or of many: what it said last is kept, so that it need not be read
/// again.
#[derive(Debug, Default)]
pub(crate) struct PeerCell(RefCell<Option<Rc<Peer>>>);

impl PeerCell {
    pub(crate) fn get(&self) -> Option<Rc<Peer>> {
        self.0.borrow().clone()
    }

    /// Takes what a header says, unless that is known or makes no sense.
    pub(crate) fn learn(&self, header: &[u8]) {
        let mut known = self.0.borrow_mut();
        if known.as_ref().is_some_and(|peer| *peer.text == *header) {
            return;
        }
        if let Some(peer) = Peer::read(header) {
            *known = Some(Rc::new(peer));
        }
    }
}

impl Peer {
    /// What the metadata of a node says, if it says Istio's `NAMESPACE`.
    pub fn of_node(node_id: &str, metadata: Option<&Struct>) -> Option<Self> {
        let mut peer = Self::of_metadata(metadata?);
        if peer.namespace.is_empty() {
            return None;
        }
        if peer.instance.is_empty() {
            let name = node_id.split('~').nth(2).unwrap_or_default();
            let name = name.rsplit_once('.').map_or(name, |(instance, _)| instance);
            name.clone_into(&mut peer.instance);
        }
        if peer.workload.is_empty() {
            peer.workload.clone_from(&peer.instance);
        }
        if peer.canonical_service.is_empty() {
            peer.canonical_service = match &*peer.app {
                "" => peer.workload.clone(),
                app => app.to_owned(),
            };
        }
        if peer.canonical_revision.is_empty() {
            peer.canonical_revision = match &*peer.version {
                "" => "latest".to_owned(),
                version => version.to_owned(),
            };
        }
        let text = peer.encode();
        Some(peer.told_by(text.as_bytes()))
    }

    /// What a header says.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        if header.len() > MOST_BYTES {
            return None;
        }
        let bytes = STANDARD.decode(header).ok()?;
        let metadata = Struct::decode(&*bytes).ok()?;
        Some(Self::of_metadata(&metadata).told_by(header))
    }

    fn told_by(mut self, header: &[u8]) -> Self {
        self.id = id_of(header);
        self.text = header.into();
        self
    }

    /// What stands for it in the key of a series.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn of_metadata(metadata: &Struct) -> Self {
        let text = |key: &str| text_of(metadata, key);
        let none = Struct::default();
        let labels = match metadata
            .fields
            .get("LABELS")
            .and_then(|value| value.kind.as_ref())
        {
            Some(Kind::StructValue(labels)) => labels,
            _ => &none,
        };
        let label = |key: &str| text_of(labels, key);
        let first = |keys: [&str; 3]| {
            let values = keys.into_iter().map(label);
            values
                .into_iter()
                .find(|value| !value.is_empty())
                .unwrap_or_default()
        };
        Self {
            instance: text("NAME"),
            workload: text("WORKLOAD_NAME"),
            namespace: text("NAMESPACE"),
            cluster: text("CLUSTER_ID"),
            app: label("app"),
            version: label("version"),
            canonical_service: first([
                "service.istio.io/canonical-name",
                "app.kubernetes.io/name",
                "app",
            ]),
            canonical_revision: first([
                "service.istio.io/canonical-revision",
                "app.kubernetes.io/version",
                "version",
            ]),
            text: Box::default(),
            id: 0,
        }
    }

    /// The header that tells it.
    #[cfg(test)]
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    fn encode(&self) -> String {
        let owner = format!(
            "kubernetes://apis/apps/v1/namespaces/{}/deployments/{}",
            self.namespace, self.workload
        );
        let labels = fields([
            ("app", &self.app),
            ("version", &self.version),
            ("service.istio.io/canonical-name", &self.canonical_service),
            (
                "service.istio.io/canonical-revision",
                &self.canonical_revision,
            ),
        ]);
        let mut all = fields([
            ("NAME", &self.instance),
            ("NAMESPACE", &self.namespace),
            ("WORKLOAD_NAME", &self.workload),
            ("OWNER", &owner),
        ]);
        all.fields
            .extend(fields([("CLUSTER_ID", &self.cluster)]).fields);
        let kind = Some(Kind::StructValue(labels));
        all.fields.insert("LABELS".to_owned(), Value { kind });
        STANDARD.encode(all.encode_to_vec())
    }

    /// The lines of a head that tell it.
    pub(super) fn lines(&self, node_id: &str) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.text);
        let lines =
            format!("x-envoy-peer-metadata-id: {node_id}\r\nx-envoy-peer-metadata: {text}\r\n");
        lines.into_bytes()
    }
}

fn text_of(metadata: &Struct, key: &str) -> String {
    match metadata
        .fields
        .get(key)
        .and_then(|value| value.kind.as_ref())
    {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Those that are not empty.
fn fields<const N: usize>(all: [(&str, &str); N]) -> Struct {
    let given = all.into_iter().filter(|(_, value)| !value.is_empty());
    let field = |(key, value): (&str, &str)| {
        let kind = Some(Kind::StringValue(value.to_owned()));
        (key.to_owned(), Value { kind })
    };
    Struct {
        fields: given.map(field).collect(),
    }
}
