//! Who is on the other side: the headers `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
//!
//! Istio's proxies send a `google.protobuf.Struct` in Base64: `NAME`, `NAMESPACE`, `WORKLOAD_NAME`, `OWNER`,
//! `CLUSTER_ID`, and in `LABELS` the four labels that telemetry names things by. Of endpoints that have said nothing
//! the control plane says it, in their metadata.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message as _;

use super::{greeting, id_of};

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
    /// The header or the message that told it; empty if it was told by somebody else.
    text: Box<[u8]>,
    /// What stands for what metrics say of it.
    id: u64,
}

/// The peer at one end of a connection or of many: what it said last is kept, so that it need not be read
/// again.
#[derive(Debug, Default)]
pub(crate) struct PeerCell(RefCell<Known>);

/// What is known of a peer.
#[derive(Clone, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// What somebody else says, and nobody has asked for yet.
    Unread(Arc<str>),
    Read(Rc<Peer>),
}

impl PeerCell {
    #[inline]
    pub(crate) fn get(&self) -> Option<Rc<Peer>> {
        match &*self.0.borrow() {
            Known::Read(peer) => return Some(peer.clone()),
            Known::Nothing => return None,
            Known::Unread(_) => {}
        }
        self.read()
    }

    #[cold]
    fn read(&self) -> Option<Rc<Peer>> {
        let mut known = self.0.borrow_mut();
        let Known::Unread(said) = &*known else {
            return None;
        };
        let peer = Peer::of_endpoint(said).map(Rc::new);
        *known = peer.clone().map_or(Known::Nothing, Known::Read);
        peer
    }

    /// Takes what a header says, unless that is known or makes no sense.
    pub(crate) fn learn(&self, header: &[u8]) {
        self.learn_from(header, Peer::read);
    }

    /// The same of the message that a connection of TCP begins with.
    pub(crate) fn learn_greeting(&self, message: &[u8]) -> Option<Rc<Peer>> {
        self.learn_from(message, Peer::read_greeting);
        // One that somebody else has told has no text.
        let has_told = |peer: &Rc<Peer>| !message.is_empty() && *peer.text == *message;
        self.get().filter(has_told)
    }

    fn learn_from(&self, text: &[u8], read: impl FnOnce(&[u8]) -> Option<Peer>) {
        let mut known = self.0.borrow_mut();
        if matches!(&*known, Known::Read(peer) if *peer.text == *text) {
            return;
        }
        if let Some(peer) = read(text) {
            *known = Known::Read(Rc::new(peer));
        }
    }

    /// Takes what the control plane says of it, until it says something itself.
    pub(crate) fn suppose(&self, said: Option<&Arc<str>>) {
        let mut known = self.0.borrow_mut();
        if !matches!(&*known, Known::Read(peer) if !peer.text.is_empty()) {
            *known = said.map_or(Known::Nothing, |said| Known::Unread(said.clone()));
        }
    }

    /// Takes what is known of it elsewhere.
    pub(crate) fn take_over(&self, other: &Self) {
        *self.0.borrow_mut() = other.0.borrow().clone();
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
        let text = STANDARD.encode(peer.metadata().encode_to_vec());
        Some(peer.told_by(text.as_bytes()))
    }

    /// What an endpoint's metadata says: `WORKLOAD;NAMESPACE;CANONICAL NAME;CANONICAL REVISION;CLUSTER`.
    fn of_endpoint(said: &str) -> Option<Self> {
        let mut parts = said.split(';').map(str::to_owned);
        let mut next = || parts.next();
        let peer = Self {
            workload: next()?,
            namespace: next()?,
            canonical_service: next()?,
            canonical_revision: next()?,
            cluster: next()?,
            ..Self::default()
        };
        Some(peer.identified())
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

    /// What the message says that a connection of TCP begins with.
    fn read_greeting(message: &[u8]) -> Option<Self> {
        let metadata = greeting::metadata_of(message)?;
        Some(Self::of_metadata(&metadata).told_by(message))
    }

    fn told_by(mut self, header: &[u8]) -> Self {
        self.text = header.into();
        self.identified()
    }

    /// With what stands for what metrics say of it: the pods of a workload are one, however each of them says it.
    fn identified(mut self) -> Self {
        let said = [
            &self.workload,
            &self.namespace,
            &self.cluster,
            &self.app,
            &self.version,
            &self.canonical_service,
            &self.canonical_revision,
        ];
        self.id = id_of(said.map(String::as_str).join("\0").as_bytes());
        self
    }

    /// What stands for it in the key of a series.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn of_metadata(metadata: &Struct) -> Self {
        let text = |key: &str| text_of(metadata, key).unwrap_or_default().to_owned();
        let none = Struct::default();
        let labels = match metadata
            .fields
            .get("LABELS")
            .and_then(|value| value.kind.as_ref())
        {
            Some(Kind::StructValue(labels)) => labels,
            _ => &none,
        };
        let label = |key: &str| text_of(labels, key).unwrap_or_default().to_owned();
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

    /// What it says of itself.
    pub(super) fn metadata(&self) -> Struct {
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
        all
    }

    /// The lines of a head that tell it.
    pub(super) fn lines(&self, node_id: &str) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.text);
        let lines =
            format!("x-envoy-peer-metadata-id: {node_id}\r\nx-envoy-peer-metadata: {text}\r\n");
        lines.into_bytes()
    }
}

/// A text of an object, if it has one by that name.
pub(crate) fn text_of<'a>(object: &'a Struct, key: &str) -> Option<&'a str> {
    match object.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
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
