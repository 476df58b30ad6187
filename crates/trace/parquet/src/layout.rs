//! Where each field of a span is among the leaf columns: said once, for the writer and the reader.

use parquet::basic::Type;

/// What a leaf column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
}

impl Kind {
    pub(crate) const fn physical(self) -> Type {
        match self {
            Self::Text | Self::Bytes => Type::BYTE_ARRAY,
            Self::Bool => Type::BOOLEAN,
            Self::Int32 => Type::INT32,
            Self::Int64 => Type::INT64,
            Self::Double => Type::DOUBLE,
        }
    }
}

/// A leaf column.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Made from other columns for the reader's convenience: an import does without.
    pub(crate) derived: bool,
}

impl Leaf {
    /// How many lists are around it.
    pub(crate) fn lists(&self) -> usize {
        let parts = self.path.split('.');
        parts
            .filter(|part| matches!(*part, "list" | "key_value"))
            .count()
    }
}

/// The position of each leaf column in the schema.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) trace_id: usize,
    pub(crate) group_index: usize,
    pub(crate) span_index: usize,
    pub(crate) span_id: usize,
    pub(crate) parent_span_id: usize,
    pub(crate) service_name: usize,
    pub(crate) name: usize,
    pub(crate) kind: usize,
    pub(crate) start_time: usize,
    pub(crate) start_unix_nano: usize,
    pub(crate) end_unix_nano: usize,
    pub(crate) duration_nano: usize,
    pub(crate) status_code: usize,
    pub(crate) status_message: usize,
    pub(crate) http_method: usize,
    pub(crate) http_status_code: usize,
    pub(crate) trace_state: usize,
    pub(crate) flags: usize,
    pub(crate) attributes: AttributesAt,
    pub(crate) dropped_attributes_count: usize,
    pub(crate) resource: ResourceAt,
    pub(crate) scope: ScopeAt,
    pub(crate) events: EventsAt,
    pub(crate) dropped_events_count: usize,
    pub(crate) links: LinksAt,
    pub(crate) dropped_links_count: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributesAt {
    pub(crate) key: usize,
    pub(crate) string: usize,
    pub(crate) bool: usize,
    pub(crate) int: usize,
    pub(crate) double: usize,
    pub(crate) bytes: usize,
    pub(crate) json: usize,
}

