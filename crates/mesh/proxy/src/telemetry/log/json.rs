//! Lines as JSON objects. Keys stand in alphabetical order, as with Envoy.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::format::Template;
use super::value::Kind;

/// The layout of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json {
    pub(crate) object: BTreeMap<String, Node>,
    /// What has no value is left out, rather than shown as `null`.
    pub(crate) omits: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// JSON as it is.
    Fixed(String),
    Template(Template),
    Object(BTreeMap<String, Node>),
    List(Vec<Node>),
}

impl Json {
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.append_object(&self.object, entry, out);
        out.push(b'\n');
    }

    pub(super) fn any(&self, wanted: fn(&Template) -> bool) -> bool {
        self.object.values().any(|node| node.any(wanted))
    }

    /// Appends an object; whether it has a value at all.
    fn append_object(
        &self,
        object: &BTreeMap<String, Node>,
        entry: &Entry<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let begin = out.len();
        out.push(b'{');
        for (key, node) in object {
            let before = out.len();
            if before > begin + 1 {
                out.push(b',');
            }
            append_text(key.as_bytes(), out);
            out.push(b':');
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
                    Kind::Number => drop(out.remove(begin)),
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
            Self::Object(object) => object.values().any(|node| node.any(wanted)),
            Self::List(nodes) => nodes.iter().any(|node| node.any(wanted)),
        }
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
    let is_plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
    if out[begin + 1..].iter().all(is_plain) {
        out.push(b'"');
        return;
    }
    let text = String::from_utf8_lossy(&out[begin + 1..]).into_owned();
    out.truncate(begin);
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, &text);
}
