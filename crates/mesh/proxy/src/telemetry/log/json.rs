//! Lines as JSON objects. Keys stand in alphabetical order, as with Envoy.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::format::Template;
use super::value::Kind;

/// The layout of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json {
    pub(crate) object: Object,
    /// What has no value is left out, rather than shown as `null`.
    pub(crate) omits: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// JSON as it is.
    Fixed(String),
    Template(Template),
    Object(Object),
    List(Vec<Node>),
}

/// The values of an object, each with its key as it is written: `"key":`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(Vec<(Vec<u8>, Node)>);

impl From<BTreeMap<String, Node>> for Object {
    fn from(nodes: BTreeMap<String, Node>) -> Self {
        let written = |(key, node): (String, Node)| {
            let mut written = Vec::new();
            append_text(key.as_bytes(), &mut written);
            written.push(b':');
            (written, node)
        };
        Self(nodes.into_iter().map(written).collect())
    }
}

impl Json {
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.append_object(&self.object, entry, out);
        out.push(b'\n');
    }

    pub(super) fn any(&self, wanted: fn(&Template) -> bool) -> bool {
        self.object.any(wanted)
    }

    /// Appends an object; whether it has a value at all.
    fn append_object(&self, object: &Object, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        out.push(b'{');
        for (key, node) in &object.0 {
            let before = out.len();
            if before > begin + 1 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            if !self.append_node(node, entry, out) {
                out.truncate(before);
            }
        }
        out.push(b'}');
        !self.omits || out.len() > begin + 2
    }

    /// Appends a value; whether there is one. If not, what was appended is to be cut off again.
    fn append_node(&self, node: &Node, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
        match node {
            Node::Fixed(json) => {
                out.extend_from_slice(json.as_bytes());
                !self.omits || json != "null"
            }
            Node::Template(template) => {
                let begin = out.len();
                out.push(b'"');
                match template.append(entry, out) {
                    Kind::Absent if self.omits => return false,
                    Kind::Absent => {
                        out.truncate(begin);
                        out.extend_from_slice(b"null");
                    }
                    Kind::Number | Kind::Json => drop(out.remove(begin)),
                    Kind::Text => end_text(begin, out),
                }
                true
            }
            Node::Object(object) => self.append_object(object, entry, out),
            Node::List(nodes) => {
                let begin = out.len();
                out.push(b'[');
                for node in nodes {
                    let before = out.len();
                    if before > begin + 1 {
                        out.push(b',');
                    }
                    if !self.append_node(node, entry, out) {
                        out.truncate(before);
                    }
                }
                out.push(b']');
                !self.omits || out.len() > begin + 2
            }
        }
    }
}

impl Node {
    fn any(&self, wanted: fn(&Template) -> bool) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Template(template) => wanted(template),
            Self::Object(object) => object.any(wanted),
            Self::List(nodes) => nodes.iter().any(|node| node.any(wanted)),
        }
    }
}

impl Object {
    fn any(&self, wanted: fn(&Template) -> bool) -> bool {
        self.0.iter().any(|(_, node)| node.any(wanted))
    }
}

/// Appends a text as JSON has it.
fn append_text(value: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(b'"');
    out.extend_from_slice(value);
    end_text(begin, out);
}

/// Ends a text that begins with a quotation mark at `begin`. Most are written as they are (RFC 8259 §7); bytes that
/// are not UTF-8 become U+FFFD.
fn end_text(begin: usize, out: &mut Vec<u8>) {
    let is_plain = |byte: u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
    // Without a way out before the end, so that many bytes are looked at together.
    let all = out[begin + 1..].iter();
    if all.fold(true, |all, byte| all & is_plain(*byte)) {
        out.push(b'"');
        return;
    }
    let text = String::from_utf8_lossy(&out[begin + 1..]).into_owned();
    out.truncate(begin);
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, &text);
}
