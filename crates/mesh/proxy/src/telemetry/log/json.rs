//! Lines as JSON objects. Keys stand in alphabetical order, as with Envoy.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::format::Template;
use super::operator::Operator;
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
    /// Of more than one operator.
    Template(Template),
    Operator(Box<Operator>),
    Object(Object),
    List(Vec<Node>),
}

/// The members of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(Vec<Member>);

#[derive(Clone, Debug, PartialEq)]
struct Member {
    key: Key,
    node: Node,
}

/// A key as it is written, after a comma and with the quotation mark of a text behind it: `,"key":"`.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    /// Most are so short. All bytes are copied, as their number is known, and then cut off again.
    Short([u8; SHORT], usize),
    Long(Vec<u8>),
}

/// Istio's longest has 38.
const SHORT: usize = 48;

impl From<Template> for Node {
    fn from(template: Template) -> Self {
        match template.into_operator() {
            Ok(operator) => Self::Operator(Box::new(operator)),
            Err(template) => Self::Template(template),
        }
    }
}

impl From<BTreeMap<String, Node>> for Object {
    fn from(nodes: BTreeMap<String, Node>) -> Self {
        let member = |(key, node): (String, Node)| {
            let mut written = vec![b','];
            append_text(key.as_bytes(), &mut written);
            written.extend_from_slice(b":\"");
            Member {
                key: Key::from(written),
                node,
            }
        };
        Self(nodes.into_iter().map(member).collect())
    }
}

impl From<Vec<u8>> for Key {
    fn from(written: Vec<u8>) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..written.len()) {
            Some(begin) => {
                begin.copy_from_slice(&written);
                Self::Short(short, written.len())
            }
            None => Self::Long(written),
        }
    }
}

impl Key {
    /// Appends it; where the value's quotation mark is.
    #[inline]
    fn append(&self, out: &mut Vec<u8>) -> usize {
        let end = match self {
            Self::Short(text, length) => {
                let end = out.len() + length;
                out.extend_from_slice(text);
                out.truncate(end);
                end
            }
            Self::Long(text) => {
                out.extend_from_slice(text);
                out.len()
            }
        };
        end - 1
    }
}

impl Json {
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.append_object(&self.object, entry, out);
        out.push(b'\n');
    }

    pub(super) fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        self.object.any(wanted)
    }

    /// Appends an object; whether it has a value at all.
    fn append_object(&self, object: &Object, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        for member in &object.0 {
            let before = out.len();
            let mark = member.key.append(out);
            let is_there = match &member.node {
                // What most members are, without a call.
                Node::Operator(operator) => self.end(operator.append(entry, out), mark, out),
                node => self.append_node(node, mark, entry, out),
            };
            if !is_there {
                out.truncate(before);
            }
        }
        self.close(begin, b"{}", out)
    }

    /// Ends what begins there, and has a comma before each value; whether there is one.
    fn close(&self, begin: usize, [opening, closing]: &[u8; 2], out: &mut Vec<u8>) -> bool {
        let is_empty = out.len() == begin;
        match out.get_mut(begin) {
            Some(comma) => *comma = *opening,
            None => out.push(*opening),
        }
        out.push(*closing);
        !self.omits || !is_empty
    }

    /// Ends a value of this kind, before which a quotation mark stands there; whether there is one.
    #[inline(always)]
    fn end(&self, kind: Kind, mark: usize, out: &mut Vec<u8>) -> bool {
        match kind {
            Kind::Plain => out.push(b'"'),
            Kind::Text => end_text(mark, out),
            Kind::Number | Kind::Json => drop(out.remove(mark)),
            Kind::Absent if self.omits => return false,
            Kind::Absent => {
                out.truncate(mark);
                out.extend_from_slice(b"null");
            }
        }
        true
    }

    /// Appends a value behind the quotation mark there, which goes if it is no text; whether there is one. If not,
    /// what was appended is to be cut off again.
    fn append_node(&self, node: &Node, mark: usize, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
        match node {
            Node::Operator(operator) => self.end(operator.append(entry, out), mark, out),
            Node::Template(template) => self.end(template.append(entry, out), mark, out),
            Node::Fixed(json) => {
                out.truncate(mark);
                out.extend_from_slice(json.as_bytes());
                !self.omits || json != "null"
            }
            Node::Object(object) => {
                out.truncate(mark);
                self.append_object(object, entry, out)
            }
            Node::List(nodes) => {
                out.truncate(mark);
                for node in nodes {
                    let before = out.len();
                    out.extend_from_slice(b",\"");
                    if !self.append_node(node, before + 1, entry, out) {
                        out.truncate(before);
                    }
                }
                self.close(mark, b"[]", out)
            }
        }
    }
}

impl Node {
    fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Template(template) => template.any(wanted),
            Self::Operator(operator) => wanted(operator),
            Self::Object(object) => object.any(wanted),
            Self::List(nodes) => nodes.iter().any(|node| node.any(wanted)),
        }
    }
}

impl Object {
    fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        self.0.iter().any(|member| member.node.any(wanted))
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
    if is_plain(&out[begin + 1..]) {
        out.push(b'"');
        return;
    }
    let text = String::from_utf8_lossy(&out[begin + 1..]).into_owned();
    out.truncate(begin);
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, &text);
}

/// Whether a text is ASCII and has nothing to be escaped. So many bytes are looked at together, which is one instruction
/// a step; the last of them may be looked at twice.
fn is_plain(text: &[u8]) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        let mut special = [false; 16];
        for bytes in text.as_chunks().0 {
            look(&mut special, bytes);
        }
        look(&mut special, last);
        return special == [false; 16];
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk()) {
        let mut special = [false; 8];
        look(&mut special, first);
        look(&mut special, last);
        return special == [false; 8];
    }
    let mut special = [false; 1];
    for byte in text {
        look(&mut special, &[*byte]);
    }
    special == [false]
}

/// Marks the bytes that JSON shows otherwise.
#[inline(always)]
fn look<const N: usize>(special: &mut [bool; N], bytes: &[u8; N]) {
    for (special, byte) in special.iter_mut().zip(bytes) {
        let is_visible = byte.wrapping_sub(b' ') <= b'~' - b' ';
        *special |= !is_visible | (*byte == b'"') | (*byte == b'\\');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_makes_a_text_special() {
        for length in 0..50 {
            let plain = vec![b'~'; length];
            assert!(is_plain(&plain), "{length}");
            for at in 0..length {
                for byte in [b'"', b'\\', 0x1f, 0x7f, 0xc3] {
                    let mut text = plain.clone();
                    text[at] = byte;
                    assert!(!is_plain(&text), "{byte} at {at} of {length}");
                }
            }
        }
    }
}
