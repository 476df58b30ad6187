//! Values, attribute lists, resources and scopes as bytes: equal values have equal bytes, and only
//! they.

use periplus_model::{Attribute, Resource, Scope, Value};

use crate::bytes::{Cursor, put_bytes, put_varint, unzigzag, zigzag};
use crate::limits::MAX_DEPTH;

const EMPTY: u8 = 0;
const TEXT: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const DOUBLE: u8 = 5;
const BYTES: u8 = 6;
const ARRAY: u8 = 7;
const MAP: u8 = 8;

/// Appends a value. `None`: it lies in too many arrays and maps.
pub(crate) fn put_value(out: &mut Vec<u8>, value: &Value) -> Option<()> {
    put_nested(out, value, MAX_DEPTH)
}

/// Appends an attribute list.
pub(crate) fn put_attributes(out: &mut Vec<u8>, attributes: &[Attribute]) -> Option<()> {
    put_entries(out, attributes, MAX_DEPTH)
}

/// Appends a resource.
pub(crate) fn put_resource(out: &mut Vec<u8>, resource: &Resource) -> Option<()> {
    put_bytes(out, resource.schema_url.as_bytes());
    put_varint(out, u64::from(resource.dropped_attributes_count));
    put_attributes(out, &resource.attributes)
}

/// Appends a scope.
pub(crate) fn put_scope(out: &mut Vec<u8>, scope: &Scope) -> Option<()> {
    put_bytes(out, scope.name.as_bytes());
    put_bytes(out, scope.version.as_bytes());
    put_bytes(out, scope.schema_url.as_bytes());
    put_varint(out, u64::from(scope.dropped_attributes_count));
    put_attributes(out, &scope.attributes)
}

fn put_nested(out: &mut Vec<u8>, value: &Value, room: usize) -> Option<()> {
    match value {
        Value::Empty => out.push(EMPTY),
        Value::String(text) => {
            out.push(TEXT);
            put_bytes(out, text.as_bytes());
        }
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Int(value) => {
            out.push(INT);
            put_varint(out, zigzag(*value));
        }
        Value::Double(value) => {
            out.push(DOUBLE);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(BYTES);
            put_bytes(out, bytes);
        }
        Value::Array(values) => {
            let room = room.checked_sub(1)?;
            out.push(ARRAY);
            put_varint(out, values.len() as u64);
            for value in values {
                put_nested(out, value, room)?;
            }
        }
        Value::Map(entries) => {
            out.push(MAP);
            put_entries(out, entries, room.checked_sub(1)?)?;
        }
    }
    Some(())
}

fn put_entries(out: &mut Vec<u8>, entries: &[Attribute], room: usize) -> Option<()> {
    put_varint(out, entries.len() as u64);
    for entry in entries {
        put_bytes(out, entry.key.as_bytes());
        put_nested(out, &entry.value, room)?;
    }
    Some(())
}

/// Reads a value, and nothing behind it.
pub(crate) fn read_value(bytes: &[u8]) -> Option<Value> {
    whole(bytes, |cursor| nested(cursor, MAX_DEPTH))
}

/// Reads an attribute list, and nothing behind it.
pub(crate) fn read_attributes(bytes: &[u8]) -> Option<Vec<Attribute>> {
    whole(bytes, |cursor| entries(cursor, MAX_DEPTH))
}

/// Reads a resource, and nothing behind it.
pub(crate) fn read_resource(bytes: &[u8]) -> Option<Resource> {
    whole(bytes, |cursor| {
        Some(Resource {
            schema_url: cursor.str()?.to_owned(),
            dropped_attributes_count: cursor.u32()?,
            attributes: entries(cursor, MAX_DEPTH)?,
        })
    })
}

/// Reads a scope, and nothing behind it.
pub(crate) fn read_scope(bytes: &[u8]) -> Option<Scope> {
    whole(bytes, |cursor| {
        Some(Scope {
            name: cursor.str()?.to_owned(),
            version: cursor.str()?.to_owned(),
            schema_url: cursor.str()?.to_owned(),
            dropped_attributes_count: cursor.u32()?,
            attributes: entries(cursor, MAX_DEPTH)?,
        })
    })
}

fn whole<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Cursor<'a>) -> Option<T>) -> Option<T> {
    let mut cursor = Cursor(bytes);
    let value = read(&mut cursor)?;
    cursor.is_empty().then_some(value)
}

fn nested(cursor: &mut Cursor<'_>, room: usize) -> Option<Value> {
    Some(match cursor.byte()? {
        EMPTY => Value::Empty,
        TEXT => Value::String(cursor.str()?.to_owned()),
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT => Value::Int(unzigzag(cursor.varint()?)),
        DOUBLE => Value::Double(f64::from_bits(u64::from_le_bytes(cursor.array()?))),
        BYTES => Value::Bytes(cursor.bytes()?.to_vec()),
        ARRAY => {
            let room = room.checked_sub(1)?;
            let count = cursor.count()?;
            let values = (0..count).map(|_| nested(cursor, room));
            Value::Array(values.collect::<Option<_>>()?)
        }
        MAP => Value::Map(entries(cursor, room.checked_sub(1)?)?),
        _ => return None,
    })
}

fn entries(cursor: &mut Cursor<'_>, room: usize) -> Option<Vec<Attribute>> {
    let count = cursor.count()?;
    (0..count)
        .map(|_| {
            Some(Attribute {
                key: cursor.str()?.to_owned(),
                value: nested(cursor, room)?,
            })
        })
        .collect()
}
