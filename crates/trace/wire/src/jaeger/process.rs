//! Process → resource.

use periplus_model::{Attribute, Resource, Value};

use super::NO_RESOURCE;
use super::raw::{RawProcess, RawTag, RawValue};
use super::text::Attributes;

const HOSTNAME: &str = "hostname";
const HOST_NAME: &str = "host.name";
const JAEGER_VERSION: &str = "jaeger.version";
const EXPORTER_VERSION: &str = "opencensus.exporterversion";

pub(super) fn to_resource(process: &RawProcess<'_>) -> Resource {
    let tags = &process.tags.list;
    let mut attributes = Attributes::with_capacity(tags.len() + 1);
    if !process.service_name.is_empty() && process.service_name != NO_RESOURCE.as_bytes() {
        attributes.push(&RawTag {
            key: b"service.name",
            value: RawValue::Text(process.service_name),
        });
    }
    tags.iter().for_each(|tag| attributes.push(tag));
    let mut attributes = attributes.list;
    rename(&mut attributes, HOSTNAME, HOST_NAME, |_| {});
    rename(&mut attributes, JAEGER_VERSION, EXPORTER_VERSION, |value| {
        if let Value::String(version) = value {
            version.insert_str(0, "Jaeger-");
        }
    });
    Resource {
        attributes,
        dropped_attributes_count: process.tags.dropped,
        ..Resource::default()
    }
}

/// Renames an attribute, unless the new name is taken.
fn rename(attributes: &mut [Attribute], from: &str, to: &str, mend: impl FnOnce(&mut Value)) {
    if attributes.iter().any(|attribute| attribute.key == to) {
        return;
    }
    if let Some(attribute) = attributes.iter_mut().find(|it| it.key == from) {
        to.clone_into(&mut attribute.key);
        mend(&mut attribute.value);
    }
}
