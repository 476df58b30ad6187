//! Equality to the last bit: unlike `==`, a NaN is itself, and -0.0 is not 0.0.

use periplus_model::{Attribute, Resource, Scope, Value};

pub(crate) fn resources(a: &Resource, b: &Resource) -> bool {
    a.dropped_attributes_count == b.dropped_attributes_count
        && a.schema_url == b.schema_url
        && attributes(&a.attributes, &b.attributes)
}

pub(crate) fn scopes(a: &Scope, b: &Scope) -> bool {
    (&a.name, &a.version) == (&b.name, &b.version)
        && a.dropped_attributes_count == b.dropped_attributes_count
        && a.schema_url == b.schema_url
        && attributes(&a.attributes, &b.attributes)
}

fn attributes(a: &[Attribute], b: &[Attribute]) -> bool {
    let mut pairs = a.iter().zip(b);
    a.len() == b.len() && pairs.all(|(a, b)| a.key == b.key && values(&a.value, &b.value))
}

fn values(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| values(a, b))
        }
        (Value::Map(a), Value::Map(b)) => attributes(a, b),
        _ => a == b,
    }
}
