//! Records of OpenTelemetry's data model for logs, with what Envoy puts into them.

use periplus_wire::export::otlp_logs::{
    append_record, attribute, body, element, list, map, member, text,
};

use super::entry::Entry;
use super::format::Template;
use super::operator::{Header, Operator};
use super::rare::Rare;
use crate::snapshot::{CustomTag, CustomTagValue, FieldName};

/// The layout of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) body: Option<Value>,
    pub(crate) attributes: Vec<(String, Value)>,
    pub(crate) tags: Vec<Tag>,
}

/// A value: those of Envoy's loggers have texts in them only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Template),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// A custom tag: an attribute that is left out if it is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tag {
    name: String,
    value: Template,
    default: Option<String>,
}

impl Record {
    /// Appends the record of an entry.
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let begin = entry.clock.wall(entry.begin).saturating_mul(1000);
        let ids = entry.span.map(|span| (span.trace_id, span.span_id));
        append_record(out, begin, ids, |record| {
            if let Some(value) = &self.body {
                body(record, |out| value.append(entry, out));
            }
            for (key, value) in &self.attributes {
                attribute(record, key, |out| value.append(entry, out));
            }
            for tag in &self.tags {
                tag.append(entry, record);
            }
        });
    }

    pub(super) fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        let values = self.attributes.iter().map(|(_, value)| value);
        values.chain(&self.body).any(|value| value.any(wanted))
            || self.tags.iter().any(|tag| tag.value.any(wanted))
    }
}

impl Value {
    /// Appends an `AnyValue`.
    fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(template) => text(out, |out| {
                template.append(entry, out);
            }),
            Self::List(values) => list(out, |out| {
                for value in values {
                    element(out, |out| value.append(entry, out));
                }
            }),
            Self::Map(members) => map(out, |out| {
                for (key, value) in members {
                    member(out, key, |out| value.append(entry, out));
                }
            }),
        }
    }

    fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        match self {
            Self::Text(template) => template.any(wanted),
            Self::List(values) => values.iter().any(|value| value.any(wanted)),
            Self::Map(members) => members.iter().any(|(_, value)| value.any(wanted)),
        }
    }
}

impl From<CustomTag> for Tag {
    fn from(tag: CustomTag) -> Self {
        let (value, default) = match tag.value {
            CustomTagValue::Literal(text) => (Operator::Fixed(text).into(), None),
            CustomTagValue::RequestHeader { name, default } => {
                let header = Header {
                    name: FieldName::from(name.as_str()),
                    otherwise: None,
                    most: None,
                };
                (Operator::Request(header).into(), default)
            }
            CustomTagValue::Metadata {
                filter,
                path,
                default,
            } => {
                let most = None;
                let metadata = Rare::Metadata { filter, path, most };
                (Operator::Rare(metadata).into(), default)
            }
            CustomTagValue::Format(format) => (format.0, None),
        };
        Self {
            name: tag.name,
            value,
            default,
        }
    }
}

impl Tag {
    fn append(&self, entry: &Entry<'_>, record: &mut Vec<u8>) {
        let value = self.value.text(entry);
        let default = self.default.as_deref().unwrap_or_default();
        let value = match &*value {
            "" => default,
            value => value,
        };
        if !value.is_empty() {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(value.as_bytes());
            attribute(record, &self.name, |out| text(out, write));
        }
    }
}
