//! Spans as rows for the peers, decoded before anything is measured: ClickHouse's RowBinary, out of
//! which every peer's own input is made.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::bail;
use periplus_model::{Attribute, Resource, Span, Value};

/// The columns of a span.
pub(super) const SPAN: &str = "trace_id FixedString(16), span_id UInt64, parent_span_id UInt64, \
    trace_state String, flags UInt32, name String, kind UInt8, start UInt64, duration UInt64, \
    status UInt8, status_message String, resource UInt32, scope_name String, scope_version String, \
    a_str Map(String, String), a_int Map(String, Int64), a_dbl Map(String, Float64), \
    a_bool Map(String, Bool), events Array(Tuple(UInt64, String, Map(String, String))), \
    links Array(Tuple(FixedString(16), FixedString(8), String, Map(String, String)))";

/// The columns of a resource.
pub(super) const RESOURCE: &str =
    "id UInt32, service String, r_str Map(String, String), r_int Map(String, Int64)";

/// The keys of attributes, by the column that they are in.
pub(super) type Keys = BTreeMap<&'static str, BTreeSet<String>>;

/// Writes a span as one row.
pub(super) fn span(
    out: &mut Vec<u8>,
    span: &Span,
    resource: u32,
    scope: (&str, &str),
    keys: &mut Keys,
) -> anyhow::Result<()> {
    out.extend(span.trace_id.to_bytes());
    out.extend(span.span_id.as_u64().to_le_bytes());
    let parent = span.parent_span_id.map_or(0, |id| id.as_u64());
    out.extend(parent.to_le_bytes());
    text(out, &span.trace_state);
    out.extend(span.flags.to_le_bytes());
    text(out, &span.name);
    out.push(span.kind as u8);
    out.extend(span.start_unix_nano.to_le_bytes());
    out.extend(span.duration_nano().to_le_bytes());
    out.push(span.status.code as u8);
    text(out, &span.status.message);
    out.extend(resource.to_le_bytes());
    text(out, scope.0);
    text(out, scope.1);
    let attributes = Attributes::of(&span.attributes)?;
    attributes.write(out);
    attributes.note(keys);
    number(out, span.events.len());
    for event in &span.events {
        out.extend(event.time_unix_nano.to_le_bytes());
        text(out, &event.name);
        strings(out, &event.attributes)?;
    }
    number(out, span.links.len());
    for link in &span.links {
        out.extend(link.trace_id.to_bytes());
        out.extend(link.span_id.to_bytes());
        text(out, &link.trace_state);
        strings(out, &link.attributes)?;
    }
    Ok(())
}

/// Writes a resource as one row.
pub(super) fn resource(out: &mut Vec<u8>, id: u32, resource: &Resource) -> anyhow::Result<()> {
    out.extend(id.to_le_bytes());
    text(out, resource.service_name());
    let attributes = Attributes::of(&resource.attributes)?;
    if !attributes.doubles.is_empty() || !attributes.bools.is_empty() {
        bail!("the rows have no place for doubles and booleans of a resource");
    }
    attributes.write_texts(out);
    attributes.write_ints(out);
    Ok(())
}

/// Attributes by the type of their value.
#[derive(Default)]
struct Attributes<'a> {
    texts: Vec<(&'a str, &'a str)>,
    ints: Vec<(&'a str, i64)>,
    doubles: Vec<(&'a str, f64)>,
    bools: Vec<(&'a str, bool)>,
}

impl<'a> Attributes<'a> {
    fn of(attributes: &'a [Attribute]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for Attribute { key, value } in attributes {
            match value {
                Value::String(value) => all.texts.push((key, value)),
                Value::Int(value) => all.ints.push((key, *value)),
                Value::Double(value) => all.doubles.push((key, *value)),
                Value::Bool(value) => all.bools.push((key, *value)),
                other => bail!("the rows have no place for {key} = {other:?}"),
            }
        }
        Ok(all)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write_texts(out);
        self.write_ints(out);
        number(out, self.doubles.len());
        for (key, value) in &self.doubles {
            text(out, key);
            out.extend(value.to_le_bytes());
        }
        number(out, self.bools.len());
        for (key, value) in &self.bools {
            text(out, key);
            out.push(u8::from(*value));
        }
    }

    fn write_texts(&self, out: &mut Vec<u8>) {
        number(out, self.texts.len());
        for (key, value) in &self.texts {
            text(out, key);
            text(out, value);
        }
    }

    fn write_ints(&self, out: &mut Vec<u8>) {
        number(out, self.ints.len());
        for (key, value) in &self.ints {
            text(out, key);
            out.extend(value.to_le_bytes());
        }
    }

    fn note(&self, keys: &mut Keys) {
        fn add<T>(keys: &mut Keys, column: &'static str, attributes: &[(&str, T)]) {
            let known = keys.entry(column).or_default();
            for (key, _) in attributes {
                if !known.contains(*key) {
                    known.insert((*key).to_owned());
                }
            }
        }
        add(keys, "a_str", &self.texts);
        add(keys, "a_int", &self.ints);
        add(keys, "a_dbl", &self.doubles);
        add(keys, "a_bool", &self.bools);
    }
}

fn strings(out: &mut Vec<u8>, attributes: &[Attribute]) -> anyhow::Result<()> {
    number(out, attributes.len());
    for Attribute { key, value } in attributes {
        let Some(value) = value.as_str() else {
            bail!("the rows have no place for {key} = {value:?} of an event or a link");
        };
        text(out, key);
        text(out, value);
    }
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len());
    out.extend(text.as_bytes());
}

/// LEB128. Writing to a vector cannot fail.
fn number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        let _ = out.write(&[value as u8 | 0x80]);
        value >>= 7;
    }
    out.push(value as u8);
}