impl AttributesAt {
    pub(crate) fn all(self) -> std::ops::RangeInclusive<usize> {
        self.key..=self.json
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceAt {
    pub(crate) attributes: AttributesAt,
    pub(crate) dropped_attributes_count: usize,
    pub(crate) schema_url: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ScopeAt {
    pub(crate) name: usize,
    pub(crate) version: usize,
    pub(crate) attributes: AttributesAt,
    pub(crate) dropped_attributes_count: usize,
    pub(crate) schema_url: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EventsAt {
    pub(crate) time_unix_nano: usize,
    pub(crate) name: usize,
    pub(crate) attributes: AttributesAt,
    pub(crate) dropped_attributes_count: usize,
}

impl EventsAt {
    pub(crate) fn all(self) -> std::ops::RangeInclusive<usize> {
        self.time_unix_nano..=self.dropped_attributes_count
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LinksAt {
    pub(crate) trace_id: usize,
    pub(crate) span_id: usize,
    pub(crate) trace_state: usize,
    pub(crate) flags: usize,
    pub(crate) attributes: AttributesAt,
    pub(crate) dropped_attributes_count: usize,
}

impl LinksAt {
    pub(crate) fn all(self) -> std::ops::RangeInclusive<usize> {
        self.trace_id..=self.dropped_attributes_count
    }
}

impl Layout {
    /// In the order of the schema: the fields of a literal are evaluated as they are written.
    pub(crate) fn new() -> Self {
        let mut at = Builder::default();
        let at = &mut at;
        let mut layout = Self {
            leaves: Vec::new(),
            trace_id: at.leaf("trace_id", Kind::Text),
            group_index: at.leaf("group_index", Kind::Int32),
            span_index: at.leaf("span_index", Kind::Int32),
            span_id: at.leaf("span_id", Kind::Text),
            parent_span_id: at.leaf("parent_span_id", Kind::Text),
            service_name: at.derived("service_name", Kind::Text),
            name: at.leaf("name", Kind::Text),
            kind: at.leaf("kind", Kind::Text),
            start_time: at.derived("start_time", Kind::Int64),
            start_unix_nano: at.leaf("start_unix_nano", Kind::Int64),
            end_unix_nano: at.leaf("end_unix_nano", Kind::Int64),
            duration_nano: at.derived("duration_nano", Kind::Int64),
            status_code: at.leaf("status_code", Kind::Text),
            status_message: at.leaf("status_message", Kind::Text),
            http_method: at.derived("http_method", Kind::Text),
            http_status_code: at.derived("http_status_code", Kind::Int32),
            trace_state: at.leaf("trace_state", Kind::Text),
            flags: at.leaf("flags", Kind::Int32),
            attributes: at.attributes(""),
            dropped_attributes_count: at.leaf("dropped_attributes_count", Kind::Int32),
            resource: ResourceAt {
                attributes: at.attributes("resource."),
                dropped_attributes_count: at.leaf("resource.dropped_attributes_count", Kind::Int32),
                schema_url: at.leaf("resource.schema_url", Kind::Text),
            },
            scope: ScopeAt {
                name: at.leaf("scope.name", Kind::Text),
                version: at.leaf("scope.version", Kind::Text),
                attributes: at.attributes("scope."),
                dropped_attributes_count: at.leaf("scope.dropped_attributes_count", Kind::Int32),
                schema_url: at.leaf("scope.schema_url", Kind::Text),
            },
            events: EventsAt {
                time_unix_nano: at.leaf("events.list.element.time_unix_nano", Kind::Int64),
                name: at.leaf("events.list.element.name", Kind::Text),
                attributes: at.attributes("events.list.element."),
                dropped_attributes_count: at
                    .leaf("events.list.element.dropped_attributes_count", Kind::Int32),
            },
            dropped_events_count: at.leaf("dropped_events_count", Kind::Int32),
            links: LinksAt {
                trace_id: at.leaf("links.list.element.trace_id", Kind::Text),
                span_id: at.leaf("links.list.element.span_id", Kind::Text),
                trace_state: at.leaf("links.list.element.trace_state", Kind::Text),
                flags: at.leaf("links.list.element.flags", Kind::Int32),
                attributes: at.attributes("links.list.element."),
                dropped_attributes_count: at
                    .leaf("links.list.element.dropped_attributes_count", Kind::Int32),
            },
            dropped_links_count: at.leaf("dropped_links_count", Kind::Int32),
        };
        layout.leaves = std::mem::take(&mut at.leaves);
        layout
    }
}

#[derive(Default)]
struct Builder {
    leaves: Vec<Leaf>,
}

impl Builder {
    fn leaf(&mut self, path: &str, kind: Kind) -> usize {
        self.push(path, kind, false)
    }

    fn derived(&mut self, path: &str, kind: Kind) -> usize {
        self.push(path, kind, true)
    }

    fn attributes(&mut self, of: &str) -> AttributesAt {
        let mut value =
            |name: &str, kind| self.leaf(&format!("{of}attributes.key_value.{name}"), kind);
        AttributesAt {
            key: value("key", Kind::Text),
            string: value("value.string_value", Kind::Text),
            bool: value("value.bool_value", Kind::Bool),
            int: value("value.int_value", Kind::Int64),
            double: value("value.double_value", Kind::Double),
            bytes: value("value.bytes_value", Kind::Bytes),
            json: value("value.json_value", Kind::Text),
        }
    }

    fn push(&mut self, path: &str, kind: Kind, derived: bool) -> usize {
        self.leaves.push(Leaf {
            path: path.to_owned(),
            kind,
            derived,
        });
        self.leaves.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use parquet::schema::types::SchemaDescriptor;

    use super::*;
    use crate::schema::parsed;

    #[test]
    fn the_layout_is_that_of_the_schema() {
        let schema = SchemaDescriptor::new(parsed().expect("the schema is well-formed"));
        let of_schema: Vec<_> = schema
            .columns()
            .iter()
            .map(|column| (column.path().string(), column.physical_type()))
            .collect();
        let leaves = Layout::new().leaves;
        let of_layout: Vec<_> = leaves
            .iter()
            .map(|leaf| (leaf.path.clone(), leaf.kind.physical()))
            .collect();
        assert_eq!(of_layout, of_schema);
    }
}
