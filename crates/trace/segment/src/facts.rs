//! What rates and calls want to know of a builder's spans.

use periplus_model::{Resource, Value};

use crate::build::Builder;
use crate::build::spans::HAS_PARENT;
use crate::schema::Type;

/// Answers without making spans of rows.
pub(crate) struct Facts<'b> {
    builder: &'b Builder,
    /// The services by name, and for each resource which one it is.
    services: Vec<&'b str>,
    service_of: Vec<u32>,
    /// For each shape whether it may say that the span failed, and whether it may name a peer.
    may_fail: Vec<bool>,
    may_name_peer: Vec<bool>,
}

/// A span's kind.
#[derive(Clone, Copy)]
pub(crate) struct Kind(u8);

impl Kind {
    /// A client or a producer.
    pub(crate) const fn sends(self) -> bool {
        matches!(self.0, 3 | 4)
    }

    /// A server or a consumer.
    pub(crate) const fn receives(self) -> bool {
        matches!(self.0, 2 | 5)
    }
}

const PEER_KEYS: [&str; 2] = ["service.peer.name", "peer.service"];

/// The keys of all attributes that say something here.
pub(crate) const TOLD_BY: [&str; 3] = ["error", PEER_KEYS[0], PEER_KEYS[1]];

impl<'b> Facts<'b> {
    pub(crate) fn new(builder: &'b Builder) -> Self {
        let table = &builder.attributes;
        let has = |keys: &[&str]| -> Vec<bool> {
            let wanted = |column: u32| {
                let column = &table.columns[column as usize];
                let key = table.keys.text(column.key);
                column.ty == Type::Residual || keys.contains(&key)
            };
            let shapes = table.shapes.iter();
            shapes
                .map(|shape| shape.entries.iter().any(|entry| wanted(entry.column)))
                .collect()
        };
        let resources = builder.resources.decoded.iter();
        let names: Vec<&str> = resources
            .map(|resource| Resource::service_name(resource))
            .collect();
        let mut services = names.clone();
        services.sort_unstable();
        services.dedup();
        let number = |name: &&str| services.partition_point(|service| service < name) as u32;
        Self {
            builder,
            service_of: names.iter().map(number).collect(),
            services,
            may_fail: has(&["error"]),
            may_name_peer: has(&PEER_KEYS),
        }
    }

    /// The number of its service: in the order of the names.
    #[inline]
    pub(crate) fn service(&self, row: u32) -> u32 {
        self.service_of[self.builder.spans.resource[row as usize] as usize]
    }

    /// The name of a service; empty for resources that have none.
    #[inline]
    pub(crate) fn service_name(&self, service: u32) -> &'b str {
        self.services[service as usize]
    }

    /// The number of the service that has this name, if one has.
    pub(crate) fn service_named(&self, name: &str) -> Option<u32> {
        self.services.binary_search(&name).ok().map(|at| at as u32)
    }

    /// How many services there are.
    pub(crate) fn service_count(&self) -> u32 {
        self.services.len() as u32
    }

    pub(crate) fn kind(&self, row: u32) -> Kind {
        Kind(self.builder.spans.kind_status[row as usize] & 0xf)
    }

    /// Whether it failed, as `periplus_insight::is_error` has it: by its status or the attribute
    /// `error`.
    pub(crate) fn failed(&self, row: u32) -> bool {
        if self.builder.spans.kind_status[row as usize] & !HAS_PARENT >= 2 << 4 {
            return true;
        }
        self.may_fail[self.shape(row)]
            && match self.first(row, "error") {
                Some(Found::Value(Value::Bool(failed))) => failed,
                Some(Found::Text(text)) => text == "true",
                Some(Found::Value(Value::String(text))) => text == "true",
                _ => false,
            }
    }

    /// Whom it names as the other side of its call.
    pub(crate) fn peer(&self, row: u32) -> Option<&'b str> {
        if !self.may_name_peer[self.shape(row)] {
            return None;
        }
        let texts = PEER_KEYS
            .into_iter()
            .find_map(|key| match self.first(row, key) {
                Some(Found::Text(text)) => Some(text),
                _ => None,
            });
        texts.filter(|name| !name.is_empty())
    }

    fn shape(&self, row: u32) -> usize {
        self.builder.attributes.shape[row as usize] as usize
    }

    /// The first attribute with this key.
    fn first(&self, row: u32, key: &str) -> Option<Found<'b>> {
        let table = &self.builder.attributes;
        for (column, slot) in table.cells(row) {
            let column = &table.columns[column as usize];
            if column.ty == Type::Residual {
                let found = column.list(slot).into_iter().find(|it| it.key == key);
                if let Some(attribute) = found {
                    return Some(Found::Value(attribute.value));
                }
            } else if table.keys.text(column.key) == key {
                return Some(match column.text(slot) {
                    Some(text) => Found::Text(text),
                    None => Found::Value(column.value(slot)),
                });
            }
        }
        None
    }
}

/// A value; a text that has a column is borrowed.
enum Found<'b> {
    Text(&'b str),
    Value(Value),
}
